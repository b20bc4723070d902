"""What a worker gets that connects: its START, which says how it is to work, and its bundle."""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

from openlaunch.artifacts.base import Artifacts
from openlaunch.artifacts.locations import key_of
from openlaunch.errors import Unavailable
from openlaunch.server.dispatch.links import Expected
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.prediction.schemas import document_of
from openlaunch.server.settings import WorkerSettings
from openlaunch.store.records import BundleRecord, EndpointRecord
from openlaunch.wire.bundles import DERIVED, ImageFlavor
from openlaunch.wire.endpoints import EndpointType
from openlaunch_worker.batching import BatchRule
from openlaunch_worker.documents import Limits, Start

log = logging.getLogger(__name__)

READ_AGAIN_SECONDS = 1.0


class Starts:
    """Makes what workers are sent, of an endpoint's settings and a bundle."""

    def __init__(self, settings: WorkerSettings, artifacts: Artifacts, schemas: SchemaCache) -> None:
        self._settings = settings
        self._artifacts = artifacts
        self._schemas = schemas

    def expected(
        self,
        worker_id: str,
        endpoint: EndpointRecord,
        bundle: BundleRecord,
        generation: int,
        secrets: Mapping[str, str],
    ) -> Expected:
        """Return what the worker with this id is to get."""
        self._schemas.keep(bundle)
        return Expected(
            worker_id,
            self._start(endpoint, bundle, generation, secrets),
            lambda: self._bundle_bytes(bundle),
            self._settings.interrupt_grace_seconds,
            generation,
            endpoint.spec_of(generation).max_requests_per_worker or 0,
        )

    def terms(
        self, endpoint: EndpointRecord, bundle: BundleRecord, generation: int, secrets: Mapping[str, str]
    ) -> str:
        """Return a digest of what a worker is sent at its start."""
        start = json.dumps(self._start(endpoint, bundle, generation, secrets).to_json(), sort_keys=True)
        return hashlib.sha256(start.encode()).hexdigest()

    def _start(
        self, endpoint: EndpointRecord, bundle: BundleRecord, generation: int, secrets: Mapping[str, str]
    ) -> Start:
        spec = endpoint.spec_of(generation)
        limits = Limits(
            spec.slots,
            self._settings.max_result_bytes,
            self._settings.max_body_bytes,
            self._settings.url_timeout_seconds,
            self._settings.private_addresses,
            None if (batching := spec.batching) is None else BatchRule(batching.max_size, batching.max_wait),
            _defaults_of(bundle),
            **spec.hook_seconds,
        )
        flavor, variables = bundle.flavor.model_dump(mode="json"), {**(spec.env or {}), **secrets}
        if "env" in flavor:  # what the bundle's own server is started with
            flavor["env"] = {**(flavor["env"] or {}), **variables}
        return Start(flavor, limits, endpoint.endpoint_type is EndpointType.STREAMING, variables)

    def _bundle_bytes(self, bundle: BundleRecord) -> AsyncIterator[bytes]:
        location = "" if isinstance(bundle.flavor, ImageFlavor) else bundle.flavor.location
        return _read(self._artifacts, key_of(location)) if location else _nothing()


def _defaults_of(bundle: BundleRecord) -> dict[str, Any] | None:
    """Return the schema from which a worker fills in defaults; where it comes from a function, that has them."""
    document = document_of(bundle.schemas, "RequestSchema")
    return None if document is None or DERIVED in bundle.schemas["RequestSchema"] else document


async def _read(artifacts: Artifacts, key: str) -> AsyncIterator[bytes]:
    """Yield the bytes of a bundle; a service that is away is asked again, for as long as the worker waits."""
    begun = False
    while True:
        try:
            async for piece in artifacts.stream(key):
                begun = True
                yield piece
            return
        except Unavailable as error:
            if begun or not artifacts.is_service:
                raise
            log.warning("a worker waits for its bundle: %s", error)
            await asyncio.sleep(READ_AGAIN_SECONDS)


async def _nothing() -> AsyncIterator[bytes]:
    """Yield the bytes of a command without files."""
    yield b""

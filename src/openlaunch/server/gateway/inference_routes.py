"""The Open Inference Protocol over HTTP: an endpoint whose function takes arrays is a model.

Its tensors are in the JSON of a request, or as bytes behind it, and are passed on as they came.
"""

import re
from collections.abc import Collection
from importlib.metadata import version
from typing import NamedTuple
from urllib.parse import unquote

from openlaunch.errors import BadRequest, NotFound
from openlaunch.server.asgi import Scope, header
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.inference_exchange import InferenceExchange
from openlaunch.server.gateway.inflating import Inflater
from openlaunch.server.gateway.local_requests import STREAMED
from openlaunch.server.gateway.request_tasks import RequestTasks, counted
from openlaunch.server.gateway.resolver import EndpointResolver, find_by_name
from openlaunch.server.gateway.sync_routes import SyncRoutes
from openlaunch.server.operations.health import Health
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.prediction.signatures import Signature
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointStatus, EndpointType
from openlaunch.wire.health import CheckStatus
from openlaunch.wire.inference import ModelMetadata
from openlaunch_worker.frames import Flags
from openlaunch_worker.tensors import HEADER

_HEADER = HEADER.encode()
_INFER, _READY = b"/infer", b"/ready"
_ROOT = routes.INFERENCE.encode()
_LIVE, _HEALTHY = _ROOT + b"/health/live", _ROOT + b"/health/ready"
_MODEL = re.compile(_ROOT + rb"/models/([^/]+)(?:/([^/]+))??(?:/versions/([^/]+))?(/ready|/infer)?")
_UNAVAILABLE = 503


class Named(NamedTuple):
    """The model that a path names."""

    owner: str | None
    name: str
    version: str | None

    @classmethod
    def of(cls, found: re.Match[bytes]) -> "Named":
        """Read a path; the owner may also be in one segment with the name, as clients encode it."""
        first, second, wanted = (
            None if part is None else unquote(part.decode()) for part in found.groups()[:3]
        )
        parts = f"{first}/{second}" if second is not None else str(first)
        owner, slash, name = parts.partition("/")
        return cls(owner, name, wanted) if slash else cls(None, owner, wanted)

    @property
    def model(self) -> str:
        """What the caller names the model."""
        return self.name if self.owner is None else f"{self.owner}/{self.name}"


class InferenceRoutes:
    """Handles the protocol's routes, for `HttpProtocol`."""

    exchange: type[Exchange] = InferenceExchange
    posted: Collection[bytes] = ()

    def __init__(
        self, resolver: EndpointResolver, lanes: Lanes, schemas: SchemaCache, sync: SyncRoutes, health: Health
    ) -> None:
        self._resolver = resolver
        self._lanes = lanes
        self._schemas = schemas
        self._sync = sync
        self._health = health
        self._tasks = RequestTasks()
        self._inflater = Inflater()

    def takes(self, method: bytes, path: bytes) -> bool:
        """Return whether a request is one of the protocol's."""
        if (found := _MODEL.fullmatch(path)) is not None:
            return method == (b"POST" if found[4] == _INFER else b"GET")
        return method == b"GET" and path in (_ROOT, _LIVE, _HEALTHY)

    def handle(self, exchange: Exchange) -> None:
        """Begin with a request whose body is there."""
        assert isinstance(exchange, InferenceExchange)
        path = exchange.scope["raw_path"]
        if (found := _MODEL.fullmatch(path)) is None:
            answer = self._of_server(exchange, path)
        else:
            named = Named.of(found)
            if found[4] == _INFER:
                lane, caller = self._resolver.resolve_name(exchange.scope, named.owner, named.name)
                answer = counted(lane, self._infer(exchange, lane, caller.owner, named))
            else:
                caller = self._resolver.authenticate(exchange.scope)
                lane = find_by_name(self._lanes, caller.owner, named.owner, named.name)
                answer = self._describe(exchange, lane, named, only_ready=found[4] == _READY)
        exchange.on_gone = self._tasks.spawn(answer, exchange).cancel

    async def _of_server(self, exchange: InferenceExchange, path: bytes) -> None:
        if path == _LIVE:
            exchange.respond_document(200, {}, {"live": True})
        elif path == _HEALTHY:
            ready = (await self._health.report()).status is not CheckStatus.FAILED
            exchange.respond_document(200 if ready else _UNAVAILABLE, {}, {"ready": ready})
        else:
            self._resolver.authenticate(exchange.scope)
            about = {
                "name": "openlaunch",
                "version": version("openlaunch"),
                "extensions": ["binary_tensor_data"],
            }
            exchange.respond_document(200, {}, about)

    async def _describe(
        self, exchange: InferenceExchange, lane: Lane, named: Named, *, only_ready: bool
    ) -> None:
        signature = await self._signature(lane, named)
        if only_ready:
            ready = lane.workers > 0 or lane.endpoint.status is EndpointStatus.READY
            exchange.respond_document(
                200 if ready else _UNAVAILABLE, {}, {"name": named.model, "ready": ready}
            )
            return
        described = ModelMetadata(
            name=named.model,
            versions=[lane.endpoint.serving_bundle_id],
            platform="openlaunch",
            inputs=[tensor.metadata for tensor in signature.inputs.values()],
            outputs=[tensor.metadata for tensor in signature.outputs],
        )
        exchange.respond_document(200, {}, described.model_dump())

    async def _signature(self, lane: Lane, named: Named) -> Signature:
        """Return the tensors of an endpoint.

        Raises:
            NotFound: it serves another version.
            BadRequest: its function takes no tensors.
        """
        endpoint = lane.endpoint
        serving = endpoint.serving_bundle_id
        if named.version not in (None, serving):
            raise NotFound(
                f"{named.model!r} has no version {named.version[:100]!r}, its version is its bundle's id: {serving}",
                code="version_not_found",
            )
        signature = (await self._schemas.get(serving)).signature
        if signature is None:
            raise BadRequest(
                f"the function of {named.model!r} takes no tensors: annotate a parameter with numpy.ndarray or "
                f"torch.Tensor, or send the request to POST {routes.BY_NAME}/{named.model}",
                code="no_tensors",
            )
        return signature

    async def _infer(self, exchange: InferenceExchange, lane: Lane, owner: str, named: Named) -> None:
        signature = await self._signature(lane, named)
        streams = lane.endpoint.endpoint_type is EndpointType.STREAMING
        if streams and STREAMED not in exchange.scope:
            raise BadRequest(
                f"the endpoint {named.model!r} is streaming: ask for its tensors by ModelStreamInfer, over gRPC",
                code="wrong_endpoint_type",
            )
        await self._inflater.inflate(exchange, owner)
        size = _head_size(exchange.scope, len(exchange.body))
        head = {"model_name": named.model, "model_version": lane.endpoint.serving_bundle_id}
        checks = self._schemas.checks
        asked = await checks.inference(owner, exchange.body, size, signature, head, exchange.limit)
        if asked.body is not None:
            exchange.inflated(asked.body)
        flags = Flags.NONE if streams else Flags.BINARY
        await self._sync.predict_args(exchange, lane, owner, asked.form, flags, asked.timeout)


def _head_size(scope: Scope, size: int) -> int:
    """Return how many bytes of a body are JSON."""
    given = header(scope, _HEADER)
    if given is None:
        return size
    if not given.isdigit() or len(given) > len(str(size)) or int(given) > size:
        shown = given[:30].decode("latin-1")
        text = (
            f"the header {HEADER.title()} is {shown!r}: a number up to the body's length, {size}, is needed"
        )
        raise BadRequest(text, code="invalid_tensor")
    return int(given)

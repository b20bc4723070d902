"""The schemas of bundles, and the checks of inputs and results."""

from collections import OrderedDict

from openlaunch.server.prediction.checks import Checks
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.store import bundles as bundle_store
from openlaunch.store.base import Store
from openlaunch.store.records import BundleRecord
from openlaunch.wire.bundles import openai_face

CACHE_SIZE = 1000
CACHE_BYTES = 16 * 1024 * 1024
"""Limit on the JSON of all schemas that are kept; compiled, they take some ten times as much."""


class SchemaCache:
    """The schemas by bundle id, and `checks`; bundles never change, so an entry never goes stale."""

    def __init__(self, store: Store) -> None:
        self.checks = Checks()
        self._store = store
        self._entries: OrderedDict[str, BundleSchemas] = OrderedDict()
        self._bytes = 0

    def cached(self, bundle_id: str) -> BundleSchemas | None:
        """Return the schemas if they are in memory: the hot path's look, without waiting."""
        return self._entries.get(bundle_id)

    async def get(self, bundle_id: str) -> BundleSchemas:
        """Return the schemas, read from the store if they are not in memory."""
        entry = self._entries.get(bundle_id)
        if entry is None:
            record = await self._store.read(lambda conn: bundle_store.get(conn, bundle_id))
            entry = BundleSchemas({}) if record is None else self.keep(record)
        return entry

    def keep(self, bundle: BundleRecord) -> BundleSchemas:
        """Have a bundle's schemas in memory before the first request, which may come while the store is away."""
        if (entry := self._entries.get(bundle.id)) is not None:
            return entry
        entry = BundleSchemas(bundle.schemas, openai=openai_face(bundle.flavor))
        entry.takes_context = getattr(bundle.flavor, "takes_context", False)
        self._entries[bundle.id] = entry
        self._bytes += len(entry.source)
        while len(self._entries) > CACHE_SIZE or (self._bytes > CACHE_BYTES and len(self._entries) > 1):
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= len(dropped.source)
        return entry

"""The schemas of bundles, and the checks of inputs and results."""

from collections import OrderedDict

from openlaunch.server.prediction.checks import Checks
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.store import bundles as bundle_store
from openlaunch.store.base import Store

CACHE_SIZE = 1000


class SchemaCache:
    """The schemas by bundle id, and `checks`; bundles never change, so an entry never goes stale."""

    def __init__(self, store: Store) -> None:
        self.checks = Checks()
        self._store = store
        self._entries: OrderedDict[str, BundleSchemas] = OrderedDict()

    def cached(self, bundle_id: str) -> BundleSchemas | None:
        """Return the schemas if they are in memory: the hot path's look, without waiting."""
        return self._entries.get(bundle_id)

    async def get(self, bundle_id: str) -> BundleSchemas:
        """Return the schemas, read from the store if they are not in memory."""
        entry = self._entries.get(bundle_id)
        if entry is None:
            record = await self._store.read(lambda conn: bundle_store.get(conn, bundle_id))
            entry = self._entries[bundle_id] = BundleSchemas(record.schemas if record else {})
            if len(self._entries) > CACHE_SIZE:
                self._entries.popitem(last=False)
        return entry

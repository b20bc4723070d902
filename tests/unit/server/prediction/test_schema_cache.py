"""The schemas that are kept: within a limit of entries and of bytes."""

import asyncio
from types import SimpleNamespace

from openlaunch.server.prediction import schema_cache
from openlaunch.server.prediction.schema_cache import SchemaCache


class Bundles:
    """A store in which each bundle has a schema with a description of a thousand characters."""

    async def read(self, query):
        schemas = {"RequestSchema": {"type": "object", "description": "x" * 1000}}
        return SimpleNamespace(id=query(None), schemas=schemas, flavor=None)


def test_schemas_are_kept_within_a_limit_of_bytes(monkeypatch):
    monkeypatch.setattr(schema_cache, "CACHE_BYTES", 10_000)
    monkeypatch.setattr(schema_cache.bundle_store, "get", lambda conn, bundle_id: bundle_id)

    async def main():
        cache = SchemaCache(Bundles())
        await asyncio.gather(*(cache.get("bundle-0") for _ in range(20)))
        for number in range(100):
            await cache.get(f"bundle-{number}")
        kept = [name for number in range(100) if cache.cached(name := f"bundle-{number}") is not None]
        assert kept[-1] == "bundle-99"
        assert 5 < len(kept) < 10

    asyncio.run(main())

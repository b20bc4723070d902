"""A worker's bundle is read again from a service that was away."""

import asyncio

import pytest
from obstore.store import MemoryStore

from openlaunch.artifacts.objects import ObjectArtifacts
from openlaunch.errors import Unavailable
from openlaunch.server.dispatch import starts
from openlaunch.server.dispatch.starts import _read


class Away(ObjectArtifacts):
    """Is away for the first two reads."""

    left = 2

    async def stream(self, key, piece=1 << 20):
        self.left -= 1
        if self.left >= 0:
            raise Unavailable("away")
        async for chunk in super().stream(key, piece):
            yield chunk


async def read(artifacts):
    await artifacts.put("bundles/a", b"bytes")
    return b"".join([piece async for piece in _read(artifacts, "bundles/a")])


def test_a_bundle_waits_for_its_service(monkeypatch):
    monkeypatch.setattr(starts, "READ_AGAIN_SECONDS", 0)
    artifacts = Away(MemoryStore())
    artifacts.is_service = True
    assert asyncio.run(read(artifacts)) == b"bytes"


def test_a_bundle_in_a_folder_that_can_not_be_read_is_an_error():
    with pytest.raises(Unavailable):
        asyncio.run(read(Away(MemoryStore())))

"""What owners have uploaded, and how much more each of them may upload."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from openlaunch.artifacts.base import Artifacts
from openlaunch.artifacts.locations import UPLOADS, upload_folder
from openlaunch.server.access.quotas import Quotas
from openlaunch.store import quotas as quota_store
from openlaunch.store.base import Store

Counted = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Passes an upload's pieces on, and raises Forbidden at the first that is too much."""


@dataclass(slots=True)
class _Owner:
    """An owner whose uploads are under way: what is stored with them, once that was counted."""

    stored: int = 0
    uploads: int = 0
    counted: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Uploads:
    """Counts what owners with a quota of stored bytes upload, over all uploads that are under way at once."""

    def __init__(self, quotas: Quotas, store: Store, artifacts: Artifacts) -> None:
        self._quotas = quotas
        self._store = store
        self._artifacts = artifacts
        self._owners: dict[str, _Owner] = {}

    def is_unlimited(self, owner: str) -> bool:
        """Return whether the owner's uploads need not be counted."""
        return "stored_bytes" not in self._quotas.of(owner)

    async def stored_by(self, owner: str) -> int:
        """Return the bytes of the owner's bundles, files and inputs of batch jobs, also those that nothing names."""
        total = await self._store.read(lambda conn: quota_store.bytes_of_files(conn, owner), owner)
        for kind in UPLOADS:
            async for page in self._artifacts.pages(upload_folder(kind, owner)):
                total += sum(artifact.size for artifact in page)
        return total

    @asynccontextmanager
    async def upload(self, owner: str, announced: int = 0) -> AsyncIterator[Counted]:
        """Give what counts the pieces of an upload; one that fails leaves nothing counted.

        Raises Forbidden where the announced bytes are too many already.
        """
        if self.is_unlimited(owner):
            yield lambda pieces: pieces
            return
        of_owner = self._owners.setdefault(owner, _Owner())
        of_owner.uploads += 1
        taken = 0

        async def counted(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            nonlocal taken
            async for piece in pieces:
                taken += len(piece)
                of_owner.stored += len(piece)
                self._check(owner, of_owner.stored, taken)
                yield piece

        try:
            async with of_owner.lock:
                if not of_owner.counted:
                    of_owner.stored, of_owner.counted = await self.stored_by(owner), True
            self._check(owner, of_owner.stored + announced, announced)
            yield counted
        except BaseException:
            of_owner.stored -= taken
            raise
        finally:
            of_owner.uploads -= 1
            if not of_owner.uploads:
                del self._owners[owner]

    def _check(self, owner: str, stored: int, taken: int) -> None:
        if taken:
            self._quotas.check(owner, {"stored_bytes": stored}, {})

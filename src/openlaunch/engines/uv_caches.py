"""The caches of uv: a folder for each owner, because the owner's builds write to it."""

import hashlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path

from openlaunch.engines.build_watch import GIB, bytes_of
from openlaunch.engines.sandbox import give
from openlaunch.log_files import private_folder
from openlaunch.trash import discard

MAX_BYTES = 32 * GIB
"""A cache that is larger after a build is emptied."""

UNUSED_SECONDS = 86_400.0
"""How long a cache is kept after its last build, which may be another server's with the same `UV_CACHE_DIR`."""


class UvCaches:
    """Caches below `root`, in which nothing else has their names."""

    def __init__(self, root: Path, max_bytes: int = MAX_BYTES) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._used: Counter[Path] = Counter()

    @asynccontextmanager
    async def of(self, owner: str) -> AsyncIterator[Path]:
        """Give the owner's cache to a build. One that is full afterwards is emptied, unless other builds use it."""
        cache = self._path(owner)
        if not cache.exists():
            private_folder(self._root)
            cache.mkdir(mode=0o700)
            give(cache)
        os.utime(cache)
        self._used[cache] += 1
        try:
            yield cache
        finally:
            try:
                full = await bytes_of(cache) > self._max_bytes
            finally:
                self._used[cache] -= 1
            if full and not self._used[cache]:
                discard(cache)

    def prune(self, owners: Collection[str]) -> None:
        """Remove the caches of all but these owners that no build used for `UNUSED_SECONDS`."""
        recent = time.time() - UNUSED_SECONDS
        kept = {self._path(owner) for owner in owners} | {
            cache for cache, users in self._used.items() if users
        }
        for cache in self._root.glob("owner-*"):
            if cache not in kept and cache.stat().st_mtime < recent:
                discard(cache)

    def _path(self, owner: str) -> Path:
        return self._root / f"owner-{hashlib.sha256(owner.encode()).hexdigest()[:20]}"

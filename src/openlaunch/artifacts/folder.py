"""Artifacts in a folder."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from obstore.store import LocalStore

from openlaunch.artifacts.base import Artifact
from openlaunch.artifacts.objects import PAGE, ObjectArtifacts
from openlaunch.errors import NotFound

_PARTIAL = re.compile(r".+#\d+")
"""The name of a file that obstore has not finished writing."""


class FolderArtifacts(ObjectArtifacts):
    """`artifacts.base.Artifacts` in a folder."""

    def __init__(self, root: Path) -> None:
        super().__init__(LocalStore(root, mkdir=True))
        self._root = root

    async def pages(self, folder: str) -> AsyncIterator[list[Artifact]]:
        found = (
            _artifact(self._root, entry) for entry in _files(self._root / folder) if not _is_partial(entry)
        )
        while page := await asyncio.to_thread(lambda: list(islice(found, PAGE))):
            yield page

    async def delete_partial(self, before: float) -> int:
        return await asyncio.to_thread(_delete_partial, self._root, before)

    async def delete(self, *keys: str) -> None:
        await asyncio.gather(*map(self._delete_one, keys))

    async def _delete_one(self, key: str) -> None:
        with suppress(NotFound):
            await self.size(key)  # a folder that other keys begin with can't be deleted, and is not a key
            await super().delete(key)


def _files(folder: Path) -> "Iterator[os.DirEntry[str]]":
    """Walk the files below a folder; what is deleted meanwhile is left out."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(Path(entry.path))
            else:
                yield entry


def _artifact(root: Path, entry: "os.DirEntry[str]") -> Artifact:
    found = entry.stat(follow_symlinks=False)
    return Artifact(Path(entry.path).relative_to(root).as_posix(), found.st_size, found.st_mtime)


def _is_partial(entry: "os.DirEntry[str]") -> bool:
    return _PARTIAL.fullmatch(entry.name) is not None


def _delete_partial(root: Path, before: float) -> int:
    count = 0
    for entry in _files(root):
        with suppress(FileNotFoundError):
            if _is_partial(entry) and entry.stat(follow_symlinks=False).st_mtime < before:
                Path(entry.path).unlink()
                count += 1
    return count

"""Artifacts in a folder, through obstore, so that S3, GCS and Azure differ by the store that is made only."""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore

from openlaunch.artifacts.base import Artifact
from openlaunch.errors import BadRequest, NotFound, Unavailable

log = logging.getLogger(__name__)

_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_PARTIAL = re.compile(r".+#\d+")
"""The name of a file that obstore has not finished writing."""

PAGE = 500
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT}){{0,9}}")


class FolderArtifacts:
    """`artifacts.base.Artifacts` in a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._store: ObjectStore = LocalStore(root, mkdir=True)

    async def put(self, key: str, data: bytes | AsyncIterator[bytes]) -> int:
        checked = _checked(key)
        if isinstance(data, bytes):
            with _explained(key):
                await self._store.put_async(checked, data)
            return len(data)
        counter = _Counter(data)
        with _explained(key):
            await self._store.put_async(checked, counter)
        return counter.size

    async def get(self, key: str) -> bytes:
        with _explained(key):
            result = await self._store.get_async(_checked(key))
            return bytes(await result.bytes_async())

    async def size(self, key: str) -> int:
        with _explained(key):
            meta = await self._store.head_async(_checked(key))
        return int(meta["size"])

    async def stream(self, key: str, piece: int = 1 << 20) -> AsyncIterator[bytes]:
        with _explained(key):
            result = await self._store.get_async(_checked(key))
            async for chunk in result.stream(min_chunk_size=piece):
                yield bytes(chunk)

    async def pages(self, folder: str) -> AsyncIterator[list[Artifact]]:
        found = (
            _artifact(self._root, entry) for entry in _files(self._root / folder) if not _is_partial(entry)
        )
        while page := await asyncio.to_thread(lambda: list(islice(found, PAGE))):
            yield page

    async def delete_partial(self, before: float) -> int:
        return await asyncio.to_thread(_delete_partial, self._root, before)

    async def delete(self, key: str) -> None:
        try:
            await self.size(key)  # a folder that other keys begin with can't be deleted, and is not a key
            with _explained(key):
                await self._store.delete_async(_checked(key))
        except NotFound:
            return


class _Counter:
    """Passes pieces on and counts their bytes."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.size = 0

    def __aiter__(self) -> "_Counter":
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self.size += len(piece)
        return piece


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


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise BadRequest(
            f"the key {key[:200]!r} is not allowed: up to ten segments of letters, digits, '-', '_' and '.', "
            "joined by '/', none of them starting with a dot",
            code="bad_key",
        )
    return key


@contextmanager
def _explained(key: str) -> Iterator[None]:
    """Turn the errors of the object store into ours."""
    try:
        yield
    except (NotFoundError, FileNotFoundError):
        raise NotFound(f"there are no bytes under the key {key!r}", code="artifact_not_found") from None
    except BaseError as error:
        log.error("the artifacts failed: %s", error)
        raise Unavailable(
            f"the artifact {key!r} can't be read or written: look at the disk and the log of the server",
            code="artifacts_unavailable",
            retry_after=5,
        ) from error

"""Artifacts in any store of objects, through obstore: what a folder and a bucket have in common."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal

from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore

from openlaunch.artifacts.base import MAX_GET_BYTES, Artifact
from openlaunch.errors import BadRequest, NotFound, PayloadTooLarge, Unavailable

if TYPE_CHECKING:
    from obstore import GetResult

log = logging.getLogger(__name__)

_SEGMENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT}){{0,9}}")

PAGE = 500
PART_BYTES = 8 << 20
"""Size of the parts of a large object; an upload holds `PARTS_AT_ONCE` of them in memory."""
PARTS_AT_ONCE = 4
COPIES_AT_ONCE = 2
"""Limit on the parts that are uploaded at once of bytes that are in memory already."""
PROBE = "health/probe"
SLOWEST_BYTES = 1 << 20
"""Bytes in a second that a store takes or gives at least, where it has to answer in time."""


class ObjectArtifacts:
    """`artifacts.base.Artifacts` in a store of objects."""

    is_service = False
    seconds: float | None = None
    """Time for an answer; what is sent or held as a whole has more, for its bytes. None: no limit."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, key: str, data: bytes | bytearray | AsyncIterator[bytes]) -> int:
        checked = checked_key(key)
        if isinstance(data, bytes | bytearray):
            async with self._answered(key, self._seconds(len(data))):
                await self._store.put_async(
                    checked, data, chunk_size=PART_BYTES, max_concurrency=COPIES_AT_ONCE
                )
            return len(data)
        counter = _Counter(data)
        async with self._answered(key, None):  # the source may take its time
            await self._store.put_async(
                checked, counter, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )
        return counter.size

    async def get(self, key: str, limit: int = MAX_GET_BYTES) -> bytes:
        async with self._answered(key, self.seconds):
            result = await self._store.get_async(checked_key(key))
        size = int(result.meta["size"])
        if size > limit:
            raise PayloadTooLarge(f"there are {size} bytes under the key {key!r}, which is over {limit}")
        async with self._answered(key, self._seconds(size)):
            return bytes(await result.bytes_async())

    async def size(self, key: str) -> int:
        async with self._answered(key, self.seconds):
            meta = await self._store.head_async(checked_key(key))
        return int(meta["size"])

    async def stream(self, key: str, piece: int = 1 << 20) -> AsyncIterator[bytes]:
        async with self._answered(key, self.seconds):
            result = await self._store.get_async(checked_key(key))
        async for chunk in self._pieces(key, result, piece):
            yield chunk

    async def _pieces(self, key: str, result: "GetResult", piece: int) -> AsyncIterator[bytes]:
        pieces = aiter(result.stream(min_chunk_size=piece))
        try:
            while True:
                async with self._answered(key, self._seconds(piece)):
                    chunk = await anext(pieces, None)
                if chunk is None:
                    return
                for start in range(0, len(chunk), 4 * piece):  # memory gives all at once
                    yield bytes(chunk[start : start + 4 * piece])
        finally:
            del pieces  # the traceback of an error, such as a client's leaving, would keep a file open

    async def pages(self, folder: str) -> AsyncIterator[list[Artifact]]:
        listing = aiter(self._store.list(folder.rstrip("/"), chunk_size=PAGE))
        while True:
            async with self._answered(folder, self.seconds):
                page = await anext(listing, None)
            if page is None:
                return
            yield [Artifact(m["path"], int(m["size"]), m["last_modified"].timestamp()) for m in page]

    async def delete_partial(self, before: float) -> int:
        return 0

    async def delete(self, *keys: str) -> None:
        checked = [checked_key(key) for key in keys]
        try:
            await self._delete(checked)
        except NotFound:  # some stores refuse all that follow a key without bytes
            for key in checked if len(checked) > 1 else ():
                with suppress(NotFound):
                    await self._delete([key])

    async def probe(self) -> None:
        await self.put(PROBE, b"ok")
        await self.delete(PROBE)

    async def signed_url(self, method: Literal["GET", "PUT"], key: str, seconds: float) -> str | None:
        return None

    async def _delete(self, keys: list[str]) -> None:
        if keys:
            async with self._answered(keys[0], self._seconds(0)):
                await self._store.delete_async(keys)

    def _seconds(self, size: int) -> float | None:
        return None if self.seconds is None else self.seconds + size / SLOWEST_BYTES

    @asynccontextmanager
    async def _answered(self, key: str, seconds: float | None) -> AsyncIterator[None]:
        """Turn the errors of the store into ours, and raise Unavailable when it does not answer in time."""
        try:
            async with asyncio.timeout(seconds) as within:
                yield
        except (NotFoundError, FileNotFoundError) as error:
            self._check_missing(key, error)
            raise NotFound(f"there are no bytes under the key {key!r}", code="artifact_not_found") from None
        except BaseError as error:
            raise unavailable(key, self._problem(error)) from None
        except TimeoutError:
            if not within.expired():
                raise
            raise unavailable(key, f"no answer within {seconds:g} s") from None

    def _check_missing(self, key: str, error: Exception) -> None:
        """Raise Unavailable where more than the one object is missing."""

    def _problem(self, error: Exception) -> str:
        """Say what is wrong, and what to do about it."""
        log.error("the artifacts failed: %s", error)
        return "look at the disk and the log of the server"


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


def unavailable(key: str, problem: str) -> Unavailable:
    """Make the error of a store that can't be used."""
    text = f"the artifact {key!r} can't be read or written: {problem}"
    return Unavailable(text, code="artifacts_unavailable", retry_after=5)


def checked_key(key: str) -> str:
    """Return the key; raise BadRequest where it is not of the form of keys."""
    if not _KEY.fullmatch(key):
        raise BadRequest(
            f"the key {key[:200]!r} is not allowed: up to ten segments of letters, digits, '-', '_' and '.', "
            "joined by '/', none of them starting with a dot",
            code="bad_key",
        )
    return key

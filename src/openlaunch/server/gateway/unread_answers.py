"""What clients have still to read of large answers: in memory as far as there is room, else in files."""

import asyncio
import logging
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import IO, Protocol

from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers

log = logging.getLogger(__name__)

PIECE_BYTES = 256 * 1024
MIN_BYTES_PER_SECOND = 64 * 1024
"""What a client has to read of a large answer, on average; otherwise its connection is closed."""

MAX_FILE_BYTES = 8 * 1024 * 1024 * 1024
"""Limit on all answers in files together. Past it, connections are closed."""


class Reader(Protocol):
    """The client of an answer."""

    on_gone: Callable[[], object]

    @property
    def owner(self) -> str:
        """Whose request it is."""

    def send_part(self, data: bytes) -> None:
        """Send a further part of the body."""

    async def drained(self) -> None:
        """Wait until the connection takes bytes again."""

    def finish(self) -> None:
        """End the answer, all of which was sent."""

    def drop(self) -> None:
        """Close the connection at once."""


class UnreadAnswers:
    """Sends the rest of large answers as their clients read them.

    An owner may hold as much memory as is free. The files have no names, so they end with the server.
    """

    def __init__(self, limit: int, folder: Path, seconds: float, arriving: ArrivingAnswers) -> None:
        self._arriving = arriving
        self._free = limit
        self._held: Counter[str] = Counter()
        self._in_files = 0
        self._folder = folder
        self._seconds = seconds
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, reader: Reader, rest: memoryview) -> None:
        """Send the rest of an answer, for which its client has a bounded time; then end the answer."""
        task = asyncio.get_running_loop().create_task(self._send(reader, rest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        reader.on_gone = task.cancel

    async def _send(self, reader: Reader, rest: memoryview) -> None:
        owner, size = reader.owner, len(rest)
        in_memory = self._held[owner] + size <= self._free
        self._count(owner, size, in_memory=in_memory)
        if in_memory:
            self._arriving.counted_elsewhere(rest.obj)
        pieces: AsyncGenerator[bytes] = _of_memory(rest) if in_memory else self._of_file(rest)
        del rest  # one that goes to a file must not stay in memory
        try:
            async with asyncio.timeout(self._seconds + size / MIN_BYTES_PER_SECOND), aclosing(pieces):
                async for piece in pieces:
                    await reader.drained()
                    reader.send_part(piece)
                await reader.drained()
        except TimeoutError:
            reader.drop()
        except OSError as error:
            log.error("an answer that its client reads slowly could not be kept in a file: %s", error)
            reader.drop()
        else:
            reader.finish()
        finally:
            self._count(owner, -size, in_memory=in_memory)

    def _count(self, owner: str, size: int, *, in_memory: bool) -> None:
        if not in_memory:
            self._in_files += size
            return
        self._free -= size
        self._held[owner] += size
        if not self._held[owner]:
            del self._held[owner]

    async def _of_file(self, rest: memoryview) -> AsyncGenerator[bytes]:
        if self._in_files > MAX_FILE_BYTES:
            raise OSError(f"there are {MAX_FILE_BYTES} bytes of answers in files already")
        with await asyncio.to_thread(_file_of, self._folder, rest) as file:
            del rest
            while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                yield piece


async def _of_memory(rest: memoryview) -> AsyncGenerator[bytes]:
    for start in range(0, len(rest), PIECE_BYTES):
        yield bytes(rest[start : start + PIECE_BYTES])


def _file_of(folder: Path, data: memoryview) -> IO[bytes]:
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- the caller closes it
    try:
        file.write(data)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file

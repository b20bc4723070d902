"""Workers' logs as server-sent events, for as long as a client reads them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress

import orjson

from openlaunch.engines.base import LogFollower
from openlaunch.engines.documents import LogLine, LogPart
from openlaunch.errors import TooManyRequests
from openlaunch.turns import Turns
from openlaunch.wire.sse import END_EVENT

MAX_STREAMS = 100
READS = 4
"""Places for reading the ends of logs: each takes a thread, and Python's lock from what answers predictions."""

POLL_SECONDS = 0.25
BUSY_SECONDS = 0.05
"""Between two looks when the last one has found something: there may be more than is read at once."""

HEARTBEAT_SECONDS = 10.0
_HEARTBEAT = b": there is nothing new\n\n"


class LogStreams:
    """All log streams of a server: a bounded number. Used in the event loop's thread."""

    def __init__(self) -> None:
        self._turns = Turns(MAX_STREAMS)
        self._reads = Turns(READS)
        self._closed = asyncio.Event()

    def close(self) -> None:
        """End every stream: the server stops."""
        self._closed.set()

    async def read(self, owner: str, read: Callable[[], Awaitable[list[LogLine]]]) -> list[LogLine]:
        """Return what `read` gives of logs, once the owner has a place for that."""
        return await self._reads.run(owner, read)

    async def open(
        self, owner: str, follower: LogFollower, part: LogPart, is_there: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """Return a stream's events: `data: {"worker", "line", "at", "level"}` for each line, and an end event.

        `is_there` tells whether there still is what the logs are of. TooManyRequests is raised over `MAX_STREAMS`,
        and when the owner has its part of them.
        """
        if not self._turns.room(owner):
            raise TooManyRequests(
                f"no more logs can be followed now: up to {MAX_STREAMS} at once, half of them of one owner",
                retry_after=5,
            )
        events = self._events(owner, follower, part, is_there)
        # Begun here, so that it holds its place before another request is looked at.
        return _beginning(await anext(events), events)

    async def _events(
        self, owner: str, follower: LogFollower, part: LogPart, is_there: Callable[[], bool]
    ) -> AsyncGenerator[bytes]:
        async with self._turns.of(owner):
            lines = await self.read(owner, lambda: follower.begin(part))
            first = await asyncio.to_thread(_frames, lines)
            yield first or _HEARTBEAT  # at once, so that the client sees that it is connected
            quiet, pause = 0.0, BUSY_SECONDS
            while not self._closed.is_set() and is_there():
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._closed.wait()
                quiet += pause
                lines = await follower.poll()
                pause = BUSY_SECONDS if lines else POLL_SECONDS
                if lines:
                    yield _frames(lines)
                    quiet = 0.0
                elif quiet >= HEARTBEAT_SECONDS:
                    yield _HEARTBEAT
                    quiet = 0.0
            yield END_EVENT


async def _beginning(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with aclosing(rest):  # its place is free as soon as the client is gone
        yield first
        async for frames in rest:
            yield frames


def _frames(lines: list[LogLine]) -> bytes:
    return b"".join(b"data: %s\n\n" % orjson.dumps(line._asdict()) for line in lines)

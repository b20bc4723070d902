"""Workers' logs as server-sent events, for as long as a client reads them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import orjson

from openlaunch.engines.base import LogFollower
from openlaunch.errors import TooManyRequests
from openlaunch.wire.sse import END_EVENT

MAX_STREAMS = 100
POLL_SECONDS = 0.25
HEARTBEAT_SECONDS = 15.0
_HEARTBEAT = b": there is nothing new\n\n"


class LogStreams:
    """All log streams of a server: a bounded number. Used in the event loop's thread."""

    def __init__(self) -> None:
        self._count = 0
        self._closed = asyncio.Event()

    def close(self) -> None:
        """End every stream: the server stops."""
        self._closed.set()

    def open(
        self, follower: LogFollower, tail_bytes: int, is_there: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        """Return a stream's events: `data: {"worker", "line"}` for each line, and an end event when there is no more.

        `is_there` tells whether there still is what the logs are of. Over `MAX_STREAMS`, TooManyRequests is raised.
        """
        if self._count >= MAX_STREAMS:
            raise TooManyRequests(
                f"{MAX_STREAMS} logs are being followed already, which is the limit", retry_after=5
            )
        return self._events(follower, tail_bytes, is_there)

    async def _events(
        self, follower: LogFollower, tail_bytes: int, is_there: Callable[[], bool]
    ) -> AsyncIterator[bytes]:
        self._count += 1
        try:
            lines = await follower.begin(tail_bytes)
            yield _frames(lines) or _HEARTBEAT  # at once, so that the client sees that it is connected
            quiet = 0.0
            while not self._closed.is_set() and is_there():
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._closed.wait()
                quiet += POLL_SECONDS
                if lines := await follower.poll():
                    yield _frames(lines)
                    quiet = 0.0
                elif quiet >= HEARTBEAT_SECONDS:
                    yield _HEARTBEAT
                    quiet = 0.0
            yield END_EVENT
        finally:
            self._count -= 1


def _frames(lines: list[tuple[str, str]]) -> bytes:
    return b"".join(
        b"data: %s\n\n" % orjson.dumps({"worker": worker, "line": line}) for worker, line in lines
    )

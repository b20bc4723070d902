"""What goes out: frames gathered into few writes, and the way from a thread to the event loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from openlaunch_worker.frames import HEADER, Kind

_ANSWER_HEADER: Final = Struct("<IIBB")
"""A frame's header, and the outcome with which the payload of RESULT and END begins."""


class Outbox:
    """Frames on their way out. All that is sent in one turn of the loop goes out in one write.

    It holds no more than what the slots of the worker allow: an answer each, or a window of a stream.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, write: Callable[[bytes], None]) -> None:
        self._loop = loop
        self._write = write
        self._pieces: list[bytes] = []
        self._flush_is_due = False
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = False

    def answer(self, kind: Kind, request_id: int, outcome: int, body: bytes) -> None:
        """Send a RESULT or an END."""
        self._send(_ANSWER_HEADER.pack(len(body) + 1, request_id, kind, outcome), body)

    def chunk(self, request_id: int, body: bytes) -> None:
        """Send a CHUNK."""
        self._send(HEADER.pack(len(body), request_id, Kind.CHUNK), body)

    def _send(self, header: bytes, body: bytes) -> None:
        self._pieces += (header, body)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush_when_due)

    def _flush_when_due(self) -> None:
        self._flush_is_due = False
        self.flush()

    def flush(self) -> None:
        """Write what was sent so far."""
        if self._pieces:
            data = b"".join(self._pieces)
            self._pieces.clear()
            self._write(data)

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Have the event loop make a call; for the other threads.

        The loop is woken once for all calls that are posted until it gets to them.
        """
        self._calls.append((call, args))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._make_calls)

    def _make_calls(self) -> None:
        self._woken = False  # before the calls are taken: one posted after the last is taken wakes again
        while self._calls:
            call, args = self._calls.popleft()
            call(*args)
        self.flush()

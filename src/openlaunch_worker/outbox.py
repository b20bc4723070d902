"""What goes out: frames gathered into few writes, and the way from a thread to the event loop."""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from openlaunch_worker.frames import HEADER, Kind

_ANSWER_HEADER: Final = Struct("<IIBB")
"""A frame's header, and the outcome with which the payload of RESULT and END begins."""


class Outbox:
    """Frames on their way out. All that is sent in one turn of the loop goes out in one write.

    It holds no more than what the slots of the worker allow: an answer each, or a window of a stream. What is written
    goes to the socket itself, and only what that does not take at once to the loop's transport. So a thread can write
    too, which saves the time that the loop takes to wake up: `answer_now`, `chunk_now`. The lock is held from the
    look whether anything is on its way, of which a part may be written, to the end of the write.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.WriteTransport, sock: socket.socket
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._socket = sock
        self._pieces: list[bytes | memoryview] = []
        self._flush_is_due = False
        self._lock = threading.Lock()
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = False

    # On the loop.

    def answer(self, kind: Kind, request_id: int, outcome: int, body: bytes) -> None:
        self._send(_ANSWER_HEADER.pack(len(body) + 1, request_id, kind, outcome), body)

    def chunk(self, request_id: int, body: bytes) -> None:
        self._send(HEADER.pack(len(body), request_id, Kind.CHUNK), body)

    def control(self, kind: Kind, request_id: int) -> None:
        """Send a frame without a payload."""
        self._send(HEADER.pack(0, request_id, kind), b"")

    def _send(self, header: bytes, body: bytes) -> None:
        self._pieces += (header, body)
        if not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush_when_due)

    def _flush_when_due(self) -> None:
        self._flush_is_due = False
        self.flush()

    def flush(self) -> None:
        if not self._pieces:
            return
        with self._lock:
            data: bytes | memoryview = b"".join(self._pieces)
            self._pieces.clear()
            if not self._transport.get_write_buffer_size():
                data = self._write(data)
            if data:
                self._transport.write(data)

    def _write(self, data: bytes | memoryview) -> memoryview:
        """Write to the socket, while nothing else is on its way there; return what it has not taken."""
        try:
            written = self._socket.send(data)
        except OSError:  # it is full; or broken, which the transport sees, too
            written = 0
        return memoryview(data)[written:]

    def make_calls(self) -> None:
        """Make the calls that were posted, and write what they send."""
        self._woken = False  # before the calls are taken: one posted after the last is taken wakes again
        while self._calls:
            with self._lock:  # while a thread writes what a call goes with, that is not made
                call, args = self._calls.popleft()
            call(*args)
        self.flush()

    # From other threads.

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Have the event loop make a call. It is woken once for all calls that are posted until it gets to them."""
        self._calls.append((call, args))
        self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self.make_calls)

    def answer_now(
        self, request_id: int, outcome: int, body: bytes, call: Callable[..., None], *args: Any
    ) -> None:
        """Send a RESULT, and have the event loop make a call once it is on its way."""
        with self._lock:
            # Before the server can have the answer: what it sends next finds the call waiting.
            self._calls.append((call, args))
            self._write_now(_ANSWER_HEADER.pack(len(body) + 1, request_id, Kind.RESULT, outcome) + body)
        self._wake()

    def chunk_now(self, request_id: int, body: bytes) -> None:
        with self._lock:
            written = self._write_now(HEADER.pack(len(body), request_id, Kind.CHUNK) + body)
        if not written:
            self._wake()

    def _write_now(self, frame: bytes) -> bool:
        """Write the frame, and return whether all of it went; else the loop writes the rest when it is woken."""
        rest = memoryview(frame)
        if not self._pieces and not self._transport.get_write_buffer_size():
            rest = self._write(frame)
        if rest:
            self._pieces.append(rest)
        return not rest

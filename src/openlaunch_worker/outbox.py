"""What goes out: frames gathered into few writes, and the way from a thread to the event loop."""

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import Any, Final

from openlaunch_worker.frames import COPY_BYTES, HEADER, Kind

_ANSWER_HEADER: Final = Struct("<IIBB")
"""A frame's header, and the outcome with which the payload of RESULT and END begins."""
_HANDED_OVER: Final = 256 * 1024
"""How much of a large frame the transport has at a time, because some keep a copy."""


class Outbox:
    """Frames on their way out. All that is sent in one turn of the loop goes out in one write.

    `post`, `answer_now` and `chunk_now` are for other threads, all else is for the loop's.

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
        self._large = False
        """Whether one of them is so large that joining them would cost more than a write of each."""
        self._flush_is_due = False
        self._lock = threading.Lock()
        self.calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        """Calls that were posted, and are not made yet."""
        self._woken = False

    def answer(self, kind: Kind, request_id: int, outcome: int, body: bytes, flushed: bool = False) -> None:
        """Send a RESULT or an END; with `flushed`, the caller is to call `flush` next."""
        self._send(_ANSWER_HEADER.pack(len(body) + 1, request_id, kind, outcome), body, flushed)

    def chunk(self, request_id: int, body: bytes) -> None:
        self._send(HEADER.pack(len(body), request_id, Kind.CHUNK), body)

    def control(self, kind: Kind, request_id: int, payload: bytes = b"") -> None:
        """Send a frame that is not part of an answer."""
        self._send(HEADER.pack(len(payload), request_id, kind), payload)

    def _send(self, header: bytes, body: bytes, flushed: bool = False) -> None:
        self._pieces += (header, body)
        if len(body) >= COPY_BYTES:
            self._large = True
        if not flushed and not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self._flush_when_due)

    def _flush_when_due(self) -> None:
        self._flush_is_due = False
        self.flush()

    @property
    def is_empty(self) -> bool:
        """Whether all that was sent is with the transport, if not gone."""
        return not self._pieces

    def flush(self) -> None:
        """Write what was sent; of large frames a part, and the rest when the transport has written that."""
        if not self._pieces:
            return
        with self._lock:
            if self._large:
                self._write_large()
                return
            data: bytes | memoryview = b"".join(self._pieces)
            self._pieces.clear()
            if not self._transport.get_write_buffer_size():
                data = self._write(data)
            if data:
                self._transport.write(data)

    def _write_large(self) -> None:
        pieces = self._pieces
        while pieces and not self._transport.get_write_buffer_size():
            rest = self._write(pieces[0])
            if len(rest) > _HANDED_OVER:
                pieces[0] = rest[_HANDED_OVER:]
            else:
                del pieces[0]
            if rest:
                self._transport.write(rest[:_HANDED_OVER])
        self._large = bool(pieces)

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
        while self.calls:
            with self._lock:  # while a thread writes what a call goes with, that is not made
                call, args = self.calls.popleft()
            call(*args)
        self.flush()

    def post(self, call: Callable[..., None], *args: Any) -> None:
        """Have the event loop make a call. It is woken once for all calls that are posted until it gets to them."""
        self.calls.append((call, args))
        self._wake()

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self.make_calls)

    def answer_now(
        self, request_id: int, outcome: int, body: bytes, call: Callable[..., None], *args: Any
    ) -> None:
        """Send a RESULT, and have the event loop make a call once it is on its way."""
        header = _ANSWER_HEADER.pack(len(body) + 1, request_id, Kind.RESULT, outcome)
        with self._lock:
            # Before the server can have the answer: what it sends next finds the call waiting.
            self.calls.append((call, args))
            self._write_now(header, body)
        self._wake()

    def chunk_now(self, request_id: int, body: bytes) -> None:
        with self._lock:
            written = self._write_now(HEADER.pack(len(body), request_id, Kind.CHUNK), body)
        if not written:
            self._wake()

    def _write_now(self, header: bytes, body: bytes) -> bool:
        """Write the frame, and return whether all of it went; else the loop writes the rest when it is woken."""
        if len(body) >= COPY_BYTES:  # the loop writes it, without a copy
            self._pieces += (header, body)
            self._large = True
            return False
        frame = header + body
        rest = memoryview(frame)
        if not self._pieces and not self._transport.get_write_buffer_size():
            rest = self._write(frame)
        if rest:
            self._pieces.append(rest)
        return not rest

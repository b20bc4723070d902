"""One connection to a worker as frames: what is written goes out together, and what breaks the protocol ends it."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, cast

from openlaunch_worker.frames import Body, FrameError, FrameParser, Kind

log = logging.getLogger(__name__)

SMALL_BYTES = 64 * 1024
"""Limit on the frames that have no value in them."""

Handler = Callable[[Any, int, int, Body], None]
"""Takes a link and a frame: its kind, request id and payload."""


def misplaced(link: "FrameLink", kind: int, request_id: int, payload: Body) -> None:
    """Refuse a frame that does not belong there."""
    raise FrameError(f"a frame of the kind {kind}, which does not belong there")


def handlers(*known: tuple[Kind, Handler]) -> Sequence[Handler]:
    """Return what handles each kind of frame in one state of a link."""
    table: list[Handler] = [misplaced] * 256
    for kind, handler in known:
        table[kind] = handler
    return table


class FrameLink(asyncio.Protocol):
    """Hands each frame that comes to what handles it in this state of the link, and writes frames.

    All frames of one turn of the loop go out in one write.
    """

    def __init__(self, handlers: Sequence[Handler]) -> None:
        self.worker_id = ""
        """Empty for a connection that has not said which worker it is."""
        self.broke = ""
        """How the worker broke the protocol."""
        self.read_at = 0.0
        self._handlers = handlers
        self._size_limits: dict[int, int] = {}
        self._parser = FrameParser(self._check_head, self._new_buffer)
        self._loop = asyncio.get_running_loop()
        self._frames: list[Body] = []
        self._large = False
        """Whether one of them is so large that joining them would cost more than a write of each."""
        self._writable = asyncio.Event()
        self._writable.set()
        self._is_full = False
        """Whether the worker does not take what is written as fast as it is written."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base class

    def data_received(self, data: bytes) -> None:
        self.read_at = monotonic()
        try:
            for kind, request_id, payload in self._parser.feed(data):
                try:
                    self._handlers[kind](self, kind, request_id, payload)
                except FrameError:
                    raise
                except Exception as fault:
                    self._fail_on(fault, kind, request_id)
        except FrameError as error:
            self._break_off(str(error))

    def _fail_on(self, fault: Exception, kind: int, request_id: int) -> None:
        """End what a frame is about on which the server fails; here it is the connection."""
        text = "a frame of worker %s could not be handled; its connection is closed"
        log.error(text, self.worker_id, exc_info=fault)
        self.close()

    def _break_off(self, reason: str) -> None:
        self.broke = f"broke the protocol: {reason}"
        if self.worker_id:  # a stranger must not be able to fill the log
            log.error("worker %s %s; its connection is closed", self.worker_id, self.broke)
        self.close()

    def _check_head(self, kind: int, request_id: int, length: int) -> None:
        """Refuse a frame by its head, before the rest of it is kept."""
        if self._handlers[kind] is misplaced:
            misplaced(self, kind, request_id, b"")
        if length > (limit := self._size_limits.get(kind, SMALL_BYTES)):
            raise FrameError(f"a frame {Kind(kind).name} of {length} bytes, over the limit of {limit} bytes")

    def _new_buffer(self, kind: int, request_id: int, length: int) -> bytearray:
        """Return a buffer for the payload of a large frame, a part of which has come."""
        return bytearray()

    def close(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def pause_writing(self) -> None:
        self._is_full = True
        self._writable.clear()

    def resume_writing(self) -> None:
        self._is_full = False
        self._writable.set()

    def _send(self, frame: bytes) -> None:
        self._frames.append(frame)
        if len(self._frames) == 1:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Write what was sent so far."""
        frames, self._frames = self._frames, []
        if not frames or self._transport.is_closing():
            return
        if self._large:
            self._large = False
            self._transport.writelines(frames)
        else:
            self._transport.write(b"".join(frames))
        if self._is_full:
            self._check_unread()

    def _check_unread(self) -> None:
        """Look at how much the worker has not read yet."""

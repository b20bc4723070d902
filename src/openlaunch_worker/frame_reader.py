"""Reads frames off a socket into memory that is there beforehand: a frame that finds none is lost alone."""

from collections.abc import Callable
from mmap import MAP_PRIVATE, mmap
from typing import Final

from openlaunch_worker.frames import COPY_BYTES, HEADER, MAX_PAYLOAD, REQUEST_HEAD, FrameError

BUFFER_BYTES: Final = 256 * 1024
Frame = tuple[int, int, bytes | mmap]


class FrameReader:
    """Gives where the next bytes go, and the frames that have come whole.

    A large frame is read into memory of its own. Where there is none, `no_room` is called with the frame's kind,
    request id, length and first bytes when it has passed.
    """

    def __init__(self, no_room: Callable[[int, int, int, bytes], None]) -> None:
        self._no_room = no_room
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._kept = 0
        """Bytes of the buffer that begin a frame."""
        self._kind = self._id = self._length = 0
        self._head = b""
        self._large: mmap | None = None
        self._rest = 0
        """Bytes that the large frame, which is read or skipped, still lacks."""

    def room(self) -> memoryview:
        """Return where to read to."""
        if not self._rest:
            return self._buffer[self._kept :] if self._kept else self._buffer
        if self._large is None:
            return self._buffer[: self._rest]
        return memoryview(self._large)[-self._rest :]

    def received(self, size: int) -> list[Frame]:
        """Return the frames that `size` more bytes complete. Raise `FrameError` if one is too large."""
        frames: list[Frame] = []
        if self._rest:
            self._rest -= size
            if not self._rest:
                self._end_large(frames)
            return frames
        view, position, end = self._buffer, 0, self._kept + size
        self._kept = 0
        while end - position >= HEADER.size:
            length, request_id, kind = HEADER.unpack_from(view, position)
            start = position + HEADER.size
            if length > MAX_PAYLOAD:
                raise FrameError(f"a frame of {length} bytes is over the limit of {MAX_PAYLOAD} bytes")
            if length >= COPY_BYTES and end - start >= REQUEST_HEAD.size:
                self._begin_large(kind, request_id, length, view[start:end])
                position = min(start + length, end)
                if not self._rest:
                    self._end_large(frames)
                continue
            if length > end - start:
                break
            position = start + length
            try:
                frames.append((kind, request_id, bytes(view[start:position])))
            except MemoryError:
                self._no_room(kind, request_id, length, bytes(view[start : start + REQUEST_HEAD.size]))
        if position != end and not self._rest:
            self._kept = end - position
            view[: self._kept] = view[position:end]
        return frames

    def _begin_large(self, kind: int, request_id: int, length: int, data: memoryview) -> None:
        data = data[:length]
        self._kind, self._id, self._length, self._rest = kind, request_id, length, length - len(data)
        self._head = bytes(data[: REQUEST_HEAD.size])
        try:
            self._large = mmap(-1, length, MAP_PRIVATE)  # the system zeroes what is used of it
        except OSError:
            return
        self._large[: len(data)] = data

    def _end_large(self, frames: list[Frame]) -> None:
        large, self._large = self._large, None
        if large is None:
            self._no_room(self._kind, self._id, self._length, self._head)
        else:
            frames.append((self._kind, self._id, large))

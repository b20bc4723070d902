"""Cuts what comes over a connection at the heads of frames: an agent reads no more of them than that."""

from collections.abc import Iterator
from typing import NamedTuple

from openlaunch_worker.frames import HEADER

_HEAD = HEADER.size

SMALL_BYTES = 64
"""A frame with up to this many bytes behind its head is given whole, so that a CREDIT can be read."""


class Piece(NamedTuple):
    """A part of a frame: its kind and request id, the bytes, and whether it begins or ends the frame."""

    kind: int
    request_id: int
    data: bytes
    begins: bool
    ends: bool


class FrameCutter:
    """Follows the frames in one direction. A head that is not whole is kept back, and so is a small frame."""

    def __init__(self) -> None:
        self.missing = 0
        """Bytes that the last frame still lacks."""
        self._head = b""
        self._kind = self._request_id = 0

    @property
    def unfinished(self) -> int:
        """The request id of the last frame, where that still lacks bytes; else 0."""
        return self._request_id if self.missing else 0

    def cut(self, data: bytes) -> Iterator[Piece]:
        """Give the pieces of the bytes that come next, each as long as it can be."""
        if self._head:
            data, self._head = self._head + data, b""
        at, size = 0, len(data)
        while at < size:
            begins = not self.missing
            start = at
            if begins:
                if size - at < _HEAD:
                    self._head = data[at:]
                    return
                length, request_id, kind = HEADER.unpack_from(data, at)
                if length <= SMALL_BYTES and size - at - _HEAD < length:
                    self._head = data[at:]
                    return
                self.missing, self._request_id, self._kind = length, request_id, kind
                at += _HEAD
            step = min(self.missing, size - at)
            self.missing -= step
            at += step
            piece = data if not start and at == size else data[start:at]
            yield Piece(self._kind, self._request_id, piece, begins, not self.missing)

"""What several servers send to one worker, in whole frames."""

import asyncio
from typing import Protocol

from openlaunch.agent.frame_cutter import FrameCutter, Piece
from openlaunch.agent.server_link import ServerLink
from openlaunch_worker.frames import FrameError


class Source(Protocol):
    """A channel over which a server sends frames."""

    link: ServerLink
    cutter: FrameCutter
    waits: list[bytes]
    """Bytes that have come while a frame of another server was not whole."""

    def check(self, piece: Piece) -> None:
        """Raise `FrameError` unless this frame, which begins, may come over this channel."""


class ToWorker:
    """Writes frames to a worker: one of a server is whole before one of another server begins."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._writing: Source | None = None
        """The source of the frame that has reached the worker in part."""
        self._waiting: dict[Source, None] = {}

    def receive(self, source: Source, data: bytes) -> None:
        """Pass on what a server says, once nothing of another server's frame is missing."""
        if self._writing is not None and self._writing is not source:
            source.waits.append(data)
            self._waiting[source] = None
            return
        self._write(source, data)
        if self._waiting:
            self.pass_on()

    def pass_on(self) -> None:
        """Write what waits, as far as that is possible."""
        while self._waiting and self._writing is None:
            source = next(iter(self._waiting))
            del self._waiting[source]
            data = b"".join(source.waits)
            source.waits.clear()
            try:
                self._write(source, data)
            except FrameError as error:
                source.link.lose(f"broke the protocol: {error}")

    def _write(self, source: Source, data: bytes) -> None:
        assert self.transport is not None
        for piece in source.cutter.cut(data):
            if piece.begins:
                source.check(piece)
            self.transport.write(piece.data)
            self._writing = None if piece.ends else source

    def forget(self, source: Source) -> None:
        """Write nothing more of a server's."""
        source.waits.clear()
        self._waiting.pop(source, None)

    def complete(self, source: Source) -> None:
        """Fill up the frame of which the worker has a part, where it is of a server that is gone."""
        if self._writing is source:
            assert self.transport is not None
            self._writing = None
            self.transport.write(bytes(source.cutter.missing))

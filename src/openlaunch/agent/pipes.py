"""A socket of this machine whose bytes go to a server and back, over a channel of its link."""

import asyncio
from collections.abc import Callable
from typing import Any

from openlaunch.agent.server_link import ServerLink
from openlaunch.nodes.calls import Keep
from openlaunch.nodes.link import Kind
from openlaunch_worker.frames import FrameError


class Pipe(asyncio.Protocol):
    """Passes bytes on in both directions, as fast as the slower end takes them. It ends with either end."""

    def __init__(
        self, transport: asyncio.Transport, link: ServerLink, ended: Callable[["Pipe"], None]
    ) -> None:
        self._transport, self._link, self._ended = transport, link, ended
        self._number = 0
        self._pauses = 0
        """How many reasons there are not to read the socket: the link is full, and the server reads slowly."""

    def open(self, document: dict[str, Any]) -> None:
        """Open the channel. Raise `FrameError` where the server has too many."""
        self._number = self._link.open_channel(self, document)
        self._transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        self._link.send_data(self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.close_channel(self._number)
        self._ended(self)

    def pause_writing(self) -> None:
        self._link.send(Kind.PAUSE, self._number)

    def resume_writing(self) -> None:
        self._link.send(Kind.RESUME, self._number)

    def receive(self, data: bytes) -> None:
        self._transport.write(data)

    def closed(self) -> None:
        self._transport.close()

    def close(self) -> None:
        """Close the socket at once."""
        self._transport.abort()

    lost = close

    def pause(self) -> None:
        self._pauses += 1
        if self._pauses == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        self._pauses -= 1
        if self._pauses == 0 and not self._transport.is_closing():
            self._transport.resume_reading()

    def drain(self) -> None:
        raise FrameError("a DRAIN over a channel of something else than a worker")

    def given(self, tokens: int) -> None:
        raise FrameError("tokens over a channel of something else than a worker")

    def keep(self, keep: Keep) -> None:
        raise FrameError("a KEEP over a channel of something else than a worker")

"""A worker's connection on its node: what comes goes over the link of the server that started the worker."""

import asyncio

from openlaunch.agent.server_link import ServerLink
from openlaunch.nodes.link import Kind


class WorkerRelay(asyncio.Protocol):
    """Passes bytes between a worker and its server, which alone read them."""

    def __init__(self, link: ServerLink, token: str) -> None:
        self._link = link
        self._token = token
        self._number = 0
        self._pauses = 0
        """How many reasons there are not to read the worker: the link is full, and the server wants it."""

    def connect(self, transport: asyncio.Transport) -> None:
        """Take over a worker's connection, which has said HELLO."""
        self._transport = transport
        self._transport.set_protocol(self)
        self._number = self._link.open_channel(self._token, self)

    def data_received(self, data: bytes) -> None:
        self._link.send_data(self._number, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.close_channel(self._number)

    def pause_writing(self) -> None:
        self._link.send(Kind.PAUSE, self._number)

    def resume_writing(self) -> None:
        self._link.send(Kind.RESUME, self._number)

    def receive(self, data: bytes) -> None:
        self._transport.write(data)

    def closed(self) -> None:
        self._transport.abort()

    def pause(self) -> None:
        self._pauses += 1
        if self._pauses == 1 and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        self._pauses -= 1
        if self._pauses == 0 and not self._transport.is_closing():
            self._transport.resume_reading()

"""Takes what comes on a connection apart: heads, bodies, and what is sent behind a request."""

import asyncio
from abc import abstractmethod

from uvicorn.protocols.http.flow_control import FlowControl

from openlaunch.errors import APIError
from openlaunch.server.bodies import UnreadBytes
from openlaunch.server.gateway.asgi_exchange import AsgiExchange
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.read_timer import NEVER, ReadTimer
from openlaunch.server.gateway.request_reader import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    ChunkDecoder,
    Head,
    LengthDecoder,
    check_part_of_head,
)

MAX_AHEAD_BYTES = 64 * 1024
"""Bytes behind a request that is being answered; with more of them, nothing further is read."""

KEPT_HEAD_BYTES = 2048
"""A head up to this size is kept for the next request on its connection, which has the same one most often."""

MAX_DISCARDED_BYTES = 256 * 1024 * 1024
"""Limit on what is read of a body whose request is answered already; then the connection is closed."""


class RequestReceiver(asyncio.Protocol):
    """Receives requests, one after the other: the next one begins when the answer to the last one is written."""

    transport: asyncio.Transport
    flow: FlowControl

    def __init__(self, services: HttpServices) -> None:
        self.services = services
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        """When what its client has still to send or to read began."""
        self._exchange: Exchange | AsgiExchange | None = None
        self._head: Head | None = None
        """The last one, if it is kept."""
        self._body: LengthDecoder | ChunkDecoder | None = None
        self._unread = UnreadBytes(services.unread)
        self._timer = ReadTimer(self._loop, services.read_seconds, self._late)
        self._in_head = self._next_is_due = self._half_closed = False
        self._discarded = 0

    @property
    @abstractmethod
    def _holder(self) -> str:
        """For whom memory of this connection is counted."""

    @abstractmethod
    def _new_exchange(self, head: Head) -> Exchange | AsgiExchange:
        """Make the exchange of a request; raise `APIError` if it is not to be served."""

    @abstractmethod
    def _next(self, exchange: Exchange | AsgiExchange) -> None:
        """Begin with the next request, if this one has come whole and its answer is written."""

    @abstractmethod
    def _refuse(self, error: APIError) -> None:
        """Answer what can't be read, and close the connection."""

    @abstractmethod
    def _late(self, now: float) -> None:
        """Close the connection: its time is over."""

    def data_received(self, data: bytes) -> None:
        """Take what has come to the request that it belongs to."""
        exchange = self._exchange
        if exchange is None and not self._unread.data:
            self._begin(data)
        elif self._body is not None and exchange is not None:
            self._receive_body(exchange, self._body, data)
        else:
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        """Keep what can't be read yet: it is behind a request, or continues a part of a head."""
        try:
            self._unread.add(data, self._holder)
        except APIError as error:
            self._refuse(error)
            return
        if self._in_head:
            self._begin_next()
        elif len(self._unread.data) > MAX_AHEAD_BYTES:
            self.flow.pause_reading()

    def _begin_soon(self) -> None:
        # Not at once: many pipelined requests that are refused would be as many calls deep, and hold others up.
        if not self._next_is_due:
            self._next_is_due = True
            self._loop.call_soon(self._begin_next)

    def _begin_next(self) -> None:
        """Begin with what came behind the last request, or with a head that has got more bytes."""
        self._next_is_due = False
        if self.transport.is_closing() or self._exchange is not None or not self._unread.data:
            return
        if self.flow.write_paused and not self._in_head:
            return  # the client has to read first; one that never does is closed like one without a request
        self._begin(self._unread.take())
        if self._half_closed and self._exchange is None:
            self.transport.close()
        elif len(self._unread.data) <= MAX_AHEAD_BYTES:
            self.flow.resume_reading()

    def _begin(self, data: bytes | bytearray) -> None:
        """Begin with a request if its head has come whole; keep what there is of it otherwise."""
        head = self._head
        try:
            if head is not None and data.startswith(head.data):
                self._open(head, data, len(head.data))
            else:
                self._read_head(data)
        except APIError as error:
            self._refuse(error)

    def _read_head(self, data: bytes | bytearray) -> None:
        if data[0] in b"\r\n":
            data = data.lstrip(b"\r\n")  # empty lines before a request are ignored (RFC 9112, 2.2)
        end = data.find(END_OF_HEAD, 0, MAX_HEAD_BYTES) + len(END_OF_HEAD)
        if end < len(END_OF_HEAD):
            check_part_of_head(data)
            self._wait_for_head(data)
            return
        head = Head(data[:end])
        self._head = head if end <= KEPT_HEAD_BYTES else None
        self._open(head, data, end)

    def _wait_for_head(self, data: bytes | bytearray) -> None:
        if data:
            self._unread.put_back(data, self._holder)
            if not self._in_head:
                self._in_head = True
                self._since = self._loop.time()
                self._timer.expect_by(min(self._timer.deadline, self._since + self.services.read_seconds))

    def _open(self, head: Head, data: bytes | bytearray, start: int) -> None:
        """Begin with the request of a head; its body begins at `start`."""
        self._in_head = False
        self._timer.deadline = NEVER
        exchange = self._exchange = self._new_exchange(head)
        end = start + head.length
        if head.chunked or end > len(data):
            self._body = ChunkDecoder() if head.chunked else LengthDecoder(head.length)
            self._discarded = 0
            self._since = self._loop.time()
            exchange.announce(head)
            if self._exchange is not exchange:
                return  # it is refused, and so is all that is behind it
            self._timer.expect_body()
            if start < len(data):
                self._receive_body(exchange, self._body, bytes(data[start:]))
            return
        body = bytes(data[start:end])
        if end < len(data):
            rest = data if isinstance(data, bytearray) else bytearray(data)
            del rest[:end]
            self._unread.put_back(rest, self._holder)
        exchange.announce(head)
        exchange.complete(body)
        if exchange.response_complete:
            self._next(exchange)

    def _receive_body(
        self, exchange: Exchange | AsgiExchange, body: LengthDecoder | ChunkDecoder, data: bytes
    ) -> None:
        """Take what has come of a body; what is behind it is kept."""
        try:
            piece = body.decode(data)
            if piece:
                exchange.take(piece)
            if body.ended and body.rest:
                self._unread.put_back(body.rest, self._holder)
        except APIError as error:
            self._refuse(error)
            return
        if body.ended:
            self._body = None
            self._timer.deadline = NEVER
            exchange.complete()
            self._next(exchange)
            return
        if exchange.response_complete:
            self._discarded += len(piece)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.transport.close()
        self._timer.advance(len(piece))

"""One HTTP/1.1 connection: predict routes are answered here at once, everything else goes to the ASGI application.

A connection has one request at a time. What a client sends behind it stays as bytes until its answer is complete, so
there is no difference between the request that is being received and the one that is being answered, and an error in
what comes later can't reach what came before. A hot request costs no task and no scope of ASGI, and its answer one
write. Of uvicorn, the ASGI cycle is used, and not its server nor its protocol class.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from openlaunch.errors import APIError, RequestTimeout
from openlaunch.server.access.auth import PRINCIPAL, Principal
from openlaunch.server.asgi import App, Scope
from openlaunch.server.gateway.asgi_exchange import AsgiExchange
from openlaunch.server.gateway.bodies import BodyBudget, UnreadBytes
from openlaunch.server.gateway.connections import Connections, Rank
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.read_timer import NEVER, ReadTimer
from openlaunch.server.gateway.request_reader import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    ChunkDecoder,
    Head,
    LengthDecoder,
    check_part_of_head,
)
from openlaunch.server.gateway.response import refusal
from openlaunch.server.gateway.route_table import RouteTable
from openlaunch.server.gateway.unread_answers import UnreadAnswers
from openlaunch.server.gateway.write_timer import WriteTimer
from openlaunch.wire.keys import Role

MAX_AHEAD_BYTES = 64 * 1024
"""Bytes behind a request that is being answered; with more of them, nothing further is read."""

MAX_DISCARDED_BYTES = 256 * 1024 * 1024
"""What is read of a body whose request is answered already; then the connection is closed."""

PROBE_SECONDS = 0.1
"""Between the two writes that show whether a client that closed its side has gone."""

FLIGHT_SECONDS = 0.01
"""A part of a request that stays alone for longer is not the first half of two packets that come together."""

KEEP_ALIVE_SECONDS = 75
"""How long a connection without a request stays open."""


@dataclass(frozen=True, slots=True)
class HttpServices:
    """What connections need to serve requests."""

    routes: RouteTable
    app: App
    admit: Callable[[Scope], Principal]
    """Finds the caller of a request; raises where its key is not good."""
    connections: Connections
    bodies: BodyBudget
    unread: BodyBudget
    """For what belongs to no request yet, so to nobody who is known."""
    answers: UnreadAnswers
    max_body_bytes: int
    read_seconds: float
    write_seconds: float
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """The requests of the ASGI application that are under way."""

    def is_admin(self, head: Head) -> bool:
        """Return whether a request has an admin's key."""
        try:
            return self.admit({"headers": head.headers}).role is Role.ADMIN
        except APIError:
            return False


class HttpProtocol(asyncio.Protocol):
    """One connection.

    A client has `read_seconds` for the head of a request, or to send none on a new connection, and for each piece of
    its body; and `write_seconds` to read what it is sent. None of this costs a request that comes in one piece more
    than a comparison.
    """

    def __init__(self, services: HttpServices) -> None:
        self.services = services
        self.bodies = services.bodies
        self.answers = services.answers
        self.admit = services.admit
        self.opening: asyncio.Task[Any] | None = None
        """Makes the connection, until there is one."""
        self.extra = False
        """Whether the connection is past the limit: it is for admins, until there is room for it."""
        self._loop = asyncio.get_running_loop()
        self._known = False
        """Whether a request with a good key has come."""
        self._since = self._loop.time()
        """When what its client has still to send or to read began."""
        self._exchange: Exchange | AsgiExchange | None = None
        self._body: LengthDecoder | ChunkDecoder | None = None
        self._unread = UnreadBytes(services.unread)
        self._timer = ReadTimer(self._loop, services.read_seconds, self._late)
        self._write_timer = WriteTimer(self._loop, services.write_seconds)
        self._in_head = self._next_is_due = self._half_closed = False
        self._discarded = self._unsent = 0

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        self.transport = transport
        self.opening = None
        self.flow = FlowControl(transport)
        self.server = get_local_addr(transport)
        self.client = get_remote_addr(transport)
        self.scheme = "https" if is_ssl(transport) else "http"
        self._timer.expect_by(self._loop.time() + self.services.read_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request under way that its client is gone."""
        self.services.connections.discard(self)
        self._timer.cancel()
        self._write_timer.cancel()
        self._unread.take()
        self.flow.resume_writing()
        self._lose_exchange()

    def _lose_exchange(self) -> None:
        exchange, self._exchange, self._body = self._exchange, None, None
        if exchange is not None:
            exchange.gone()

    def eof_received(self) -> bool:
        """Answer a client that has only closed its side; notice one that is gone.

        Both send the same. So something harmless is written: the kernel of a client that is gone answers that nobody
        is there, and the write after it fails.
        """
        exchange = self._exchange
        if exchange is None or exchange.more_body or exchange.response_complete or self.scheme == "https":
            return False
        if isinstance(exchange, AsgiExchange):
            self._half_closed = not exchange.started
        elif exchange.probe():
            self._half_closed = True
            self._loop.call_later(PROBE_SECONDS, self._probe_again, exchange)
        return self._half_closed

    def _probe_again(self, exchange: Exchange) -> None:
        if exchange is self._exchange and not self.transport.is_closing():
            exchange.probe()

    def pause_writing(self) -> None:
        """Remember that the client is slow."""
        self.flow.pause_writing()
        self._write_timer.start(self.transport)

    def resume_writing(self) -> None:
        """Let the answer under way continue, or begin with the next request."""
        self.flow.resume_writing()
        self._write_timer.cancel()
        if self._exchange is not None:
            self._exchange.writable()
        elif self._unread.data and not self._in_head:
            self._begin_soon()

    def shutdown(self) -> None:
        """Close the connection once the request under way is answered."""
        if self.opening is not None:
            self.opening.cancel()
        elif self._exchange is None or self._exchange.response_complete:
            self.transport.close()
        else:
            self._exchange.keep_alive = False

    def rank(self, now: float) -> Rank | None:
        exchange = self._exchange
        if exchange is not None and (not exchange.more_body or PRINCIPAL in exchange.scope):
            return None
        stalled = (self._in_head or exchange is not None) and now - self._since > FLIGHT_SECONDS
        return (self._known, not stalled, self._since)

    def close_now(self) -> None:
        if self.opening is not None:
            self.opening.cancel()
        else:
            self.transport.abort()
            self._lose_exchange()

    def send(self, data: bytes) -> None:
        """Write to the client, unless the connection is closing; an answer need not look for that."""
        if not self.transport.is_closing():
            self.transport.write(data)

    # What comes.

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
            self._unread.add(data)
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
        if data[0] in b"\r\n":
            data = data.lstrip(b"\r\n")  # empty lines before a request are ignored (RFC 9112, 2.2)
        end = data.find(END_OF_HEAD, 0, MAX_HEAD_BYTES)
        try:
            if end < 0:
                check_part_of_head(data)
                self._wait_for_head(data)
            else:
                self._open(Head(data[: end + 4]), data, end + 4)
        except APIError as error:
            self._refuse(error)

    def _wait_for_head(self, data: bytes | bytearray) -> None:
        if data:
            self._unread.put_back(data)
            if not self._in_head:
                self._in_head = True
                self._since = self._loop.time()
                self._timer.expect_by(min(self._timer.deadline, self._since + self.services.read_seconds))

    def _open(self, head: Head, data: bytes | bytearray, start: int) -> None:
        """Begin with the request of a head; its body begins at `start`."""
        self._in_head = False
        self._timer.deadline = NEVER
        exchange = self._new_exchange(head)
        self._exchange = exchange
        end = start + head.length
        if head.chunked or end > len(data):
            self._body = ChunkDecoder() if head.chunked else LengthDecoder(head.length)
            self._discarded = 0
            self._since = self._loop.time()
            exchange.announce(head)
            self._timer.expect_body()
            if start < len(data):
                self._receive_body(exchange, self._body, bytes(data[start:]))
            return
        body = bytes(data[start:end])
        if end < len(data):
            rest = data if isinstance(data, bytearray) else bytearray(data)
            del rest[:end]
            self._unread.put_back(rest)
        exchange.announce(head)
        exchange.complete(body)
        self._next(exchange)

    def _new_exchange(self, head: Head) -> Exchange | AsgiExchange:
        services = self.services
        if self.extra:
            self._ask_to_stay(head)
        routes = services.routes
        handler = routes.exact.get((head.method, head.path)) or routes.below(head.method, head.path)
        if handler is not None:
            return Exchange(self, handler, head, services.max_body_bytes)
        exchange = AsgiExchange(self, head, routes.methods(head.path))
        task = self._loop.create_task(exchange.run(services.app))
        services.tasks.add(task)
        task.add_done_callback(services.tasks.discard)
        return exchange

    def _ask_to_stay(self, head: Head) -> None:
        """Let a connection past the limit serve a request, if there is room by now, or if it is an admin's."""
        services = self.services
        self.extra = not services.connections.make_room_for(self, self._loop.time())
        if self.extra and not services.is_admin(head):
            raise services.connections.too_many()

    def _receive_body(
        self, exchange: Exchange | AsgiExchange, body: LengthDecoder | ChunkDecoder, data: bytes
    ) -> None:
        """Take what has come of a body; what is behind it is kept."""
        try:
            piece = body.decode(data)
            if piece:
                exchange.take(piece)
            if body.ended and body.rest:
                self._unread.put_back(body.rest)
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

    def _refuse(self, error: APIError) -> None:
        """Answer what can't be read, and close the connection; an answer that is under way is cut."""
        exchange = self._exchange
        if exchange is not None and (exchange.started or exchange.response_complete):
            self.transport.abort()
        else:
            self.send(refusal(error))
            self.transport.close()
        self._lose_exchange()

    # After an answer.

    def on_response_complete(self) -> None:
        """Close the connection, or begin with its next request."""
        exchange = self._exchange
        if exchange is not None:
            if not exchange.keep_alive:
                self.transport.close()
            self._next(exchange)
            if exchange.more_body:
                self.flow.resume_reading()  # what the application did not want is read past

    def _next(self, exchange: Exchange | AsgiExchange) -> None:
        """Begin with the next request, if this one has come whole and its answer is written."""
        if exchange.more_body or not exchange.response_complete or exchange is not self._exchange:
            return
        self._exchange = None
        self._known = self._known or PRINCIPAL in exchange.scope
        if self.transport.is_closing():
            return
        self._known = False
        """Whether a request with a good key has come."""
        self._since = self._loop.time()
        """When what its client has still to send or to read began."""
        timer = self._timer
        timer.deadline = self._since + KEEP_ALIVE_SECONDS
        if timer.deadline < timer.look_at:
            timer.expect_by(timer.deadline)
        if self._unread.data:
            self._begin_soon()
        elif self._half_closed:
            self.transport.close()
        else:
            self.flow.resume_reading()

    # What does not come.

    def _late(self, now: float) -> None:
        """Close the connection: its time is over."""
        if self.transport.is_closing():
            return
        exchange, seconds = self._exchange, self.services.read_seconds
        if exchange is not None and self.flow.read_paused:
            self._timer.expect_by(now + seconds)  # it is not the client that is slow
        elif exchange is not None or self._in_head:
            self._refuse(RequestTimeout(f"the rest of the request did not come within {seconds:g} seconds"))
        else:
            self._close_idle(now)

    def _close_idle(self, now: float) -> None:
        """Close a connection without a request, unless its client still reads the last answer."""
        unsent = self.transport.get_write_buffer_size()
        if not unsent:
            self.transport.close()
        elif unsent != self._unsent:
            self._unsent = unsent
            self._timer.expect_by(now + KEEP_ALIVE_SECONDS)
        else:
            self.transport.abort()

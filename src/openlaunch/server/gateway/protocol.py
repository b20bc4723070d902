"""One HTTP/1.1 connection: predict routes are answered here at once, everything else goes to the ASGI application.

A connection has one request at a time. What a client sends behind it stays as bytes until its answer is complete, so
there is no difference between the request that is being received and the one that is being answered, and an error in
what comes later can't reach what came before. A hot request costs no task and no scope of ASGI, and its answer one
write. Of uvicorn, the ASGI cycle is used, and not its server nor its protocol class.
"""

import asyncio
from contextlib import suppress
from typing import Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl

from openlaunch.errors import APIError, BadRequest, HeadTooLarge, RequestTimeout, Unavailable
from openlaunch.server.access.auth import PRINCIPAL
from openlaunch.server.asgi import Scope
from openlaunch.server.bodies import Held
from openlaunch.server.gateway.asgi_exchange import AsgiExchange
from openlaunch.server.gateway.connection_end import (
    CROSSING_SECONDS,
    LINGER_BYTES,
    UNREADABLE_BYTES,
    Farewell,
)
from openlaunch.server.gateway.connections import Rank
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.request_reader import Head
from openlaunch.server.gateway.request_receiver import RequestReceiver
from openlaunch.server.gateway.response import refusal
from openlaunch.server.gateway.write_timer import WriteTimer
from openlaunch_worker.frames import Body

PROBE_SECONDS = 0.1
"""Between the two writes that show whether a client that closed its side has gone."""

FLIGHT_SECONDS = 0.01
"""A part of a request that stays alone for longer is not the first half of two packets that come together."""

KEEP_ALIVE_SECONDS = 75
"""How long a connection without a request stays open."""


MAX_UNSENT_BYTES = 2 * 1024 * 1024
"""Limit on what is counted of the unsent bytes of one connection: more was counted on its way from a worker."""


class HttpProtocol(RequestReceiver):
    """One connection: it answers what it receives, and closes when its client is gone, slow, or not worth its place.

    A client has `read_seconds` for the head of a request, or to send none on a new connection, and for each piece of
    its body; and `write_seconds` to read what it is sent. None of this costs a request that comes in one piece more
    than a comparison.
    """

    def __init__(self, services: HttpServices) -> None:
        super().__init__(services)
        self.bodies = services.bodies
        self.answers = services.answers
        self.turns = services.turns
        self.admit = services.admit
        self.refused = services.counts.refused
        self.opening: asyncio.Task[Any] | None = None
        """Makes the connection, until there is one."""
        self.extra = False
        """Whether the connection is past the limit: it is for admins and scrapes, until there is room for it."""
        self._known = ""
        """The owner of a request that had a good key."""
        self._leaves = False
        """Whether the last answer is written, and what comes is dropped."""
        self._write_timer = WriteTimer(self._loop, services.write_seconds)
        self._unsent: Held | None = None
        """The room that is held for bytes that the client has still to read."""

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
        self._let_go()
        self.flow.resume_writing()
        self._lose_exchange()

    def _let_go(self) -> None:
        if self._unsent is not None:
            self._unsent.resize(0)
            self._unsent = None

    def _lose_exchange(self) -> None:
        exchange, self._exchange, self._body = self._exchange, None, None
        if exchange is not None:
            self.services.lose(exchange)

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
        """Remember that the client is slow; close the connection where too much waits for slow ones."""
        self.flow.pause_writing()
        self._write_timer.start(self.transport)
        exchange, size = self._exchange, self.transport.get_write_buffer_size()
        owner = self._holder if exchange is None else self.holder(exchange.scope)
        self._unsent = Held(self.services.unsent, owner)
        try:
            self._unsent.resize(min(size, MAX_UNSENT_BYTES))
        except Unavailable:
            self._loop.call_soon(self.transport.abort)

    def resume_writing(self) -> None:
        """Let the answer under way continue, or begin with the next request."""
        self.flow.resume_writing()
        self._write_timer.cancel()
        self._let_go()
        if self._exchange is not None:
            self._exchange.writable()
        elif self._unread.data and not self._in_head:
            self._begin_soon()

    def shutdown(self) -> None:
        """Close the connection once the request under way is answered, and one that may be on its way is refused."""
        if self.opening is not None:
            self.opening.cancel()
        elif self._exchange is not None and not self._exchange.response_complete:
            self._exchange.keep_alive = False
        else:
            # A request that crosses this on its way has its answer, by which the client knows that nothing was run.
            # Where none does, the client finds the connection closed before it sends one.
            error = Unavailable("the server is stopping", code="stopping", retry_after=2)
            self._say(refusal(error), Farewell(self, CROSSING_SECONDS, CROSSING_SECONDS))

    def rank(self, now: float) -> Rank | None:
        if self._leaves:
            return (False, False, self._since)
        exchange = self._exchange
        if exchange is not None and (not exchange.more_body or PRINCIPAL in exchange.scope):
            return None
        stalled = (self._in_head or exchange is not None) and now - self._since > FLIGHT_SECONDS
        return (bool(self._known), not stalled, self._since)

    @property
    def busy_for(self) -> str | None:
        exchange = self._exchange
        principal = None if exchange is None else exchange.scope.get(PRINCIPAL)
        return None if principal is None else str(principal.owner)

    def give_way(self, error: Unavailable) -> None:
        self._refuse(error)

    def close_now(self) -> None:
        if self.opening is not None:
            self.opening.cancel()
        else:
            self.transport.abort()
            self._lose_exchange()

    @property
    def _holder(self) -> str:
        return self._known or f"the address {self.client[0] if self.client else None}"

    def holder(self, scope: Scope) -> str:
        """Return the owner of a request, or the client's address where it has no good key."""
        if PRINCIPAL not in scope:
            with suppress(APIError):
                self.admit(scope)
        principal = scope.get(PRINCIPAL)
        return self._holder if principal is None else str(principal.owner)

    def send(self, data: Body | memoryview) -> None:
        """Write to the client, unless the connection is closing; an answer need not look for that."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def _new_exchange(self, head: Head) -> Exchange | AsgiExchange:
        services = self.services
        if self.extra:
            connections, now = services.connections, self._loop.time()
            self.extra = not connections.make_room_for(self, now)
            if self.extra and not services.may_exceed(head):
                owner = services.owner_of(head)
                if owner is None or not connections.take_place_of_most(self, owner, now):
                    raise connections.too_many()
                self.extra = False
        return services.new_exchange(self, head)

    def _refuse(self, error: APIError) -> None:
        exchange = self._exchange
        if exchange is None or not (exchange.started or exchange.response_complete):
            is_http = not isinstance(error, BadRequest | HeadTooLarge)
            farewell = Farewell(self, size=LINGER_BYTES if is_http else UNREADABLE_BYTES)
            self._say(self.services.refuse(self.client, exchange, error), farewell)
        elif exchange.response_complete:
            self._say(b"", Farewell(self))
        else:  # an answer that is under way is cut
            self.transport.abort()
        self._lose_exchange()

    def leave(self) -> None:
        """Close the connection, once the client has what was sent to it."""
        if self._unread.data or (self._exchange is not None and self._exchange.more_body):
            self._say(b"", Farewell(self))
            self._lose_exchange()
        else:
            self.transport.close()

    def _say(self, answer: bytes, farewell: Farewell) -> None:
        """Have the connection end with this answer; nothing further is made of what comes on it."""
        if not self._leaves and not self.transport.is_closing():
            self._leaves = True
            self._timer.cancel()
            self._unread.take()
            farewell.say(self.transport, answer)

    def on_response_complete(self) -> None:
        """Close the connection, or begin with its next request."""
        exchange = self._exchange
        if exchange is not None:
            if not exchange.keep_alive:
                self.leave()
            self._next(exchange)
            if exchange.more_body:
                self.flow.resume_reading()  # what the application did not want is read past

    def _next(self, exchange: Exchange | AsgiExchange) -> None:
        if exchange.more_body or not exchange.response_complete or exchange is not self._exchange:
            return
        self._exchange = None
        if not self._known and PRINCIPAL in exchange.scope:
            self._known = exchange.scope[PRINCIPAL].owner
        if self.transport.is_closing():
            return
        self._since = self._loop.time()
        timer = self._timer
        timer.deadline = self._since + KEEP_ALIVE_SECONDS
        if timer.deadline < timer.look_at:
            timer.expect_by(timer.deadline)
        if self._unread.data:
            self._begin_soon()
        elif self._half_closed:
            self.transport.close()
        elif self.flow.read_paused:
            self.flow.resume_reading()

    def _late(self, now: float) -> None:
        if self.transport.is_closing():
            return
        exchange, seconds = self._exchange, self.services.read_seconds
        if exchange is not None and self.flow.read_paused:
            self._timer.expect_by(now + seconds)  # it is not the client that is slow
        elif exchange is not None or self._in_head:
            self._refuse(RequestTimeout(f"the rest of the request did not come within {seconds:g} seconds"))
        elif self.flow.write_paused:
            self._timer.expect_by(now + KEEP_ALIVE_SECONDS)  # its client still reads, and is watched for that
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

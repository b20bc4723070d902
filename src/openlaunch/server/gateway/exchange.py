"""One request of a hot route: its body is collected within limits, and then its handler is called."""

import logging
from collections.abc import Callable
from typing import Any

from openlaunch.errors import APIError, PayloadTooLarge, UnsupportedMedia
from openlaunch.server.access.auth import PRINCIPAL
from openlaunch.server.asgi import (
    HARMLESS,
    INVALID_JSON,
    STRANGERS_BYTES,
    Scope,
    check_encoding,
    request_id_of,
    server_fault,
)
from openlaunch.server.bodies import FREE_BYTES, Held
from openlaunch.server.gateway.request_reader import Head
from openlaunch.server.gateway.response import JSON, Connection, Response
from openlaunch.server.logs import about
from openlaunch.server.prediction.results import with_request_id
from openlaunch_worker.files import PARTS
from openlaunch_worker.frames import LARGE_BYTES, Body

log = logging.getLogger(__name__)

_PARTS = {"content-type": PARTS, **HARMLESS}

TURN_BYTES = 4096
"""A larger body is taken up in its owner's turn: to parse and check one of 100 KiB takes some 10 ms.

Turns cost small requests: with bodies of 2 KiB, 13 % of the CPU at 32 connections.
"""

FAILED = "openlaunch.failed"
"""In the scope of a request whose answer, with status 200, is that the model failed."""


class Exchange(Response):
    """One request of a hot route, and its answer."""

    __slots__ = (
        *("_admitted", "_handler", "_limit", "_received"),
        *("body", "more_body", "outlives_client", "reads_parts", "scope"),
    )

    def __init__(self, connection: Connection, handler: "HotHandler", head: Head, limit: int) -> None:
        super().__init__(connection, chunked=head.is_1_1, keep_alive=head.keep_alive)
        self.scope: Scope = {
            "headers": head.headers,
            "query_string": head.query,
            "raw_path": head.path,
            "scheme": connection.scheme,
            "server": connection.server,
        }
        self.body: Body = b""
        self.more_body = True
        self.reads_parts = head.reads_parts
        """Whether bytes within its answer may be in front of the JSON, as our client reads them."""
        self.outlives_client = False
        """Whether its task works on the body, and so holds it, when the client is gone."""
        self._handler = handler
        self._limit = limit
        self._received: bytearray | None = None
        self._admitted = False

    def announce(self, head: Head) -> None:
        """Refuse a body that is announced as too large, or of a stranger's; ask for one that waits for that."""
        if head.length > self._limit:
            self.fail(PayloadTooLarge(f"the body has {head.length} bytes, the limit is {self._limit} bytes"))
        elif head.length > STRANGERS_BYTES:
            self._admit()
        if head.expects_continue and not self.response_complete:
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def take(self, data: bytes) -> None:
        """Keep a piece of the body."""
        if self.response_complete:
            return
        if self._received is None:
            self._received = bytearray(data)
        else:
            self._received += data
        size = len(self._received)
        if size > self._limit:
            self._refuse_body(PayloadTooLarge(f"the body has over {self._limit} bytes, which is the limit"))
        elif size > STRANGERS_BYTES:
            self._hold(size)

    def fail(self, error: APIError) -> None:
        """Answer with a problem document, unless an answer has begun."""
        if error.code == INVALID_JSON:
            try:
                check_encoding(
                    self.scope
                )  # only now: no compressed body is JSON, and most requests have neither
            except UnsupportedMedia as encoded:
                error = encoded
        super().fail(error)

    def _hold(self, size: int) -> None:
        """Keep a large body, if it is of somebody who may send one and there is room for it."""
        if not self._admitted:
            self._admit()
        if not self.response_complete:
            self._count(size)

    def _count(self, size: int) -> bool:
        """Return whether there is room for a body; refuse the request if not."""
        try:
            if self._held is None:
                self._held = Held(self._connection.bodies, self._connection.holder(self.scope))
            self._held.resize(size)
        except APIError as error:
            self._refuse_body(error)
            return False
        return True

    def _admit(self) -> None:
        self._admitted = True
        try:
            self._connection.admit(self.scope)
        except APIError as error:
            self._refuse_body(error)

    def _refuse_body(self, error: APIError) -> None:
        self._received = None
        self.fail(error)

    def complete(self, body: Body | None = None) -> None:
        """Run the handler: the body is there, in this piece or in those before it."""
        self.more_body = False
        if self.response_complete or self.disconnected:
            return
        if body is None:
            received, self._received = self._received, None
            body = b"" if received is None else _whole(received)
        elif len(body) > FREE_BYTES and not self._count(len(body)):
            return
        self.body = body
        if len(body) > TURN_BYTES:
            self.in_turn(self._handler, self)
            return
        try:
            self._handler(self)
        except Exception as fault:
            self._fail_by(fault)

    @property
    def limit(self) -> int:
        """How many bytes a body may have."""
        return self._limit

    def inflated(self, body: Body) -> None:
        """Put this in the place of the body as it came; raise Unavailable if there is no room for it."""
        self.hold(len(body))
        self.body = body

    def hold(self, size: int) -> None:
        """Count this as the size of the body from now on; raise Unavailable if there is no room for it."""
        if self._held is None:
            self._held = Held(self._connection.bodies, self._connection.holder(self.scope))
        self._held.resize(size)

    def gone(self) -> None:
        """Cancel the work for a client that went away."""
        if not self.response_complete:
            self.disconnected = True
            self.on_gone()
        if not self.outlives_client:
            self.let_go()

    @property
    def request_id(self) -> str:
        return request_id_of(self.scope)

    def respond_binary(self, payload: Body) -> None:
        """Answer with bytes and their media type, which are behind them."""
        payload, _ = split_binary(payload)  # that was asked for, whatever a worker says
        self._respond(200, _PARTS, payload)

    def respond_failed(self, body: bytes) -> None:
        """Answer with the failure of a model; the answer names the request, as the endpoint's log does."""
        request_id = self.request_id
        self.scope[FAILED] = True
        self._respond(200, {**JSON, "x-request-id": request_id}, with_request_id(body, request_id))

    @property
    def owner(self) -> str:
        principal = self.scope.get(PRINCIPAL)
        return "" if principal is None else str(principal.owner)

    @property
    def whole_scope(self) -> Scope:
        """The scope with the address of the client, which few requests need."""
        return {**self.scope, "client": self._connection.client}

    def writable(self) -> None:
        """Continue an answer that waited for the connection to take bytes."""
        self.on_writable()

    def in_turn(self, call: Callable[..., None], *args: Any) -> None:
        """Make a call as `guarded` does, in the owner's turn: predictions wait for one and not for hundreds."""

        def step() -> None:
            if not self.disconnected and not self.response_complete:
                self.guarded(call, *args)

        self._connection.turns.take(self._connection.holder(self.scope), step)

    def guarded(self, call: Callable[..., None], *args: Any) -> None:
        """Make a call; what it raises is the answer."""
        try:
            call(*args)
        except Exception as fault:
            self._fail_by(fault)

    def _fail_by(self, fault: Exception) -> None:
        if isinstance(fault, APIError):
            self.fail(fault)
        else:
            with about(self.scope):
                self.fail(server_fault(log, fault, self.request_id))


def split_binary(payload: Body) -> tuple[Body, str]:
    """Return the bytes of an answer, and their media type, which is behind them."""
    end = len(payload) - 1 - payload[-1]
    media_type = bytes(payload[end:-1]).decode("latin-1")
    if isinstance(payload, bytearray):
        del payload[end:]
        return payload, media_type
    return payload[:end], media_type


def _whole(received: bytearray) -> Body:
    """Return a body, all of which has come. A large one is not copied, which would hold up the event loop."""
    return received if len(received) >= LARGE_BYTES else bytes(received)


HotHandler = Callable[[Exchange], None]
"""Begins with a request whose body is there; what it raises is the answer."""

"""One request of a hot route: its body is collected within limits, and then its handler is called."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar

from openlaunch.errors import APIError, PayloadTooLarge, ServerError
from openlaunch.server.asgi import STRANGERS_BYTES, Scope, header
from openlaunch.server.gateway.response import Connection, Response

log = logging.getLogger(__name__)


class Exchange(Response):
    """One request of a hot route, and its answer."""

    __slots__ = (
        "_admitted",
        "_handler",
        "_in_turn",
        "_limit",
        "_pieces",
        "_size",
        "body",
        "more_body",
        "scope",
    )

    message_event: ClassVar = asyncio.Event()
    """Set by uvicorn for its own cycles; nobody waits for this one."""

    def __init__(
        self,
        connection: Connection,
        handler: "HotHandler",
        scope: Scope,
        *,
        limit: int,
        chunked: bool,
        keep_alive: bool,
        in_turn: bool,
    ) -> None:
        super().__init__(connection, chunked=chunked, keep_alive=keep_alive)
        self.scope = scope
        self.body = b""
        self.more_body = True
        self._handler = handler
        self._limit = limit
        self._in_turn = in_turn
        self._pieces: list[bytes] = []
        self._size = 0
        self._admitted = False

    def announce(self, expects_continue: bool) -> None:
        """The head of the request is there: refuse a body that is announced as too large, or ask for it."""
        announced = header(self.scope, b"content-length")
        if announced is not None and int(announced) > self._limit:
            self.fail(
                PayloadTooLarge(f"the body has {int(announced)} bytes, the limit is {self._limit} bytes")
            )
            return
        if announced is not None and int(announced) > STRANGERS_BYTES:
            self._admit()
        if expects_continue and not self.response_complete:
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def take(self, data: bytes) -> None:
        """A piece of the body."""
        if not self.response_complete:
            self._pieces.append(data)
            self._size += len(data)
            if self._size > self._limit:
                self.fail(PayloadTooLarge(f"the body has over {self._limit} bytes, which is the limit"))
                self._pieces.clear()
            elif self._size > STRANGERS_BYTES and self._in_turn:
                self._hold()

    def _hold(self) -> None:
        """Keep a large body, if there is room for it and it is of somebody who may send one."""
        if not self._admitted:
            self._admit()
        if not self.response_complete:
            try:
                self._connection.bodies.take(self._size - self._held)
                self._held = self._size
            except APIError as error:
                self._refuse_body(error)

    def _admit(self) -> None:
        """See to it that the body is of somebody's who may send one, before more of it is kept."""
        self._admitted = True
        try:
            self._connection.admit(self.scope)
        except APIError as error:
            self._refuse_body(error)

    def _refuse_body(self, error: APIError) -> None:
        self.fail(error)
        self._pieces.clear()

    def complete(self) -> None:
        """The body is there."""
        self.more_body = False
        self.body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        if self._in_turn:
            self._run()

    def begin(self) -> None:
        """The answers to the requests before this one, which was pipelined, are complete."""
        self._in_turn = True
        if not self.more_body:
            self._run()

    def _run(self) -> None:
        if not self.response_complete and not self.disconnected:
            self.guarded(self._handler, self)

    def guarded(self, call: Callable[..., None], *args: Any) -> None:
        """Make a call, and answer with what it raises."""
        try:
            call(*args)
        except APIError as error:
            self.fail(error)
        except Exception:
            log.exception("a prediction failed in the gateway")
            self.fail(ServerError("the server failed on this request; its log has the traceback"))


HotHandler = Callable[[Exchange], None]
"""Begins with a request whose body is there; what it raises is the answer."""

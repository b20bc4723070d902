"""Connections to an HTTP server of the bundle's own, on the event loop; they are kept for further requests."""

import asyncio
import select
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol, cast

from openlaunch_worker.failures import Refusal, Unserved
from openlaunch_worker.frames import COPY_BYTES
from openlaunch_worker.http_body import BodyError
from openlaunch_worker.http_response import ResponseParser

IDLE_SECONDS: Final = 2.0
"""How long a connection is kept unused. Servers close theirs after 5 s and more, and what is sent then is lost."""

HELD_BYTES: Final = 256 * 1024
"""How much of an answer waits here to be read, before its server has to wait."""

_HOST: Final = "127.0.0.1"
_BAD_GATEWAY: Final = 502


class Receiver(Protocol):
    """Gets the answer to a request as it comes."""

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Take the head, which comes first."""
        ...

    def body(self, data: bytes) -> None:
        """Take a part of the body."""
        ...

    def whole(self) -> None:
        """Note that all of it has come."""
        ...

    def broken(self, reason: str) -> None:
        """Note that no more will come; the reason is words after the name of the server."""
        ...


class Answer:
    """Gets an answer that is read as it comes."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connection: Connection | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self._is_paused = False
        self._is_over = False
        self._reason = ""
        self._news = asyncio.Event()

    @property
    def is_framed(self) -> bool:
        """Whether the answer says itself where it ends, and not the end of its connection alone."""
        return "transfer-encoding" in self.headers or "content-length" in self.headers

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers
        self._news.set()

    def body(self, data: bytes) -> None:
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= HELD_BYTES and self._connection is not None:
            self._is_paused = True
            self._connection.pause()
        self._news.set()

    def whole(self) -> None:
        self._is_over = True
        self._news.set()

    def broken(self, reason: str) -> None:
        self._reason = reason
        self.whole()

    async def begun(self, connection: "Connection") -> None:
        """Wait for the head of the answer that comes on this connection. Raise `BodyError` where none comes."""
        self._connection = connection
        while not self.status:
            if self._is_over:
                raise BodyError(self._reason)
            await self._next()

    async def piece(self) -> bytes | None:
        """Return what has come since, or None at the end. Raise `BodyError` where the answer is not whole."""
        while not self._waiting:
            if self._reason:
                raise BodyError(self._reason)
            if self._is_over:
                return None
            await self._next()
        waiting, self._waiting, self._size = self._waiting, [], 0
        if self._is_paused and self._connection is not None:
            self._is_paused = False
            if not self._is_over:
                self._connection.resume()
        return waiting[0] if len(waiting) == 1 else b"".join(waiting)

    async def _next(self) -> None:
        self._news.clear()
        await self._news.wait()

    def leave(self) -> None:
        """Close the connection, unless all of the answer has come."""
        if not self._is_over and self._connection is not None:
            self._is_over = True
            self._connection.close()


class Upstream:
    """A server on a port of this machine, which errors call `name`, and the connections to it that are free."""

    def __init__(self, name: str, port: int) -> None:
        self._name = name
        self._port = port
        self._free: list[Connection] = []

    async def post(self, route: str, content_type: str, body: bytes, receiver: Receiver) -> "Connection":
        """Send a request once, of which the receiver gets the answer.

        Raises:
            Unserved: nothing listens there any longer.
            Refusal: no connection can be made.
        """
        connection = self.post_now(route, content_type, body, receiver)
        if connection is None:
            try:
                connection = await self._connect()
            except ConnectionRefusedError:
                raise Unserved(f"nothing listens on the port of {self._name} any longer") from None
            except OSError as error:
                raise Refusal(f"{self._name} does not take connections: {error}", _BAD_GATEWAY) from None
            connection.send(self._head(route, content_type, body), body, receiver)
        return connection

    def post_now(self, route: str, content_type: str, body: bytes, receiver: Receiver) -> "Connection | None":
        """Do the same where a connection is free; None: there is none, and nothing is sent."""
        connection = self._take()
        if connection is not None:
            connection.send(self._head(route, content_type, body), body, receiver)
        return connection

    def _head(self, route: str, content_type: str, body: bytes) -> bytes:
        head = (
            f"POST {route} HTTP/1.1\r\nhost: {_HOST}:{self._port}\r\ncontent-type: {content_type}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        return head.encode("latin-1")

    def _take(self) -> "Connection | None":
        while self._free:
            connection = self._free.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    async def _connect(self) -> "Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self._free.append), _HOST, self._port)
        return connection


class Connection(asyncio.Protocol):
    """One connection, with one request at a time. `on_free` is called with it when it can have the next."""

    def __init__(self, on_free: Callable[["Connection"], None]) -> None:
        self._on_free = on_free
        self._receiver: Receiver | None = None
        self._response = ResponseParser()
        self._freed_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base class
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def is_usable(self) -> bool:
        if self._transport.is_closing() or monotonic() - self._freed_at >= IDLE_SECONDS:
            return False
        return not self._poll.poll(0)  # the loop may not have seen yet that the server has closed it

    def send(self, head: bytes, body: bytes, receiver: Receiver) -> None:
        self._response = ResponseParser()
        self._receiver = receiver
        if len(body) < COPY_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def pause(self) -> None:
        """Read nothing more for now, which slows the server down."""
        self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Break the request off: its receiver hears nothing more."""
        self._receiver = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        receiver, response = self._receiver, self._response
        if receiver is None:  # what was not asked for
            self._transport.abort()
            return
        had_head = response.status
        try:
            body = response.feed(data)
        except BodyError as error:
            self.close()
            receiver.broken(str(error))
            return
        if not had_head and response.status:
            receiver.head(response.status, response.headers)
        if body:
            receiver.body(body)
        if response.is_done and self._receiver is not None:
            self._end(receiver)

    def _end(self, receiver: Receiver) -> None:
        self._receiver = None
        if self._response.is_kept:
            self.resume()  # the receiver may have paused at the very end
            self._freed_at = monotonic()
            self._on_free(self)
        else:
            self._transport.abort()
        receiver.whole()

    def connection_lost(self, exc: Exception | None) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        try:
            if exc is not None and not self._response.is_done:
                raise BodyError(f"its answer was cut short: {type(exc).__name__}: {exc}")
            self._response.end()
        except BodyError as error:
            receiver.broken(str(error))
        else:
            receiver.whole()

"""The lean transport: HTTP/1.1 over keep-alive connections.

A prediction's own time is often well under a millisecond, so what the client adds is seen. This way costs a
fraction of a general HTTP client's time. It knows no proxies: `routing` sends what needs one another way. Both
clients run this text; `sockets` has the part in which they differ.
"""

import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import urlsplit

from openlaunch.client.effects import Request, Response
from openlaunch.client.http11 import (
    Head,
    HTTPError,
    Incoming,
    UnusableAnswer,
    header_block,
    request_head,
)
from openlaunch.client.retry import TransportFailure
from openlaunch.client.sockets import Network, Socket
from openlaunch.client.transport import (
    CONNECT_SECONDS,
    IDLE_SECONDS,
    MAX_IDLE,
    Target,
    check_answer,
    check_size,
)
from openlaunch.wire import routes
from openlaunch.wire.sse import BEAT

LOST_BEATS = 2.5
"""A server that has sent nothing for this many of the beats that it promises stands still."""

LOOK_SECONDS = LIVES_SECONDS = 1.5
"""After how long without an answer a server is asked whether it does anything, and how long it has to say so."""
LIVED_SECONDS = 0.5
"""How long what it has said holds for further requests."""

JOIN_BYTES = 64 * 1024
"""Up to here a body is sent together with its head, which is copied for that."""


class Connection:
    """One connection and the answer that comes over it."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self.seconds = 0.0
        """How long nothing may come."""
        self._incoming = Incoming()
        self.idle_since = 0.0
        self.foreign = False

    async def exchange(
        self, data: bytes, rest: bytes, seconds: float, lives: Callable[[], Awaitable[bool]] | None = None
    ) -> tuple[Head, bytes]:
        """Send a request in two parts; give the head of its answer, and what has come of the body.

        `seconds` may pass without any byte sent or received, here and in `read`. `lives` says whether the server
        does anything while it does not answer; where it does not, there is no progress.

        Raises:
            OSError: it broke, or there was no progress in time.
            HTTPError: the answer is not HTTP/1.1.
        """
        self.seconds = seconds
        incoming = self._incoming = Incoming()
        await self._socket.send(data, seconds)
        if rest:
            await self._socket.send(rest, seconds)
        piece = incoming.feed(await self._first(seconds, lives))
        while incoming.head is None:
            piece = incoming.feed(await self._socket.receive(seconds))
        return incoming.head, piece

    async def _first(self, seconds: float, lives: Callable[[], Awaitable[bool]] | None) -> bytes:
        while lives is not None and seconds > LOOK_SECONDS:
            try:
                return await self._socket.receive(LOOK_SECONDS)
            except TimeoutError as error:
                if error.errno is not None:
                    raise
                if not await lives():
                    raise OSError("it stands still, and does not answer other requests either") from error
            seconds -= LOOK_SECONDS
        return await self._socket.receive(seconds)

    async def read(self) -> bytes:
        """Give the next piece of the body; nothing at its end.

        Raises:
            OSError: the connection broke, or there was no progress in time.
            HTTPError: the body is not framed as in HTTP/1.1.
        """
        if self.foreign:
            raise RuntimeError(
                "this answer is read by the process that this one was forked from: predict here again"
            )
        while not self._incoming.ended:
            piece = self._incoming.feed(await self._socket.receive(self.seconds))
            if piece:
                return piece
        return b""

    async def whole(self, piece: bytes, request: Request) -> bytes:
        """Give the body, of which a piece is there.

        Raises:
            PayloadTooLarge: it is larger than the request takes.
            OSError, HTTPError: as `read` does.
        """
        pieces, size = [piece], len(piece)
        while piece := await self.read():
            pieces.append(piece)
            size += len(piece)
            check_size(size, request)
        return b"".join(pieces)

    @property
    def ended(self) -> bool:
        return self._incoming.ended

    @property
    def reusable(self) -> bool:
        """Whether another request can be sent, now that the answer has been read to its end."""
        return self._incoming.reusable

    def usable(self, now: float) -> bool:
        """Return whether a kept connection is still open and quiet: one with unread bytes has gone wrong."""
        return now - self.idle_since <= IDLE_SECONDS and self._socket.quiet()

    def close(self) -> None:
        if not self.foreign:
            self._socket.close()

    def forget(self) -> None:
        """Leave the connection to the process that this one was forked from."""
        self.foreign = True
        self._socket.forget()


class Pool:
    """Connections to one server: a bounded number at a time, some kept for the next request."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._idle: deque[Connection] = deque()
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._closed = False

    async def take(self) -> Connection:
        """Give a kept connection or a new one; the caller gives it back or discards it.

        A kept one was open a moment ago. If it closes after bytes were written to it, the server may have got them.

        Raises:
            OSError: the server refuses, is too slow, or all connections are in use.
            RuntimeError: the client is closed.
        """
        if self._closed:
            raise RuntimeError("the client is closed")
        await self._network.take_slot()
        try:
            return self._kept() or await self._new()
        except BaseException:
            self._network.free_slot()
            raise

    async def _new(self) -> Connection:
        connection = Connection(await self._network.connect())
        self._open.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        """Take a connection whose answer has been read to its end; keep it where it can be used again."""
        if not connection.reusable:
            self.discard(connection)
            return
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._closed or len(self._idle) > MAX_IDLE:
            self._idle.popleft().close()
        self._network.free_slot()

    def discard(self, connection: Connection) -> None:
        if not connection.foreign:
            connection.close()
            self._network.free_slot()

    def _kept(self) -> Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.usable(time.monotonic()):
                return connection
            connection.close()

    async def close(self) -> None:
        """Close what is kept; what is in use closes when it is given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def forget(self) -> None:
        """Begin anew in a forked process: what is open belongs to its parent."""
        for connection in list(self._open):
            connection.forget()
        self._idle, self._open = deque(), weakref.WeakSet()
        self._network.forget()


class LeanTransport:
    """Sends requests to the server over connections that are kept.

    Args:
        target: the server.
        pool: gives the connections, those of the running event loop where there is one.
        close: closes all of them.
    """

    def __init__(
        self, target: Target, pool: Callable[[], Pool], close: Callable[[], Awaitable[None]]
    ) -> None:
        parts = urlsplit(target.address.url)
        self._target = target
        self._moves_on = target.connect_seconds < CONNECT_SECONDS
        """Whether there is another server, to which requests go where this one stands still."""
        self._lived_at = 0.0
        self._host = parts.netloc
        self._prefix = parts.path
        self._block = self._head_of(Request("POST", "/", b"{}", prediction=True))
        self._pool = pool
        self._close = close

    async def send(self, request: Request) -> Response:
        body = request.body or b""
        block = self._head_of(request) if request.headers or request.signed else self._block
        data, rest = request_head(request.method, self._prefix + request.url, block, len(body)), b""
        if len(body) <= JOIN_BYTES:
            data += body
        else:
            rest = body
        pool = self._pool()
        try:
            connection = await pool.take()
        except OSError as error:
            raise self._target.no_connection(error or "no connection in time") from error
        try:
            lives = self._lives if self._moves_on else None
            head, piece = await connection.exchange(data, rest, self._target.seconds(request), lives)
            if head.status < 300:
                check_answer(head.status, head.headers, request)
            if request.stream and head.status < 300:
                if (beat := head.headers.get(BEAT, "")).isdecimal():
                    connection.seconds = min(connection.seconds, LOST_BEATS * int(beat))
                    request = replace(request, timeout=connection.seconds)
                stream = LeanBody(self, pool, request, connection, piece)
                return Response(head.status, head.headers, stream=stream)
            if not connection.ended:
                piece = await connection.whole(piece, request)
            check_size(len(piece), request)
            pool.give_back(connection)
            return Response(head.status, head.headers, piece)
        except (OSError, HTTPError, UnusableAnswer) as error:
            pool.discard(connection)
            raise self.failure(request, error) from error
        except BaseException:
            pool.discard(connection)
            raise

    async def _lives(self) -> bool:
        """Ask the server over another connection whether it does anything, for all requests that wait there."""
        if time.monotonic() - self._lived_at < LIVED_SECONDS:
            return True
        pool = self._pool()
        try:
            connection = await pool.take()
        except TimeoutError:  # all are in use
            return True
        except OSError:
            return False
        try:
            head = request_head("GET", self._prefix + routes.HEALTHZ, self._block, 0)
            await connection.exchange(head, b"", LIVES_SECONDS)
        except (OSError, HTTPError):
            return False
        finally:
            pool.discard(connection)
        self._lived_at = time.monotonic()
        return True

    def _head_of(self, request: Request) -> bytes:
        return header_block(self._headers(request))

    def _headers(self, request: Request) -> dict[str, str]:
        return {"host": self._host, **self._target.headers_of(request)}

    def failure(self, request: Request, error: Exception) -> TransportFailure:
        """Say what an error on the connection means for the request."""
        if isinstance(error, TimeoutError) and error.errno is None:  # with one, the connection itself is lost
            return self._target.too_slow(request)
        if isinstance(error, UnusableAnswer):
            return self._target.unusable(error)
        return self._target.no_answer(error, request)

    async def close(self) -> None:
        await self._close()


class LeanBody:
    """The body of an answer as it comes."""

    def __init__(
        self, transport: LeanTransport, pool: Pool, request: Request, connection: Connection, piece: bytes
    ) -> None:
        self._transport = transport
        self._pool = pool
        self._request = request
        self._connection: Connection | None = connection
        self._piece = piece

    async def read(self) -> bytes:
        connection = self._connection
        if connection is None:
            return b""
        piece, self._piece = self._piece, b""
        try:
            piece = piece or await connection.read()
        except (OSError, HTTPError) as error:
            await self.close()
            raise self._transport.failure(self._request, error) from error
        if not piece and self._connection is not None:
            self._connection = None
            self._pool.give_back(connection)
        return piece

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.discard(connection)

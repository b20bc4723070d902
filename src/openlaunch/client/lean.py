"""The lean transport: HTTP/1.1 over keep-alive connections, for predictions.

A prediction's own time is often well under a millisecond, so what the client adds is seen. This way costs a
fraction of a general HTTP client's time. It knows no proxies and no redirects: `routing` sends what needs
those another way. Both clients run this text; `sockets` has the part in which they differ.
"""

import time
from collections import deque
from urllib.parse import urlsplit

from openlaunch.client.effects import Request, Response
from openlaunch.client.http11 import Head, HTTPError, Incoming, header_block, request_head
from openlaunch.client.retry import TransportFailure
from openlaunch.client.sockets import Network, Socket
from openlaunch.client.transport import IDLE_SECONDS, MAX_IDLE, Target


class Connection:
    """One connection and the answer that comes over it."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._seconds = 0.0
        self._incoming = Incoming()
        self.idle_since = 0.0

    async def exchange(self, data: bytes, seconds: float) -> tuple[Head, bytes]:
        """Send a request; give the head of its answer, and what has come of the body.

        `seconds` may pass without any byte sent or received, here and in `read`.

        Raises:
            OSError: it broke, or there was no progress in time.
            HTTPError: the answer is not HTTP/1.1.
        """
        self._seconds = seconds
        incoming = self._incoming = Incoming()
        await self._socket.send(data, seconds)
        piece = incoming.feed(await self._socket.receive(seconds))
        while incoming.head is None:
            piece = incoming.feed(await self._socket.receive(seconds))
        return incoming.head, piece

    async def read(self) -> bytes:
        """Give the next piece of the body; nothing at its end.

        Raises:
            OSError: the connection broke, or there was no progress in time.
            HTTPError: the body is not framed as in HTTP/1.1.
        """
        while not self._incoming.ended:
            piece = self._incoming.feed(await self._socket.receive(self._seconds))
            if piece:
                return piece
        return b""

    async def rest(self) -> bytes:
        """Give what is still to come of the body; raises what `read` does."""
        pieces = []
        while piece := await self.read():
            pieces.append(piece)
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
        self._socket.close()


class Pool:
    """Connections to one server: a bounded number at a time, some kept for the next request."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._idle: deque[Connection] = deque()
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
            return self._kept() or Connection(await self._network.connect())
        except BaseException:
            self._network.free_slot()
            raise

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

    def close(self) -> None:
        """Close what is kept; what is in use closes when it is given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class LeanTransport:
    """Sends requests to the server over connections that it keeps; signed ones are not for it."""

    def __init__(self, target: Target, network: Network) -> None:
        parts = urlsplit(target.address.url)
        self._target = target
        self._host = parts.netloc
        self._prefix = parts.path
        self._block = header_block(self._headers(Request("POST", "/", b"{}")))
        self.pool = Pool(network)

    async def send(self, request: Request) -> Response:
        body = request.body or b""
        block = header_block(self._headers(request)) if request.headers else self._block
        data = request_head(request.method, self._prefix + request.url, block, len(body)) + body
        try:
            connection = await self.pool.take()
        except OSError as error:
            raise self._target.no_connection(error or "no connection in time") from error
        try:
            head, piece = await connection.exchange(data, self._target.seconds(request))
            if request.stream and head.status < 300:
                stream = LeanBody(self, request, connection, piece)
                return Response(head.status, head.headers, stream=stream)
            if not connection.ended:
                piece += await connection.rest()
            self.pool.give_back(connection)
            return Response(head.status, head.headers, piece)
        except (OSError, HTTPError) as error:
            self.pool.discard(connection)
            raise self.failure(request, error) from error
        except BaseException:
            self.pool.discard(connection)
            raise

    def _headers(self, request: Request) -> dict[str, str]:
        return {"host": self._host, **self._target.headers_of(request)}

    def failure(self, request: Request, error: Exception) -> TransportFailure:
        """Say what an error on the connection means for the request."""
        if isinstance(error, TimeoutError):
            return self._target.too_slow(request)
        return self._target.no_answer(error)

    async def close(self) -> None:
        self.pool.close()


class LeanBody:
    """The body of an answer as it comes."""

    def __init__(
        self, transport: LeanTransport, request: Request, connection: Connection, piece: bytes
    ) -> None:
        self._transport = transport
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
            self._transport.pool.give_back(connection)
        return piece

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.pool.discard(connection)

"""The awaitable client's lean transport: the same as `lean`, over asyncio's streams."""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

from openlaunch.client.effects import Request, Response
from openlaunch.client.http11 import (
    MAX_HEAD_BYTES,
    Framing,
    Head,
    HTTPError,
    chunk_size,
    header_block,
    parse_head,
    request_head,
)
from openlaunch.client.lean import StaleConnection
from openlaunch.client.retry import TransportFailure
from openlaunch.client.transport import (
    CONNECT_SECONDS,
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    MAX_IDLE,
    Target,
    tls_context,
)

_PIECE = 64 * 1024


class AsyncConnection:
    """One connection; used by one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.used = False
        self.idle_since = 0.0

    async def exchange(self, head: bytes, body: bytes) -> Head:
        """Send a request and read the head of its answer; raises what `lean.Connection.exchange` does."""
        kept, self.used = self.used, True
        try:
            self._writer.write(head + body)
            await self._writer.drain()
            answer = await self._head()
        except (BrokenPipeError, ConnectionResetError) as error:
            if kept:
                raise StaleConnection from error
            raise
        while answer.status < 200:
            answer = await self._head()
        return answer

    async def _head(self) -> Head:
        try:
            return parse_head(await self._reader.readuntil(b"\r\n\r\n"))
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise HTTPError("the connection was closed within an answer's headers") from None
            raise ConnectionResetError("it was closed without an answer") from None
        except asyncio.LimitOverrunError:
            raise HTTPError(f"the answer's headers are larger than {MAX_HEAD_BYTES} bytes") from None

    async def body(self, head: Head) -> AsyncIterator[bytes]:
        """The pieces of the body that follows this head; raises what `lean.Connection.body` does."""
        try:
            if head.framing is Framing.LENGTH:
                if head.length:
                    yield await self._reader.readexactly(head.length)
            elif head.framing is Framing.CHUNKED:
                while left := chunk_size(await self._reader.readline()):
                    while left:
                        data = await self._reader.read(min(left, _PIECE))
                        if not data:
                            raise ConnectionResetError(
                                f"it was closed {left} bytes before the end of a chunk"
                            )
                        left -= len(data)
                        yield data
                    await self._reader.readline()
                while await self._reader.readline() not in (b"\r\n", b"\n", b""):
                    pass  # trailers
            else:
                while piece := await self._reader.read(_PIECE):
                    yield piece
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError(f"it was closed after {len(error.partial)} bytes of a body") from None

    def usable(self, now: float) -> bool:
        """Whether a kept connection is still open."""
        return now - self.idle_since <= IDLE_SECONDS and not (
            self._reader.at_eof() or self._writer.is_closing()
        )

    def close(self) -> None:
        """Close it at once; harmless when called twice."""
        self._writer.transport.abort()


class AsyncPool:
    """Connections to one server, of one event loop."""

    def __init__(self, url: str, limit: int = MAX_CONNECTIONS, *, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port or (443 if self._secure else 80)
        self._slots = asyncio.Semaphore(limit)
        self._idle: deque[AsyncConnection] = deque()
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    async def take(self) -> AsyncConnection:
        """A kept connection or a new one; raises what `lean.Pool.take` does."""
        if self._closed:
            raise RuntimeError("the client is closed")
        async with asyncio.timeout(CONNECT_SECONDS):
            await self._slots.acquire()
        try:
            return self._kept() or await self._new()
        except BaseException:
            self._slots.release()
            raise

    def give_back(self, connection: AsyncConnection) -> None:
        """Keep a connection whose answer has been read to its end."""
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._closed or len(self._idle) > MAX_IDLE:
            self._idle.popleft().close()
        self._slots.release()

    def discard(self, connection: AsyncConnection) -> None:
        """Close a connection that can't be used any more."""
        connection.close()
        self._slots.release()

    def _kept(self) -> AsyncConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable(time.monotonic()):
                return connection
            connection.close()
        return None

    async def _new(self) -> AsyncConnection:
        if self._secure and self._tls is None:
            self._tls = tls_context(self._ca_file)
        async with asyncio.timeout(CONNECT_SECONDS):
            # TCP_NODELAY is asyncio's own default.
            reader, writer = await asyncio.open_connection(
                self._host, self._port, ssl=self._tls, limit=MAX_HEAD_BYTES
            )
        return AsyncConnection(reader, writer)

    def close(self) -> None:
        """Close what is kept; what is in use closes when it is given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class AsyncLeanTransport:
    """Sends requests to the server's own address; signed ones, which may go elsewhere, are not for it."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.address.url)
        self._target = target
        self._host = parts.netloc
        self._prefix = parts.path
        self._block = header_block(self._headers(Request("POST", "/", b"{}")))
        self._pool = AsyncPool(target.address.url, ca_file=target.ca_file)

    async def send(self, request: Request) -> Response:
        """Send a request once and give the answer."""
        body = request.body or b""
        block = header_block(self._headers(request)) if request.headers else self._block
        head = request_head(request.method, self._prefix + request.url, block, len(body))
        while True:
            connection = await self._take(request)
            try:
                async with asyncio.timeout(self._target.seconds(request)):
                    answer = await connection.exchange(head, body)
                    return await self._response(request, connection, answer)
            except StaleConnection:
                self._pool.discard(connection)
            except (OSError, ValueError) as error:
                self._pool.discard(connection)
                raise self.failure(request, error) from error
            except BaseException:
                self._pool.discard(connection)
                raise

    def _headers(self, request: Request) -> dict[str, str]:
        return {"host": self._host, **self._target.headers_of(request)}

    async def _take(self, request: Request) -> AsyncConnection:
        try:
            return await self._pool.take()
        except OSError as error:
            raise self._target.no_connection(request, error or "no connection in time") from error

    async def _response(self, request: Request, connection: AsyncConnection, head: Head) -> Response:
        if request.stream and head.status < 400:
            return Response(
                head.status, head.headers, stream=AsyncLeanStream(self, request, connection, head)
            )
        body = b"".join([piece async for piece in connection.body(head)])
        self.finish(connection, head)
        return Response(head.status, head.headers, body)

    def finish(self, connection: AsyncConnection, head: Head) -> None:
        """Keep or close the connection of an answer that has been read to its end."""
        if head.keep_alive:
            self._pool.give_back(connection)
        else:
            self._pool.discard(connection)

    def discard(self, connection: AsyncConnection) -> None:
        """Close the connection of an answer that has not been read to its end."""
        self._pool.discard(connection)

    def failure(self, request: Request, error: Exception) -> TransportFailure:
        """What an error on the connection means for the request."""
        if isinstance(error, TimeoutError):
            return self._target.too_slow(request)
        return self._target.no_answer(request, error)

    def seconds(self, request: Request) -> float:
        """The request's timeout, which a stream has for each of its pieces."""
        return self._target.seconds(request)

    async def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()


class AsyncLeanStream:
    """The body of an answer as it comes."""

    def __init__(
        self, transport: AsyncLeanTransport, request: Request, connection: AsyncConnection, head: Head
    ) -> None:
        self._transport = transport
        self._request = request
        self._connection: AsyncConnection | None = connection
        self._head = head

    async def __aiter__(self) -> AsyncIterator[bytes]:
        connection = self._connection
        if connection is None:
            return
        pieces = connection.body(self._head)
        seconds = self._transport.seconds(self._request)
        try:
            while True:
                async with asyncio.timeout(seconds):
                    piece = await anext(pieces, None)
                if piece is None:
                    break
                yield piece
        except (OSError, ValueError) as error:
            await self.close()
            raise self._transport.failure(self._request, error) from error
        if self._connection is not None:
            self._connection = None
            self._transport.finish(connection, self._head)

    async def close(self) -> None:
        """Free the connection, by closing it where the body has not been read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.discard(connection)

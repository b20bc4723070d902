"""The blocking client's lean transport: HTTP/1.1 over keep-alive sockets, for predictions.

A prediction's own time is often well under a millisecond, so what the client adds is seen. This way costs a
fraction of a general HTTP client's time. It knows no proxies and no redirects: `routing` sends what needs
those another way.
"""

import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from openlaunch.client.effects import Request, Response
from openlaunch.client.http11 import (
    MAX_CHUNK_LINE_BYTES,
    MAX_HEAD_BYTES,
    Framing,
    Head,
    HTTPError,
    chunk_size,
    header_block,
    parse_head,
    request_head,
)
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


class StaleConnection(Exception):
    """A kept connection had been closed by the server before any byte of an answer came."""


class Connection:
    """One connection; used by one request at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file = sock.makefile("rb")
        self.used = False
        self.idle_since = 0.0

    def exchange(self, head: bytes, body: bytes, timeout: float) -> Head:
        """Send a request and read the head of its answer.

        Raises:
            StaleConnection: the connection had been kept, and is found to be closed.
            OSError: it broke, or took too long.
            HTTPError: the answer is no HTTP/1.1.

        """
        kept, self.used = self.used, True
        self._sock.settimeout(timeout)
        try:
            self._sock.sendall(head + body)
            first = self._file.peek(1)
        except (BrokenPipeError, ConnectionResetError) as error:
            if kept:
                raise StaleConnection from error
            raise
        if not first:
            raise StaleConnection if kept else ConnectionResetError("it was closed without an answer")
        answer = self._head()
        while answer.status < 200:
            answer = self._head()
        return answer

    def _head(self) -> Head:
        lines = bytearray()
        while (line := self._file.readline(MAX_HEAD_BYTES)) not in (b"\r\n", b"\n"):
            if not line:
                raise ConnectionResetError("it was closed within an answer's headers")
            lines += line
            if len(lines) > MAX_HEAD_BYTES:
                raise HTTPError(f"the answer's headers are larger than {MAX_HEAD_BYTES} bytes")
        return parse_head(bytes(lines))

    def body(self, head: Head) -> Iterator[bytes]:
        """The pieces of the body that follows this head.

        Raises:
            OSError: the connection broke, or took too long.
            HTTPError: the body is not framed as HTTP/1.1 has it.

        """
        if head.framing is Framing.LENGTH:
            yield from self._exactly(head.length)
        elif head.framing is Framing.CHUNKED:
            yield from self._chunks()
        else:
            while piece := self._file.read1(_PIECE):
                yield piece

    def _exactly(self, size: int) -> Iterator[bytes]:
        if size:
            data = self._file.read(size)
            if len(data) < size:
                raise ConnectionResetError(f"it was closed after {len(data)} of {size} bytes")
            yield data

    def _chunks(self) -> Iterator[bytes]:
        while left := chunk_size(self._file.readline(MAX_CHUNK_LINE_BYTES)):
            # As it comes, so that what has come of a large chunk is not lost when the connection breaks.
            while left:
                data = self._file.read1(min(left, _PIECE))
                if not data:
                    raise ConnectionResetError(f"it was closed {left} bytes before the end of a chunk")
                left -= len(data)
                yield data
            self._file.readline(MAX_CHUNK_LINE_BYTES)
        while self._file.readline(MAX_HEAD_BYTES) not in (b"\r\n", b"\n", b""):
            pass  # trailers

    def usable(self, now: float) -> bool:
        """Whether a kept connection is still open and quiet: a readable one was closed, or has gone wrong."""
        if now - self.idle_since > IDLE_SECONDS:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close it; harmless when called twice."""
        self._file.close()
        self._sock.close()


class Pool:
    """Connections to one server: a bounded number at a time, some kept for the next request."""

    def __init__(self, url: str, limit: int = MAX_CONNECTIONS, *, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._secure = parts.scheme == "https"
        self._address = (parts.hostname, parts.port or (443 if self._secure else 80))
        self._slots = threading.BoundedSemaphore(limit)
        self._idle: deque[Connection] = deque()
        self._tls: ssl.SSLContext | None = None
        self._closed = False

    def take(self) -> Connection:
        """A kept connection or a new one; the caller gives it back or discards it.

        Raises:
            OSError: there is none to be had: refused, too slow, or all are in use.
            RuntimeError: the client is closed.

        """
        if self._closed:
            raise RuntimeError("the client is closed")
        if not self._slots.acquire(timeout=CONNECT_SECONDS):
            raise TimeoutError("all connections of this client are in use")
        try:
            return self._kept() or self._new()
        except BaseException:
            self._slots.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer has been read to its end."""
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if self._closed or len(self._idle) > MAX_IDLE:
            self._idle.popleft().close()
        self._slots.release()

    def discard(self, connection: Connection) -> None:
        """Close a connection that can't be used any more."""
        connection.close()
        self._slots.release()

    def _kept(self) -> Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.usable(time.monotonic()):
                return connection
            connection.close()

    def _new(self) -> Connection:
        sock = socket.create_connection(self._address, CONNECT_SECONDS)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Connection(self._wrapped(sock) if self._secure else sock)
        except BaseException:
            sock.close()
            raise

    def _wrapped(self, sock: socket.socket) -> ssl.SSLSocket:
        if self._tls is None:
            self._tls = tls_context(self._ca_file)
        return self._tls.wrap_socket(sock, server_hostname=self._address[0])

    def close(self) -> None:
        """Close what is kept; what is in use closes when it is given back."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class LeanTransport:
    """Sends requests to the server's own address; signed ones, which may go elsewhere, are not for it."""

    def __init__(self, target: Target) -> None:
        parts = urlsplit(target.address.url)
        self._target = target
        self._host = parts.netloc
        self._prefix = parts.path
        self._block = header_block(self._headers(Request("POST", "/", b"{}")))
        self._pool = Pool(target.address.url, ca_file=target.ca_file)

    def send(self, request: Request) -> Response:
        """Send a request once and give the answer."""
        body = request.body or b""
        block = header_block(self._headers(request)) if request.headers else self._block
        head = request_head(request.method, self._prefix + request.url, block, len(body))
        while True:
            connection = self._take(request)
            try:
                answer = connection.exchange(head, body, self._target.seconds(request))
                return self._response(request, connection, answer)
            except StaleConnection:
                self._pool.discard(connection)
            except (OSError, HTTPError) as error:
                self._pool.discard(connection)
                raise self.failure(request, error) from error
            except BaseException:
                self._pool.discard(connection)
                raise

    def _headers(self, request: Request) -> dict[str, str]:
        return {"host": self._host, **self._target.headers_of(request)}

    def _take(self, request: Request) -> Connection:
        try:
            return self._pool.take()
        except OSError as error:
            raise self._target.no_connection(request, error) from error

    def _response(self, request: Request, connection: Connection, head: Head) -> Response:
        if request.stream and head.status < 400:
            return Response(head.status, head.headers, stream=LeanStream(self, request, connection, head))
        body = b"".join(connection.body(head))
        self.finish(connection, head)
        return Response(head.status, head.headers, body)

    def finish(self, connection: Connection, head: Head) -> None:
        """Keep or close the connection of an answer that has been read to its end."""
        if head.keep_alive:
            self._pool.give_back(connection)
        else:
            self._pool.discard(connection)

    def discard(self, connection: Connection) -> None:
        """Close the connection of an answer that has not been read to its end."""
        self._pool.discard(connection)

    def failure(self, request: Request, error: Exception) -> TransportFailure:
        """What an error on the connection means for the request."""
        if isinstance(error, TimeoutError):
            return self._target.too_slow(request)
        return self._target.no_answer(request, error)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()


class LeanStream:
    """The body of an answer as it comes."""

    def __init__(
        self, transport: LeanTransport, request: Request, connection: Connection, head: Head
    ) -> None:
        self._transport = transport
        self._request = request
        self._connection: Connection | None = connection
        self._head = head

    def __iter__(self) -> Iterator[bytes]:
        connection = self._connection
        if connection is None:
            return
        try:
            yield from connection.body(self._head)
        except (OSError, HTTPError) as error:
            self.close()
            raise self._transport.failure(self._request, error) from error
        if self._connection is not None:
            self._connection = None
            self._transport.finish(connection, self._head)

    def close(self) -> None:
        """Free the connection, by closing it where the body has not been read to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport.discard(connection)

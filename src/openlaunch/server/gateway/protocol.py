"""One HTTP/1.1 connection: predict routes are answered here at once, everything else goes to the ASGI application.

A connection has one request at a time. What a client sends behind it stays as bytes until its answer is complete, so
there is no difference between the request that is being received and the one that is being answered, and an error in
what comes later can't reach what came before. A hot request costs no task and no scope of ASGI, and its answer one
write. Of uvicorn, the server and its ASGI cycle are used, and not its protocol class.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from openlaunch.errors import APIError, RequestTimeout, Unavailable
from openlaunch.server.asgi import Scope
from openlaunch.server.gateway.asgi_exchange import AsgiExchange
from openlaunch.server.gateway.bodies import BodyBudget
from openlaunch.server.gateway.exchange import Exchange, HotHandler
from openlaunch.server.gateway.request_reader import (
    END_OF_HEAD,
    MAX_HEAD_BYTES,
    ChunkDecoder,
    Head,
    check_part_of_head,
)
from openlaunch.server.gateway.response import problem, response_head

MIN_BODY_BYTES = 1024
"""How much of a body has to come within the time that a client has for the rest of its request."""

MAX_AHEAD_BYTES = 64 * 1024
"""Bytes behind a request that is being answered; with more of them, nothing further is read."""

MAX_DISCARDED_BYTES = 256 * 1024 * 1024
"""What is read of a body whose request is answered already; then the connection is closed."""

PROBE_SECONDS = 0.1
"""Between the two writes that show whether a client that closed its side has gone."""

NEVER = float("inf")


class HttpProtocol(asyncio.Protocol):
    """One connection, with `routes` in front of the ASGI application: handlers by method and path.

    The handler of a path that ends in a slash is that of every path one level below.

    A client has `read_seconds` for the head of a request, or to send none on a new connection, and for each piece of
    `MIN_BODY_BYTES` of its body. None of this costs a request that comes in one piece more than a comparison.
    """

    def __init__(
        self,
        routes: Mapping[tuple[bytes, bytes], HotHandler],
        admit: Callable[[Scope], object],
        bodies: BodyBudget,
        max_body_bytes: int,
        read_seconds: float,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.admit = admit
        """Raises where the request's key is not good; asked before a large body is read."""
        self.bodies = bodies
        self._routes = routes
        self._max_body_bytes = max_body_bytes
        self._read_seconds = read_seconds
        self._config = config
        self._state = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._exchange: Exchange | AsgiExchange | None = None
        self._buffer = bytearray()
        self._next_is_due = False
        self._half_closed = False
        # Of the body that is being received: its framing, and what is known of its progress.
        self._in_head = False
        self._chunks: ChunkDecoder | None = None
        self._body_left = self._discarded = self._progress = 0
        self._deadline = self._look_at = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._unread = 0

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        self._state.connections.add(self)  # type: ignore[arg-type]
        self.transport = transport
        self.flow = FlowControl(transport)
        self._server = get_local_addr(transport)
        self._client = get_remote_addr(transport)
        self._scheme = "https" if is_ssl(transport) else "http"
        self._expect_by(self._loop.time() + self._read_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request under way that its client is gone."""
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._buffer.clear()
        self.flow.resume_writing()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.gone()

    def eof_received(self) -> bool:
        """Answer a client that has only closed its side; notice one that is gone.

        Both send the same. So something harmless is written: the kernel of a client that is gone answers that nobody
        is there, and the write after it fails.
        """
        exchange = self._exchange
        if exchange is None or exchange.more_body or exchange.response_complete or self._scheme == "https":
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

    def resume_writing(self) -> None:
        """Let the answer under way continue."""
        self.flow.resume_writing()
        if self._exchange is not None:
            self._exchange.writable()

    def shutdown(self) -> None:
        """Close the connection once the request under way is answered; called by uvicorn."""
        if self._exchange is None or self._exchange.response_complete:
            self.transport.close()
        else:
            self._exchange.keep_alive = False

    def send(self, data: bytes) -> None:
        """Write to the client, unless the connection is closing; an answer need not look for that."""
        if not self.transport.is_closing():
            self.transport.write(data)

    # What comes.

    def data_received(self, data: bytes) -> None:
        """Take what has come to the request that it belongs to."""
        exchange = self._exchange
        if exchange is None and not self._buffer:
            self._begin(data)
        elif exchange is not None and exchange.more_body:
            self._receive_body(exchange, data)
        else:
            self._buffer += data
            if exchange is None and not self._next_is_due:
                self._begin_next()
            elif len(self._buffer) > MAX_AHEAD_BYTES:
                self.flow.pause_reading()

    def _begin_next(self) -> None:
        """Begin with what came behind the last request, or with a head that has got more bytes."""
        self._next_is_due = False
        if self.transport.is_closing():
            return
        data, self._buffer = self._buffer, bytearray()
        self._begin(data)
        if self._half_closed and self._exchange is None:
            self.transport.close()
        elif len(self._buffer) <= MAX_AHEAD_BYTES:
            self.flow.resume_reading()

    def _begin(self, data: bytes | bytearray) -> None:
        """Begin with a request if its head has come whole; keep what there is of it otherwise."""
        if data[0] in b"\r\n":
            data = data.lstrip(b"\r\n")  # empty lines before a request are ignored (RFC 9112, 2.2)
        end = data.find(END_OF_HEAD, 0, MAX_HEAD_BYTES)
        try:
            if end < 0:
                check_part_of_head(data)
            else:
                head = Head(bytes(data[: end + 4]))
        except APIError as error:
            self._refuse(error)
            return
        if end < 0:
            self._keep_head(data)
        else:
            self._open(head, data, end + 4)

    def _keep_head(self, data: bytes | bytearray) -> None:
        self._buffer = data if isinstance(data, bytearray) else bytearray(data)
        if data and not self._in_head:
            self._in_head = True
            self._expect_by(min(self._deadline, self._loop.time() + self._read_seconds))

    def _open(self, head: Head, data: bytes | bytearray, start: int) -> None:
        """Begin with the request of a head; its body begins at `start`."""
        self._in_head = False
        self._deadline = NEVER
        exchange = self._new_exchange(head)
        if exchange is None:
            return
        self._exchange = exchange
        end = start + head.length
        if head.chunked or end > len(data):
            self._chunks = ChunkDecoder() if head.chunked else None
            self._body_left = head.length
            self._discarded = self._progress = 0
            exchange.announce(head)
            self._expect_by(self._loop.time() + self._read_seconds)
            if start < len(data):
                self._receive_body(exchange, bytes(data[start:]))
            return
        if end < len(data):
            self._buffer = bytearray(data[end:])
        exchange.announce(head)
        exchange.complete(bytes(data[start:end]))
        self._go_on_after(exchange)

    def _new_exchange(self, head: Head) -> Exchange | AsgiExchange | None:
        limit = self._config.limit_concurrency
        if limit is not None and len(self._state.connections) > limit:
            self._refuse(Unavailable(f"{limit} connections are open; try again", code="busy", retry_after=1))
            return None
        method, path = head.method, head.path
        handler = self._routes.get((method, path)) or self._routes.get((method, path[: path.rfind(b"/") + 1]))
        if handler is None:
            return self._new_asgi_exchange(head)
        scope = {
            "headers": head.headers,
            "query_string": head.query,
            "path": path.decode("ascii"),
            "scheme": self._scheme,
            "server": self._server,
        }
        return Exchange(self, handler, scope, head, self._max_body_bytes)

    def _new_asgi_exchange(self, head: Head) -> AsgiExchange:
        root, path = self._config.root_path, head.path.decode("ascii")
        scope = {
            "type": "http",
            "asgi": {"version": self._config.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1" if head.is_1_1 else "1.0",
            "method": head.method.decode("ascii"),
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "root_path": root,
            "path": root + (unquote(path) if "%" in path else path),
            "raw_path": (root + path).encode("ascii"),
            "query_string": head.query,
            "headers": head.headers,
            "state": self._app_state.copy(),
        }
        exchange = AsgiExchange(self, scope, head)
        task = self._loop.create_task(exchange.run(self._config.loaded_app))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        return exchange

    def _receive_body(self, exchange: Exchange | AsgiExchange, data: bytes) -> None:
        """Take what has come of a body; what is behind it is kept."""
        if self._chunks is None:
            piece = data[: self._body_left]
            self._body_left -= len(piece)
            ended = not self._body_left
            self._buffer += data[len(piece) :]
        else:
            self._buffer += data
            try:
                piece = self._chunks.decode(self._buffer)
            except APIError as error:
                self._refuse(error)
                return
            ended = self._chunks.ended
        if piece:
            exchange.take(piece)
        if ended:
            self._deadline = NEVER
            exchange.complete()
            self._go_on_after(exchange)
        else:
            self._expect_rest(exchange, len(piece))

    def _expect_rest(self, exchange: Exchange | AsgiExchange, size: int) -> None:
        """Give the client time for the next part of its body; close on one that is answered and sends ever more."""
        if exchange.response_complete:
            self._discarded += size
            if self._discarded > MAX_DISCARDED_BYTES:
                self.transport.close()
        self._progress += size
        if self._progress >= MIN_BODY_BYTES:
            self._progress = 0
            self._deadline = self._loop.time() + self._read_seconds

    def _refuse(self, error: APIError) -> None:
        """Answer what can't be read, and close the connection; an answer that is under way is cut."""
        if self._exchange is not None and (self._exchange.started or self._exchange.response_complete):
            self.transport.abort()
            return
        headers, body = problem(error)
        headers["content-length"] = str(len(body))
        self.send(response_head(error.status, headers, keep_alive=False) + body)
        self.transport.close()

    # After an answer.

    def on_response_complete(self) -> None:
        """Close the connection, or begin with its next request."""
        self._state.total_requests += 1
        exchange = self._exchange
        if exchange is not None:
            if not exchange.keep_alive:
                self.transport.close()
            self._go_on_after(exchange)

    def _go_on_after(self, exchange: Exchange | AsgiExchange) -> None:
        """Begin with the next request, if this one has come whole and its answer is written."""
        if exchange.more_body or not exchange.response_complete or exchange is not self._exchange:
            return
        self._exchange = None
        if self.transport.is_closing():
            return
        self._deadline = self._loop.time() + self._config.timeout_keep_alive
        if self._deadline < self._look_at:
            self._expect_by(self._deadline)
        if self._buffer:
            # Not at once: many pipelined requests that are refused would be as many calls deep, and hold others up.
            self._next_is_due = True
            self._loop.call_soon(self._begin_next)
        elif self._half_closed:
            self.transport.close()
        else:
            self.flow.resume_reading()

    # What does not come. One timer watches the connection, and is not touched by every request.

    def _expect_by(self, deadline: float) -> None:
        self._deadline = deadline
        if deadline < self._look_at:
            if self._timer is not None:
                self._timer.cancel()
            self._look_at = deadline
            self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        """Close the connection if its time is over."""
        self._timer, self._look_at = None, NEVER
        if self.transport.is_closing():
            return
        now, exchange = self._loop.time(), self._exchange
        if self._deadline > now:
            if self._deadline != NEVER:
                self._expect_by(self._deadline)
        elif exchange is not None and self.flow.read_paused:
            self._expect_by(now + self._read_seconds)  # it is not the client that is slow
        elif exchange is not None or self._in_head:
            self._refuse(
                RequestTimeout(f"the rest of the request did not come within {self._read_seconds:g} seconds")
            )
        else:
            self._close_idle(now)

    def _close_idle(self, now: float) -> None:
        """Close a connection without a request, unless its client still reads the last answer."""
        unread = self.transport.get_write_buffer_size()
        if not unread:
            self.transport.close()
        elif unread != self._unread:
            self._unread = unread
            self._expect_by(now + self._config.timeout_keep_alive)
        else:
            self.transport.abort()

"""HTTP/1.1 on a connection: the predict routes are answered here at once, everything else is uvicorn's and ASGI's.

A hot request costs no task and no scope of ASGI, and its answer one write. What is taken from uvicorn is its protocol
class, whose place for the request under way, `cycle`, an `Exchange` takes.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from openlaunch.errors import APIError, BadRequest, HeadTooLarge, RequestTimeout
from openlaunch.server.asgi import Scope
from openlaunch.server.gateway.bodies import BodyBudget
from openlaunch.server.gateway.exchange import Exchange, HotHandler
from openlaunch.server.gateway.response import problem, response_head

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
"""A request whose head has more, or more bytes, is refused, and its connection closed."""

MIN_BODY_BYTES = 1024
"""So much of a body has to come within the time that a client has for the rest of its request."""


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with `routes` in front, handlers by method and path; and with patience that ends.

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
        super().__init__(config, server_state, app_state, _loop)
        self._routes = routes
        self.admit = admit
        """Raises where the request's key is not good; asked before a large body is read."""
        self.bodies = bodies
        self._max_body_bytes = max_body_bytes
        self._read_seconds = read_seconds
        self._idle_since: float | None = None
        self._unread = 0
        # Of the request that is being received: what is incomplete, the size of the read that is being parsed and of
        # the one in which it began, the bytes that came since it was looked at, and until when there have to be more.
        self._in_head = self._in_body = self._head_too_large = False
        self._fed = self._first_fed = self._rest_bytes = 0
        self._rest_until: float | None = None
        self._rest_timer: asyncio.TimerHandle | None = None

    # Requests.

    def on_message_begin(self) -> None:
        self._idle_since = None
        self._in_head = True
        self._rest_bytes = 0
        self._first_fed = self._fed  # of which an earlier request may be the most
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        if len(self.headers) > MAX_HEADERS or (
            self._fed + self._rest_bytes > MAX_HEAD_BYTES and self._head_bytes() > MAX_HEAD_BYTES
        ):
            self._head_too_large = True
            raise ValueError  # the parser makes an error of its own of it, and stops
        self._in_head, self._in_body = False, True
        self._idle_since = self._rest_until = None
        self._rest_bytes = 0
        path, _, query = self.url.partition(b"?")
        if path.startswith(b"http"):  # an absolute URL: proxies send those
            path = b"/" + b"".join(path.split(b"/", 3)[3:])
        handler = self._handler(path)
        if handler is None or self._is_full():
            self._leave_to_asgi()
            return
        before = self.cycle
        in_turn = before is None or before.response_complete
        exchange = Exchange(
            self,
            handler,
            {
                "headers": self.headers,
                "query_string": query,
                "path": path.decode("latin-1"),
                "scheme": self.scheme,
                "server": self.server,
            },
            limit=self._max_body_bytes,
            chunked=(chunked := self.parser.get_http_version() == "1.1"),
            keep_alive=chunked and self.parser.should_keep_alive(),
            in_turn=in_turn,
        )
        self.cycle = exchange  # type: ignore[assignment]
        if not in_turn:
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]
        else:
            exchange.announce(self.expect_100_continue)

    def _handler(self, path: bytes) -> HotHandler | None:
        method = self.parser.get_method()
        handler = self._routes.get((method, path))
        return handler or self._routes.get((method, path[: path.rfind(b"/") + 1]))

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)

    def _is_full(self) -> bool:
        return self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency

    def _leave_to_asgi(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers += headers
        self.expect_100_continue = expects
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        cycle: object = self.cycle
        if isinstance(cycle, Exchange):
            cycle.take(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._rest_until = None
        cycle: object = self.cycle
        if isinstance(cycle, Exchange):
            cycle.complete()
        else:
            super().on_message_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if isinstance(cycle, Exchange):
            # Not at once: many pipelined requests that are refused would be as many calls deep.
            self.loop.call_soon(cycle.begin)
        else:
            super()._start_asgi_task(cycle, app)

    # What has not come whole.

    def data_received(self, data: bytes) -> None:
        self._fed = len(data)
        super().data_received(data)
        if (self._in_head or self._in_body) and not self.transport.is_closing():
            self._wait_for_rest(len(data))

    def _wait_for_rest(self, size: int) -> None:
        self._rest_bytes += size
        if self._in_head and self._rest_bytes - self._first_fed > MAX_HEAD_BYTES:
            self._head_too_large = True
            self.send_400_response("")
            return
        if self._rest_until is None or (self._in_body and self._rest_bytes >= MIN_BODY_BYTES):
            self._rest_bytes = self._rest_bytes if self._in_head else 0
            self._rest_until = self.loop.time() + self._read_seconds
        if self._rest_timer is None:
            self._watch_rest(self._read_seconds)

    def _watch_rest(self, seconds: float) -> None:
        self._rest_timer = self.loop.call_later(seconds, self._look_at_rest)

    def _look_at_rest(self) -> None:
        self._rest_timer = None
        if self._rest_until is None or self.transport.is_closing():
            return
        now = self.loop.time()
        if self.flow.read_paused or self._is_answering():
            self._rest_until = now + self._read_seconds  # it is not the client that is slow
        if self._rest_until > now:
            self._watch_rest(self._rest_until - now)
        elif not (self._in_head or self._in_body):
            self.transport.close()  # nothing was asked for
        else:
            seconds = f"{self._read_seconds:g} seconds"
            self._refuse(RequestTimeout(f"the rest of the request did not come within {seconds}"))

    def _is_answering(self) -> bool:
        """Whether a request is there whole whose answer is not."""
        return self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)

    def send_400_response(self, msg: str) -> None:
        """Called by uvicorn where the parser gives up."""
        if self._head_too_large:
            limits = f"{MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers"
            self._refuse(HeadTooLarge(f"the head of the request is larger than allowed: {limits}"))
        else:
            self._refuse(BadRequest("this is no HTTP/1.1 that can be read", code="invalid_http"))

    def _refuse(self, error: APIError) -> None:
        """Answer what is no request, and close the connection; an answer that is under way is cut."""
        if self._is_answering():
            self.transport.abort()
            return
        headers, body = problem(error)
        head = response_head(error.status, {**headers, "content-length": str(len(body))}, keep_alive=False)
        self.transport.write(head + body)
        self.transport.close()

    # The connection. One timer watches it for being idle, and is not touched by every request.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._rest_until = self.loop.time() + self._read_seconds
        self._watch_rest(self._read_seconds)

    def _unset_keepalive_if_required(self) -> None:
        """Called by uvicorn for any data; here a connection is idle until a request begins."""

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_for(self.timeout_keep_alive)

    def _watch_for(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self._idle_since is None or self.transport.is_closing():
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._watch_for(left)
            return
        unread = self.transport.get_write_buffer_size()
        if not unread:
            self.transport.close()
        elif unread != self._unread:
            self._unread = unread
            self._watch_for(self.timeout_keep_alive)  # the answer is still being read
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
        cycle: object = self.cycle
        if isinstance(cycle, Exchange) and not cycle.response_complete:
            cycle.on_gone()
            cycle.let_go()
        for waiting, _ in self.pipeline:
            if isinstance(exchange := cast("object", waiting), Exchange):
                exchange.let_go()

    def resume_writing(self) -> None:
        super().resume_writing()
        cycle: object = self.cycle
        if isinstance(cycle, Exchange):
            cycle.on_writable()

"""HTTP/1.1 on a connection: the predict routes are answered here at once, everything else is uvicorn's and ASGI's.

A hot request costs no task and no scope of ASGI, and its answer one write. What is taken from uvicorn is its protocol
class, whose place for the request under way, `cycle`, an `Exchange` takes.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from openlaunch.errors import (
    APIError,
    BadRequest,
    HeadTooLarge,
    PayloadTooLarge,
    RequestTimeout,
    ServerError,
    Unavailable,
)
from openlaunch.server.asgi import STRANGERS_BYTES, Scope, header, new_request_id, problem_headers
from openlaunch.wire.problems import CONTENT_TYPE, to_problem

log = logging.getLogger(__name__)

JOIN_BYTES = 64 * 1024
"""An answer up to this size goes out in one piece with its head; copying a larger one costs more than a write."""

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
"""A request whose head has more, or more bytes, is refused, and its connection closed."""

MIN_BODY_BYTES = 1024
"""So much of a body has to come within the time that a client has for the rest of its request."""

_JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Bodies:
    """How much the bodies over `STRANGERS_BYTES` of all requests under way may hold together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0

    def take(self, size: int) -> None:
        """Count so many bytes more.

        Raises:
            Unavailable: they are too many; nothing is counted.
        """
        if self.held + size > self.most:
            raise Unavailable(
                f"the bodies of the requests under way have {self.held} bytes already; the limit is {self.most}",
                code="bodies_full",
                retry_after=1,
            )
        self.held += size

    def give_back(self, size: int) -> None:
        """So many bytes are held no more."""
        self.held -= size


class Exchange:
    """One request of a hot route, and its answer. Used in the event loop's thread.

    `on_gone` is called when the client goes away before the answer is complete, `on_writable` when the connection
    takes bytes again after `write_paused`.
    """

    __slots__ = (
        *(
            "_admitted",
            "_chunked",
            "_handler",
            "_held",
            "_in_turn",
            "_limit",
            "_protocol",
            "_size",
            "_pieces",
        ),
        *("body", "disconnected", "keep_alive", "more_body", "on_gone", "on_writable"),
        *("response_complete", "scope", "started"),
    )

    message_event: ClassVar = asyncio.Event()
    """Set by uvicorn for its own cycles; nobody waits for this one."""

    def __init__(
        self,
        protocol: "HttpProtocol",
        handler: "HotHandler",
        scope: Scope,
        *,
        limit: int,
        chunked: bool,
        keep_alive: bool,
        in_turn: bool,
    ) -> None:
        self.scope = scope
        self.body = b""
        self.keep_alive = keep_alive
        self.more_body = True
        self.started = False
        self.response_complete = False
        self.disconnected = False
        self.on_gone: Callable[[], object] = _nothing
        self.on_writable: Callable[[], None] = _nothing
        self._protocol = protocol
        self._handler = handler
        self._chunked = chunked
        self._limit = limit
        self._in_turn = in_turn
        self._pieces: list[bytes] = []
        self._size = 0
        self._held = 0
        self._admitted = False

    # What the protocol calls.

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
            self._protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

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
                self._protocol.bodies.take(self._size - self._held)
                self._held = self._size
            except APIError as error:
                self._refuse_body(error)

    def _admit(self) -> None:
        """See to it that the body is of somebody's who may send one, before more of it is kept."""
        self._admitted = True
        try:
            self._protocol.admit(self.scope)
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

    # What handlers call.

    def guarded(self, call: Callable[..., None], *args: Any) -> None:
        """Make a call; what it raises is the answer."""
        try:
            call(*args)
        except APIError as error:
            self.fail(error)
        except Exception:
            log.exception("a prediction failed in the gateway")
            self.fail(ServerError("the server failed on this request; its log has the traceback"))

    @property
    def write_paused(self) -> bool:
        """Whether the connection holds as many bytes as it should: the client is slow."""
        return self._protocol.flow.write_paused

    def respond(self, body: bytes) -> None:
        """Answer with finished JSON."""
        if self.keep_alive and len(body) <= JOIN_BYTES:
            if not self.disconnected and not self.response_complete:
                self.response_complete = True
                self._protocol.transport.write(_JSON_HEAD % len(body) + body)
                self.let_go()
                self._protocol.on_response_complete()
        else:
            self._respond(200, {"content-type": "application/json"}, body)

    def fail(self, error: APIError) -> None:
        """Answer with a problem document; nothing happens where an answer has begun."""
        if not self.started:
            self._respond(error.status, *_problem(error))

    def _respond(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if self.disconnected or self.response_complete:
            return
        head = _head(status, {**headers, "content-length": str(len(body))}, keep_alive=self.keep_alive)
        self.response_complete = True
        if len(body) <= JOIN_BYTES:
            self._protocol.transport.write(head + body)
        else:
            self._protocol.transport.write(head)
            self._protocol.transport.write(body)
        self._ended()

    def let_go(self) -> None:
        """Call nobody any more. Else each request would leave a cycle of references to the collector."""
        self.on_gone = self.on_writable = _nothing
        if self._held:
            self._protocol.bodies.give_back(self._held)
            self._held = 0

    def _ended(self) -> None:
        self.let_go()
        if not self.keep_alive:
            self._protocol.transport.close()
        self._protocol.on_response_complete()

    def write(self, data: bytes, headers: Mapping[str, str]) -> None:
        """A piece of an answer whose length is not known; before the first, its head with these headers."""
        if self.disconnected or not data:
            return
        self._protocol.transport.write(self._stream_head(headers) + self._framed(data))

    def end(self, data: bytes, headers: Mapping[str, str]) -> None:
        """The last piece of such an answer, which may be empty."""
        if self.disconnected or self.response_complete:
            return
        self.response_complete = True
        last = b"0\r\n\r\n" if self._chunked else b""
        self._protocol.transport.write(self._stream_head(headers) + self._framed(data) + last)
        self._ended()

    def drop(self) -> None:
        """Close the connection at once, and call nobody."""
        self.let_go()
        self._protocol.transport.abort()

    def _stream_head(self, headers: Mapping[str, str]) -> bytes:
        if self.started:
            return b""
        self.started = True
        given = {**headers, "transfer-encoding": "chunked"} if self._chunked else headers
        return _head(200, given, keep_alive=self.keep_alive)

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if data and self._chunked else data


def _head(status: int, headers: Mapping[str, str], *, keep_alive: bool) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name.lower()}: {value}" for name, value in headers.items()]
    if not keep_alive:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _problem(error: APIError) -> tuple[dict[str, str], bytes]:
    """Headers and body of a problem document."""
    request_id = new_request_id()
    headers = {"content-type": CONTENT_TYPE, **problem_headers(error, request_id)}
    return headers, json.dumps(to_problem(error, request_id)).encode()


HotHandler = Callable[[Exchange], None]
"""Begins with a request whose body is there; what it raises is the answer."""


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
        bodies: Bodies,
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
        headers, body = _problem(error)
        head = _head(error.status, {**headers, "content-length": str(len(body))}, keep_alive=False)
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


def _nothing() -> None:
    pass

"""Requests that come another way than over HTTP, and are answered as those are: the same rules hold for them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from uvicorn.protocols.http.flow_control import FlowControl

from openlaunch.errors import APIError, Unavailable
from openlaunch.server.access.auth import PRINCIPAL
from openlaunch.server.asgi import Scope
from openlaunch.server.gateway.asgi_exchange import AsgiExchange
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.request_reader import END_OF_HEAD, Head
from openlaunch_worker.frames import LARGE_BYTES, Body

STREAMED = "openlaunch.streamed"
"""In the scope of a request that may be answered with a stream of tensors."""

EVENTS = b"content-type: text/event-stream"
END_OF_EVENT = b"\n\n"
UNREAD_BYTES = 256 * 1024
MAX_HEAD = 4096


class LocalAnswer(NamedTuple):
    """An answer: the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: Body


async def answered(
    services: HttpServices,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytearray,
    client: tuple[str, int] | None,
) -> LocalAnswer:
    """Have a request answered. Raise APIError where its head can't be read, or its answer is broken off."""
    connection = _Connection(services, client)
    head = _head(f"{method} {path} HTTP/1.1", headers, body)
    exchange = services.new_exchange(connection, head)
    try:
        _send(exchange, head, body)
        await connection.done
    except asyncio.CancelledError:
        services.lose(exchange)
        raise
    return _read(connection.memory.written)


async def streamed(
    services: HttpServices,
    path: str,
    headers: Mapping[str, str],
    body: bytearray,
    client: tuple[str, int] | None,
) -> AsyncGenerator[bytearray | LocalAnswer, None]:
    """Post a request for which a stream is an answer, too: yield its events as they come, else the whole answer.

    What the caller does not take holds the stream up in its worker. Raise APIError as `answered` does.
    """
    connection = _Connection(services, client)
    # In this version of HTTP a stream is not cut into chunks.
    head = _head(f"POST {path} HTTP/1.0", headers, body)
    exchange = services.new_exchange(connection, head)
    assert isinstance(exchange, Exchange)
    exchange.scope[STREAMED] = True
    memory, flow, done = connection.memory, connection.flow, connection.done
    memory.on_full = flow.pause_writing
    left = bytearray()
    try:
        _send(exchange, head, body)
        while not done.done() and not exchange.started:
            await memory.more()
        if not exchange.started or not memory.is_stream():
            await done
            yield _read(memory.written)
            return
        left = memory.take().partition(END_OF_HEAD)[2]
        at = 0
        while True:
            while (end := left.find(END_OF_EVENT, at)) >= 0:
                event, left = _cut(left, end)
                at = 0
                yield event
            at = max(0, len(left) - len(END_OF_EVENT) + 1)
            if flow.write_paused:
                flow.resume_writing()
                exchange.on_writable()
            if not memory.written:
                if done.done():
                    done.result()
                    return
                await memory.more()
            left = left + memory.take() if left else memory.take()
            if len(left) > LARGE_BYTES:
                await asyncio.sleep(0)  # others run between copies
    finally:
        if not exchange.response_complete:
            services.lose(exchange)


def _cut(events: bytearray, end: int) -> tuple[bytearray, bytearray]:
    """Return an event that ends there, and what is behind it, of which the last event is not copied."""
    behind = end + len(END_OF_EVENT)
    if behind == len(events):
        del events[end:]
        return events, bytearray()
    event = events[:end]
    del events[:behind]  # no copy: a bytearray begins later from now on
    return event, events


def _head(line: str, headers: Mapping[str, str], body: bytearray) -> Head:
    lines = [line, "host: local", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return Head("\r\n".join(lines).encode("latin-1", "replace") + END_OF_HEAD)


def _send(exchange: Exchange | AsgiExchange, head: Head, body: bytearray) -> None:
    exchange.announce(head)
    if not exchange.response_complete:
        exchange.complete(body if len(body) >= LARGE_BYTES else bytes(body))  # type: ignore[arg-type]


def _read(answer: bytearray) -> LocalAnswer:
    end = answer.index(END_OF_HEAD)
    first, *lines = answer[:end].decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    del answer[: end + len(END_OF_HEAD)]
    return LocalAnswer(int(first.split(" ")[1]), headers, answer)


class _Memory(asyncio.Transport):
    """Keeps what is written to it."""

    _streams = False

    def __init__(self, done: asyncio.Future[None]) -> None:
        super().__init__()
        self.written = bytearray()
        self.on_full: Callable[[], None] = lambda: None
        """Called where there is much of a stream that nobody has taken."""
        self._done = done
        self._written_to = asyncio.Event()
        done.add_done_callback(lambda _: self._written_to.set())

    def write(self, data: Any) -> None:
        self.written += data
        self._written_to.set()
        if len(self.written) > UNREAD_BYTES and self.is_stream():
            self.on_full()

    def is_stream(self) -> bool:
        """Return whether what is written is a part of a stream of events."""
        self._streams = self._streams or EVENTS in self.written[:MAX_HEAD].partition(END_OF_HEAD)[0]
        return self._streams

    def take(self) -> bytearray:
        """Take what is written."""
        data, self.written = self.written, bytearray()
        return data

    async def more(self) -> None:
        """Wait until something is written, or nothing more will be."""
        self._written_to.clear()
        if not self._done.done():
            await self._written_to.wait()

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        if not self._done.done():
            self._done.set_exception(Unavailable("the answer was broken off", code="interrupted"))


class _Connection:
    """The connection of one request, as its exchange uses it."""

    scheme = "http"
    server: tuple[str, int | None] | None = None

    def __init__(self, services: HttpServices, client: tuple[str, int] | None) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.memory = _Memory(self.done)
        self.transport: asyncio.Transport = self.memory
        self.flow = FlowControl(self.memory)
        self.bodies, self.answers, self.admit = services.bodies, services.answers, services.admit
        self.refused, self.turns = services.counts.refused, services.turns
        self.client = client
        self.send = self.memory.write

    def holder(self, scope: Scope) -> str:
        """Return the owner of a request, or the client's address where it has no good key."""
        if PRINCIPAL not in scope:
            with suppress(APIError):
                self.admit(scope)
        principal = scope.get(PRINCIPAL)
        return f"the address {self.client and self.client[0]}" if principal is None else str(principal.owner)

    def leave(self) -> None:
        """Do nothing: the connection is for one request."""

    def on_response_complete(self) -> None:
        """Pass on that the answer is there."""
        if not self.done.done():
            self.done.set_result(None)

"""Requests that come another way than over HTTP, and are answered as those are: the same rules hold for them."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from uvicorn.protocols.http.flow_control import FlowControl

from openlaunch.errors import APIError, Unavailable
from openlaunch.server.access.auth import PRINCIPAL
from openlaunch.server.asgi import Scope
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.request_reader import END_OF_HEAD, Head
from openlaunch_worker.frames import LARGE_BYTES, Body


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
    lines = [f"{method} {path} HTTP/1.1", "host: local", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = Head("\r\n".join(lines).encode("latin-1", "replace") + END_OF_HEAD)
    connection = _Connection(services, client)
    exchange = services.new_exchange(connection, head)
    try:
        exchange.announce(head)
        if not exchange.response_complete:
            exchange.complete(body if len(body) >= LARGE_BYTES else bytes(body))  # type: ignore[arg-type]
        await connection.done
    except asyncio.CancelledError:
        services.lose(exchange)
        raise
    return _read(connection.memory.written)


def _read(answer: bytearray) -> LocalAnswer:
    end = answer.index(END_OF_HEAD)
    first, *lines = answer[:end].decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    del answer[: end + len(END_OF_HEAD)]
    return LocalAnswer(int(first.split(" ")[1]), headers, answer)


class _Memory(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self, done: asyncio.Future[None]) -> None:
        super().__init__()
        self.written = bytearray()
        self._done = done

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        if not self._done.done():
            self._done.set_exception(Unavailable("the answer was broken off", code="interrupted"))


class _Connection:
    """Of one request, as its exchange uses it."""

    scheme = "http"
    server: tuple[str, int | None] | None = None

    def __init__(self, services: HttpServices, client: tuple[str, int] | None) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.memory = _Memory(self.done)
        self.transport: asyncio.Transport = self.memory
        self.flow = FlowControl(self.memory)
        self.bodies, self.answers, self.admit = services.bodies, services.answers, services.admit
        self.refused = services.counts.refused
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

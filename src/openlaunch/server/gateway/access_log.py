"""The access log: a line for each request, also for those that are refused before they are routed."""

import asyncio
import json
import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import quote

from openlaunch.errors import APIError, ConfigurationError
from openlaunch.server.access.auth import PRINCIPAL
from openlaunch.server.asgi import Scope, header, new_request_id, request_id_of
from openlaunch.server.gateway.asgi_exchange import AsgiExchange
from openlaunch.server.gateway.exchange import FAILED, Exchange
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.request_reader import Head
from openlaunch.server.gateway.response import Connection
from openlaunch.server.logs import trace_id_of
from openlaunch.server.metrics.models import operation_of
from openlaunch.server.spans import TRACE, Spans, Trace
from openlaunch.wire import routes
from openlaunch.wire.times import stamp_of
from openlaunch_worker.frames import Body

log = logging.getLogger(__name__)

STDERR = "-"
MAX_LINES = 10_000
"""Lines that wait to be written; further ones are dropped, and counted in the log."""

WRITE_SECONDS = 0.2
MAX_PATH = 300
CLIENT_GONE = 499
"""The status of a request whose client left before there was one."""

_SHOWN_QUERY = re.compile(rb"(?:\A|&)(model_endpoint_id=[A-Za-z0-9_.%-]{1,100})(?=&|\Z)")
"""The one parameter of a query that is shown: all others may be secret, as the signature of a URL is."""

_PLAIN = re.compile(r"[^\s\"=\\]+")
_HEAD_END = b"\r\n\r\n"


class AccessLog:
    """Writes lines to a file, or to stderr, from a thread: no request waits for that."""

    def __init__(self, target: str, *, only_errors: bool = False, as_json: bool = False) -> None:
        self._only_errors = only_errors
        self._write_line = _as_json if as_json else _as_text
        self._path = None if target == STDERR else Path(target)
        self._loop = asyncio.get_running_loop()
        self._lines: list[str] = []
        self._dropped = 0
        self._writing: asyncio.Task[None] | None = None
        try:
            self._append("")
        except OSError as error:
            raise ConfigurationError(
                f"the access log {target!r} can't be written: {error.strerror or error}; "
                f"name a file in a folder that is there, or {STDERR!r} for stderr"
            ) from error

    @classmethod
    def of(cls, asked: str, log_format: str) -> "AccessLog":
        """Make the one that is asked for by the settings `access_log`, which is not `off`, and `log_format`."""
        which, colon, file = asked.partition(":")
        target = STDERR if asked in ("all", "errors") else file if colon and which == "errors" else asked
        return cls(target, only_errors=which == "errors", as_json=log_format == "json")

    def add(self, *, failed: bool, **fields: object) -> None:
        """Write a line with these fields soon; without room for it, it is dropped."""
        if self._only_errors and not failed:
            return
        if len(self._lines) >= MAX_LINES:
            self._dropped += 1
            return
        self._lines.append(self._write_line({"time": stamp_of(datetime.now(UTC)), **fields}))
        if self._writing is None or self._writing.done():
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        while self._lines:
            await asyncio.sleep(WRITE_SECONDS)
            lines, self._lines = self._lines, []
            if dropped := self._dropped:
                self._dropped = 0
                lines.append(self._write_line({"dropped": dropped}))
            try:
                await asyncio.to_thread(self._append, "".join(lines))
            except OSError as error:
                log.error("%d lines of the access log are lost: %s", len(lines), error)

    def _append(self, text: str) -> None:
        if self._path is None:
            sys.stderr.write(text)
            sys.stderr.flush()
            return
        # Opened each time: what rotates logs may have put it elsewhere.
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "a") as file:
            file.write(text)

    async def close(self) -> None:
        """Write what there is."""
        if self._writing is not None:
            await self._writing


def _as_text(fields: dict[str, object]) -> str:
    return " ".join(f"{name}={_shown(value)}" for name, value in fields.items()) + "\n"


def _as_json(fields: dict[str, object]) -> str:
    return json.dumps(fields) + "\n"


def _shown(value: object) -> str:
    if value is None or value == "":
        return "-"
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)


class _Counted:
    """A transport that counts what is written to it."""

    def __init__(self, transport: asyncio.Transport, wrote: Callable[[Body | memoryview], None]) -> None:
        self._transport = transport
        self._wrote = wrote

    def write(self, data: Body | memoryview) -> None:
        self._wrote(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class LoggedRequest:
    """The connection of one request, as its exchange uses it: sees what is answered, and logs that once."""

    def __init__(self, connection: Connection, head: Head, services: "LoggedHttpServices") -> None:
        self.flow, self.bodies, self.answers = connection.flow, connection.bodies, connection.answers
        self.scheme, self.server, self.client = connection.scheme, connection.server, connection.client
        self.turns = connection.turns
        self.transport: Any = _Counted(connection.transport, self._wrote)
        self.admit, self.holder, self.refused = connection.admit, connection.holder, connection.refused
        self.leave = connection.leave
        self.scope: Scope = {}
        self.status = 0
        self._connection = connection
        self._head = head
        self._services = services
        self._has_ended = False
        self._bytes = 0
        self._began = perf_counter()  # the loop's clock counts whole milliseconds

    def _wrote(self, data: Body | memoryview) -> None:
        if self.status:
            self._bytes += len(data)
        elif data[:10] != b"HTTP/1.1 1":  # an interim answer
            self.status = int(data[9:12])
            self._bytes = len(data) - bytes(data).find(_HEAD_END) - len(_HEAD_END)

    def send(self, data: Body | memoryview) -> None:
        """Write to the client, unless the connection is closing."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def on_response_complete(self) -> None:
        """Log the request, and pass that on."""
        self.ended()
        self._connection.on_response_complete()

    def ended(self) -> None:
        """Log the request, unless that is done."""
        if self._has_ended:
            return
        self._has_ended = True
        status = self.status or CLIENT_GONE
        # A stranger's has none: theirs would push out those of others, for which the room is limited.
        if (trace := self.scope.get(TRACE)) is not None and PRINCIPAL in self.scope:
            self._services.end_span(trace, self._head, status, failed=FAILED in self.scope)
        if self._services.access_log is not None:
            self._add_line(self._services.access_log, status)

    def _add_line(self, access_log: AccessLog, status: int) -> None:
        principal, client = self.scope.get(PRINCIPAL), self.client
        access_log.add(
            failed=status >= 400 or FAILED in self.scope,
            client=None if client is None else client[0],
            owner=None if principal is None else principal.owner,
            key=None if principal is None else principal.key_id,
            method=self._head.method.decode("ascii"),
            path=_path(self._head),
            status=status,
            bytes=self._bytes,
            ms=round((perf_counter() - self._began) * 1000, 1),
            request=request_id_of(self.scope),
            trace=trace_id_of(self.scope),
        )


def _path(head: Head) -> str:
    path = quote(head.path[:MAX_PATH], safe="/%:@!$&'()*+,;~-._")
    shown = _SHOWN_QUERY.search(head.query)
    return path if shown is None else f"{path}?{shown[1].decode()}"


_LOGGED = "openlaunch.logged"
FIRST_OF_SERVER = 500
_MODEL_ROUTES = routes.MODEL_ROUTES | routes.MODEL_FORMS | routes.MODEL_ROUTES_V2.keys()


def _template(path: bytes) -> str:
    """Return a path without the ids and names in it, of which there would be too many names of spans."""
    text = path.decode("ascii")
    if text in _MODEL_ROUTES:
        return text
    first, *rest = text.strip("/").split("/")
    if first not in ("v1", "v2"):
        return f"/{first}" + "/{name}" * bool(rest)
    return f"/{first}/{rest[0] if rest else ''}" + "/{id}" * (len(rest) > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedHttpServices(HttpServices):
    """What the HTTP connections of a server share that logs or traces each request."""

    access_log: AccessLog | None
    spans: Spans | None

    def new_exchange(self, connection: Connection, head: Head) -> Exchange | AsgiExchange:
        request = LoggedRequest(connection, head, self)
        exchange = HttpServices.new_exchange(self, request, head)
        request.scope = exchange.scope
        exchange.scope[_LOGGED] = request
        if self.spans is not None and (trace := self.spans.begin(header(exchange.scope, b"traceparent"))):
            exchange.scope[TRACE] = trace
        return exchange

    def end_span(self, trace: Trace, head: Head, status: int, *, failed: bool) -> None:
        """Send the span of a request."""
        assert self.spans is not None
        method, path = head.method.decode("ascii"), _template(head.path)
        attributes: dict[str, str | int] = {
            **trace.attributes,
            "http.request.method": method,
            "http.route": path,
            "http.response.status_code": status,
        }
        if path in _MODEL_ROUTES:
            attributes |= {
                "gen_ai.operation.name": operation_of(path),
                "gen_ai.provider.name": "openlaunch",
                "gen_ai.request.model": trace.endpoint,
            }
        if trace.endpoint:
            attributes["openlaunch.endpoint"] = trace.endpoint
        error = "model_error" if failed else str(status) if status >= FIRST_OF_SERVER else None
        self.spans.end(trace, f"{method} {path}", "SERVER", attributes, error)

    def lose(self, exchange: Exchange | AsgiExchange) -> None:
        HttpServices.lose(self, exchange)
        exchange.scope[_LOGGED].ended()

    def refuse(
        self, client: tuple[str, int] | None, exchange: Exchange | AsgiExchange | None, error: APIError
    ) -> bytes:
        if exchange is not None:
            exchange.scope[_LOGGED].status = error.status
            error.request_id = error.request_id or request_id_of(exchange.scope)
        else:
            error.request_id = error.request_id or new_request_id()
            if self.access_log is None:
                return HttpServices.refuse(self, client, exchange, error)
            self.access_log.add(
                failed=True,
                client=None if client is None else client[0],
                owner=None,
                key=None,
                method=None,
                path=None,
                status=error.status,
                bytes=None,
                ms=None,
                request=error.request_id,
                trace=None,
            )
        return HttpServices.refuse(self, client, exchange, error)

"""What the leader alone can answer: another server passes such requests on to it, over the link to a node."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

from openlaunch.errors import PayloadTooLarge
from openlaunch.server.asgi import (
    App,
    Disconnected,
    Message,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    request_id_of,
)
from openlaunch.wire import routes
from openlaunch_worker.http_body import BodyError
from openlaunch_worker.http_response import ResponseParser

SECONDS: Final = 30.0
"""Limit on an answer of the leader."""
MAX_BODY_BYTES: Final = 64 * 1024
"""Limit on the body of a request that is passed on: the largest has a few fields."""

PASSED_ON: Final = b"openlaunch-passed-on"
"""The header of a request that has been passed on, so that it is not passed on again."""

_OWN_HEADERS: Final = frozenset(
    (b"connection", b"content-length", b"transfer-encoding", b"expect", b"x-request-id", PASSED_ON)
)
_OWN_ANSWER: Final = frozenset(("connection", "transfer-encoding", "date", "server"))
_PIECE: Final = 64 * 1024

LED: Final = (
    routes.ENDPOINTS + r"/[^/]+/(?:workers|why)",
    routes.CREATION_LOGS + r"/.+",
    routes.NODES + r"(?:/.+)?",
    routes.ENVIRONMENTS + r"(?:/.+)?",
    r"/page/endpoints/[^/]+",
)
"""The paths of what only the leader knows or may do."""

_LED: Final = re.compile("|".join(LED))


class ToLeader:
    """Passes on what this server can't answer while another one leads; `rest` answers all else.

    `knows` says whether a request has a good key. `reach` opens a connection to the leader for a client, with that
    client's address; None: there is no way to it now, and `rest` says what it can.
    """

    def __init__(
        self,
        leads: Callable[[], bool],
        knows: Callable[[Scope], bool],
        reach: Callable[[str], Awaitable[asyncio.Transport | None]],
        rest: App,
    ) -> None:
        self._leads, self._knows, self._reach, self._rest = leads, knows, reach, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_for_leader(scope):
            try:
                body = await read_body(scope, receive, MAX_BODY_BYTES)
            except (PayloadTooLarge, Disconnected):
                pass
            else:
                if await self._is_answered(scope, body, send):
                    return
                receive = _again(body, receive)
        await self._rest(scope, receive, send)

    def _is_for_leader(self, scope: Scope) -> bool:
        led = not self._leads() and _LED.fullmatch(scope["path"]) is not None
        return led and header(scope, PASSED_ON) is None and self._knows(scope)

    async def _is_answered(self, scope: Scope, body: bytes, send: Send) -> bool:
        """Pass a request on; return False where there is nothing of an answer."""
        client = scope.get("client")
        transport = await self._reach("" if client is None else str(client[0]))
        if transport is None:
            return False
        answer = _Answer(send)
        try:
            async with asyncio.timeout(SECONDS):
                await answer.pass_on(transport, _head(scope, len(body)) + body)
        except (TimeoutError, BodyError):
            if answer.started:
                raise
        finally:
            transport.abort()
        return answer.started


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that was read before, and then what comes after it."""
    parts: list[Message] = [{"type": "http.request", "body": body}]

    async def read() -> Message:
        return parts.pop() if parts else await receive()

    return read


def _head(scope: Scope, length: int) -> bytes:
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    method = b"GET" if scope["method"] == "HEAD" else scope["method"].encode()
    lines = [b"%b %b%b HTTP/1.1" % (method, scope["raw_path"], query)]
    lines += [b"%b: %b" % pair for pair in scope["headers"] if pair[0] not in _OWN_HEADERS]
    lines += [b"x-request-id: " + request_id_of(scope).encode(), PASSED_ON + b": 1", b"connection: close"]
    return b"\r\n".join([*lines, b"content-length: %d" % length, b"\r\n"])


class _Answer:
    """The leader's answer, as it comes."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send

    async def pass_on(self, transport: asyncio.Transport, request: bytes) -> None:
        """Send a request, and its answer to the client. Raise `BodyError` where the answer is cut."""
        reader = asyncio.StreamReader(_PIECE)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.write(request)
        parser = ResponseParser()
        while not parser.is_done:
            data = await reader.read(_PIECE)
            piece = parser.feed(data)
            if not data:
                parser.end()
            if parser.status and not self.started:
                self.started = True
                start = {"type": "http.response.start", "status": parser.status, "headers": _headers(parser)}
                await self._send(start)
            if piece:
                await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})


def _headers(parser: ResponseParser) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in parser.headers.items()
        if name not in _OWN_ANSWER
    ]

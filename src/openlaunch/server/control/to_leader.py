"""What the leader alone can answer: another server passes such requests on to it, over the link to a node."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Final

from openlaunch.server.asgi import App, Message, Receive, Scope, Send, header, read_body, request_id_of
from openlaunch.wire import routes
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

    `reach` opens a connection to the leader for a client, with that client's address; None: there is no way to it
    now, and `rest` says what it can.
    """

    def __init__(
        self,
        leads: Callable[[], bool],
        reach: Callable[[str], Awaitable[asyncio.Transport | None]],
        rest: App,
    ) -> None:
        self._leads, self._reach, self._rest = leads, reach, rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._leads() or not _LED.fullmatch(scope["path"]) or header(scope, PASSED_ON) is not None:
            await self._rest(scope, receive, send)
            return
        client = scope.get("client")
        transport = await self._reach("" if client is None else str(client[0]))
        if transport is None:
            await self._rest(scope, receive, send)
            return
        try:
            body = await read_body(scope, receive, MAX_BODY_BYTES)
            async with asyncio.timeout(SECONDS):
                answered = await _pass_on(transport, _head(scope, len(body)) + body, send)
        finally:
            transport.abort()
        if not answered:
            await self._rest(scope, _again(body, receive), send)


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


async def _pass_on(transport: asyncio.Transport, request: bytes, send: Send) -> bool:
    """Send a request, and pass its answer on as it comes; return False where the leader was lost before that.

    Raise `BodyError` where the answer is cut.
    """
    reader = asyncio.StreamReader(_PIECE)
    protocol = asyncio.StreamReaderProtocol(reader)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    transport.write(request)
    parser = ResponseParser()
    started = False
    while not parser.is_done:
        if not (data := await reader.read(_PIECE)):
            if not started:
                return False
            parser.end()
            break
        piece = parser.feed(data)
        if parser.status and not started:
            started = True
            await send({"type": "http.response.start", "status": parser.status, "headers": _headers(parser)})
        if piece:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return True


def _headers(parser: ResponseParser) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in parser.headers.items()
        if name not in _OWN_ANSWER
    ]

"""What the leader alone can answer: another server passes such requests on to it, over the link to a node."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import aclosing
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
from openlaunch.server.gateway.passing_on import PASSED_ON, Reach, answer_of, request_of
from openlaunch.wire import routes
from openlaunch_worker.http_body import BodyError
from openlaunch_worker.http_response import ResponseParser

SECONDS: Final = 30.0
"""Limit on an answer of the leader."""
WAIT_SECONDS: Final = 10.0
"""How long a request waits while nobody leads: up to 3 s after a leader was lost, and longer on a busy machine."""
LOOK_SECONDS: Final = 0.1
"""The time from one look for a leader to the next."""
_REPEATED: Final = frozenset(("GET", "HEAD"))
"""The methods of requests that are sent again where the leader was lost before it answered."""
MAX_BODY_BYTES: Final = 64 * 1024
"""Limit on the body of a request that is passed on: the largest has a few fields."""

_OWN_ANSWER: Final = frozenset(("connection", "transfer-encoding", "date", "server"))

LED: Final = (
    routes.ENDPOINTS + r"/[^/]+/(?:workers|why)",
    routes.CREATION_LOGS + r"/.+",
    routes.NODES + r"(?:/.+)?",
    routes.ENVIRONMENTS + r"(?:/.+)?",
    routes.DOCKER_IMAGE_BATCH_JOBS + r"/[^/]+/logs",
    r"/page/endpoints/[^/]+",
)
"""The paths of what only the leader knows or may do."""

_LED: Final = re.compile("|".join(LED))


class ToLeader:
    """Passes on what this server can't answer while another one leads; `rest` answers all else.

    `knows` says whether a request has a good key. `reach` opens a connection to the leader for a client, with that
    client's address; None: there is no way to it now. For a while, a request waits for one, or until this server
    leads itself; then `rest` says what it can.
    """

    def __init__(
        self,
        leads: Callable[[], bool],
        knows: Callable[[Scope], bool],
        reach: Reach,
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
        return led and self._knows(scope)

    async def _is_answered(self, scope: Scope, body: bytes, send: Send) -> bool:
        """Pass a request on; return False where this server leads meanwhile, or nobody does for too long."""
        # Passed on to this server, it came where it should: the agents know of a leader before that is ready.
        here = header(scope, PASSED_ON) is not None
        deadline = time.monotonic() + WAIT_SECONDS
        while not self._leads() and time.monotonic() < deadline:
            transport = None if here else await self._way(scope)
            if transport is not None:
                if await self._is_passed_on(transport, scope, body, send):
                    return True
                if scope["method"] not in _REPEATED:
                    return False
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def _way(self, scope: Scope) -> asyncio.Transport | None:
        client = scope.get("client")
        return await self._reach("" if client is None else str(client[0]), "", "")

    async def _is_passed_on(
        self, transport: asyncio.Transport, scope: Scope, body: bytes, send: Send
    ) -> bool:
        """Pass a request on; return False where there is nothing of an answer."""
        answer = _Answer(send)
        try:
            async with asyncio.timeout(SECONDS):
                method = b"GET" if scope["method"] == "HEAD" else scope["method"].encode()
                path, query = scope["raw_path"], scope["query_string"]
                request = request_of(method, path, query, scope["headers"], request_id_of(scope), body)
                await answer.pass_on(transport, request)
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


class _Answer:
    """The leader's answer, as it comes."""

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send

    async def pass_on(self, transport: asyncio.Transport, request: bytes) -> None:
        """Send a request, and its answer to the client. Raise `BodyError` where the answer is cut."""
        async with aclosing(answer_of(transport, request)) as pieces:
            async for parser, piece in pieces:
                if not self.started:
                    self.started = True
                    head = {"status": parser.status, "headers": _headers(parser)}
                    await self._send({"type": "http.response.start", **head})
                if piece:
                    await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})


def _headers(parser: ResponseParser) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in parser.headers.items()
        if name not in _OWN_ANSWER
    ]

"""In front of the control plane's routes: no route sees a body that is too large or no JSON; changes are recorded.

FastAPI alone reads a body of any size, and takes what JSON does not have (NaN, halves of surrogate pairs) and
what is nested so deep that it can't be written again.
"""

import asyncio
from typing import Any

from openlaunch.errors import APIError, BadRequest, PayloadTooLarge, Unauthorized
from openlaunch.server.access.audit import AuditLog
from openlaunch.server.access.auth import Keyring
from openlaunch.server.asgi import (
    STRANGERS_BYTES,
    App,
    Disconnected,
    Message,
    Receive,
    Scope,
    Send,
    header,
    read_body,
    send_problem,
)
from openlaunch.server.prediction.inputs import OFF_LOOP_BYTES, parse_json
from openlaunch.wire import routes

MAX_DEPTH = 100
"""How deep the control plane's JSON may be nested."""

_READS = ("GET", "HEAD", "OPTIONS")


class Guard:
    """Lets requests through to `rest`."""

    def __init__(self, max_body_bytes: int, keyring: Keyring, audit: AuditLog, rest: App) -> None:
        self._max_body_bytes = max_body_bytes
        self._keyring = keyring
        self._audit = audit
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in _READS:
            await self._rest(scope, receive, send)
            return
        document, path = None, scope["path"]
        # An upload's route limits its body itself, which may be larger than memory.
        if path != routes.FILES and not path.startswith(routes.ARTIFACTS + "/"):
            try:
                body = await self._body(scope, receive)
                document = await _document(scope, body)
            except APIError as error:
                await send_problem(send, error)
                return
            except Disconnected:
                return
            receive = _again(body, receive)
        await self._rest(scope, receive, self._recorded(scope, document, send))

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        try:
            self._keyring.authenticate(header(scope, b"authorization"))
        except Unauthorized as stranger:
            try:
                return await read_body(scope, receive, min(STRANGERS_BYTES, self._max_body_bytes))
            except PayloadTooLarge:
                raise stranger from None
        return await read_body(scope, receive, self._max_body_bytes)

    def _recorded(self, scope: Scope, document: Any, send: Send) -> Send:
        """Send an answer once the audit log has the change."""
        start: Message | None = None

        async def send_later(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                await self._audit.record_request(scope, document, start["status"], message.get("body", b""))
                held, start = start, None
                await send(held)
            await send(message)

        return send_later


async def _document(scope: Scope, body: bytes) -> Any:
    """Return the body's JSON; None for another type of content, which the route refuses if it needs a body."""
    content_type = header(scope, b"content-type")
    if not body or (content_type is not None and b"json" not in content_type.lower()):
        return None
    if len(body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(_parsed, body)
    return _parsed(body)


def _parsed(body: bytes) -> Any:
    document = parse_json(body)
    level, depth = [document], 0
    while level := [child for item in level for child in _children(item)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise BadRequest(f"the body is nested deeper than {MAX_DEPTH} levels", code="too_deep")
    return document


def _children(item: Any) -> Any:
    if isinstance(item, dict):
        return item.values()
    return item if isinstance(item, list) else ()


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives a body which has been read, and then what comes after it."""
    given = False

    async def receive_body() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_body

"""Small helpers that read and answer requests without a framework."""

import base64
import logging
import math
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any

from openlaunch.errors import (
    APIError,
    BadRequest,
    MethodNotAllowed,
    PayloadTooLarge,
    ServerError,
    UnsupportedMedia,
)
from openlaunch.wire import routes

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

STRANGERS_BYTES = 4096
"""A body of more is read only once the key is known to be good."""

HOT_METHODS = "openlaunch.hot_methods"
"""Where a request's scope has the methods that the gateway serves on its path."""

INVALID_JSON = "invalid_json"
"""The code of the error that a body is not JSON."""

SIGNED_OUT = "signed_out"
"""The code of the error that a request of the page has no session."""

FAULT = "the server failed on this request; its log has the traceback"

STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}
HARMLESS = {"x-content-type-options": "nosniff", "content-security-policy": "sandbox; default-src 'none'"}
"""Headers of what users or models wrote: a browser runs nothing of it under the server's address."""

REQUEST_ID = "openlaunch.request_id"
"""Where a request's scope has its id, once there is one."""

MAX_CONTEXT_BYTES = 16 * 1024
"""How much of a request's headers a model is given."""

_SECRET_HEADERS = frozenset((b"authorization", b"proxy-authorization", b"cookie", b"x-api-key"))
_GOOD_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_ids = count(1)
_instance = base64.b32encode(os.urandom(5)).decode().lower()


class Disconnected(Exception):
    """The client went away before its request was complete."""


def new_request_id() -> str:
    """Make an id for one request, for error reports; unique over restarts."""
    return f"req_{_instance}{next(_ids):06x}"


def server_fault(log: logging.Logger, fault: Exception, request_id: str | None = None) -> ServerError:
    """Log a fault of the server's own, and return the error that the request ends with; both have the same id."""
    request_id = request_id or new_request_id()
    log.error(
        "the server failed on the request %s", request_id, exc_info=fault, extra={"request_id": request_id}
    )
    return ServerError(FAULT, request_id=request_id)


def request_id_of(scope: Scope) -> str:
    """Return the id by which answers and logs name a request: its own X-Request-ID, or a new one."""
    known: str | None = scope.get(REQUEST_ID)
    if known is None:
        given = (header(scope, b"x-request-id") or b"").decode("latin-1")
        known = scope[REQUEST_ID] = given if _GOOD_ID.fullmatch(given) else new_request_id()
    return known


def headers_of(scope: Scope) -> dict[str, str]:
    """Return a request's headers for a model, without those that are the caller's secrets, up to a bound."""
    given = {
        key.decode("latin-1"): value.decode("latin-1")
        for key, value in scope["headers"]
        if key not in _SECRET_HEADERS
    }
    size, kept = 0, {}
    for name, value in given.items():
        size += len(name) + len(value)
        if size > MAX_CONTEXT_BYTES:
            break
        kept[name] = value
    return kept


def is_upload(path: str) -> bool:
    """Return whether a request to this path may have a body that is larger than memory."""
    return path == routes.FILES or path.startswith(routes.ARTIFACTS + "/")


def header(scope: Scope, name: bytes) -> bytes | None:
    """Return the first header of this (lower-case) name."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


def check_encoding(scope: Scope) -> None:
    """Raise UnsupportedMedia if the body is compressed, or encoded in another way."""
    encoding = header(scope, b"content-encoding")
    if encoding not in (None, b"", b"identity"):
        given = encoding[:80].decode("latin-1")
        error = UnsupportedMedia(
            f"the Content-Encoding is {given!r}: send the body as it is, without that header"
        )
        error.codings = "identity"
        raise error


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Read the whole body.

    Raises:
        PayloadTooLarge: it is over `limit` bytes; known from its announced length before it is read.
        Disconnected: the client went away.
    """
    announced = header(scope, b"content-length")
    if announced is not None and int(announced) > limit:
        raise PayloadTooLarge(f"the body has {int(announced)} bytes, the limit is {limit} bytes")
    pieces: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected
        pieces.append(message.get("body", b""))
        size, more = size + len(pieces[-1]), message.get("more_body", False)
        if size > limit:
            raise PayloadTooLarge(f"the body has over {limit} bytes, which is the limit")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def problem_headers(error: APIError, request_id: str) -> dict[str, str]:
    """Make the headers of a problem document."""
    headers = {"X-Request-ID": request_id}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, UnsupportedMedia) and error.codings:
        headers["Accept-Encoding"] = error.codings
    if error.status == 401:
        # A browser asks for a password of its own where it reads Basic, which the page must not have it do.
        scheme = "Bearer" if error.code == SIGNED_OUT else "Basic"
        headers["WWW-Authenticate"] = f'{scheme} realm="openlaunch"'
    return headers


def query_value(scope: Scope, name: bytes) -> str:
    """Return a query parameter; raise BadRequest if it is missing."""
    prefix = name + b"="
    for part in scope["query_string"].split(b"&"):
        if part.startswith(prefix):
            return str(part[len(prefix) :].decode("latin-1"))
    raise BadRequest(f"the query parameter {name.decode()} is missing", code="missing_parameter")

"""The control plane's routes: the caller is known before a body is read, and no route sees a body out of bounds.

FastAPI alone reads and parses a body of any size before it looks at the caller, and takes what JSON does not have
(NaN, halves of surrogate pairs) and what is nested so deep that it can't be written again.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from openlaunch.errors import BadRequest, PayloadTooLarge, UnsupportedMedia
from openlaunch.server.accept import JSON, check_accept
from openlaunch.server.access.auth import ACTING, Principal
from openlaunch.server.asgi import Disconnected, Message, Receive, Scope, check_encoding, header, read_body
from openlaunch.server.control.routes.callers import acting, find_admin, find_caller, find_scraper, find_user
from openlaunch.server.prediction.inputs import parse_json
from openlaunch.server.prediction.schema_cost import MAX_DEPTH, is_too_deep

MAX_BODY_BYTES = 128 * 1024
"""Limit on the body of most routes: it is stored in a row that is read and written often."""

MAX_BUNDLE_BYTES = 2 * 1024 * 1024
"""Limit on the body of routes that make bundles, which can hold the text of their functions."""

MAX_VALUES = 2000
"""Values in the JSON of one body: each costs a hundred times what a byte costs, and much of them stays in memory."""

MAX_BUNDLE_VALUES = 20_000
"""Values in the JSON of a bundle, which does not stay in memory."""

DOCUMENT = "openlaunch.document"
"""Where a request's scope has the JSON of its body."""

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class ControlRoute(APIRoute):
    """A route that checks the caller, then the size of the body, and then what FastAPI checks."""

    max_body_bytes = MAX_BODY_BYTES
    max_values = MAX_VALUES

    def get_route_handler(self) -> Handler:
        handle, check_caller = super().get_route_handler(), _check_of_caller(self.dependant)
        reads_body, limit, values = self.body_field is not None, self.max_body_bytes, self.max_values
        offered = _types_of(self)

        async def checked(request: Request) -> Response:
            if check_caller is not None:
                request.scope[ACTING] = await acting(request, await check_caller(request))
            check_accept(",".join(request.headers.getlist("accept")), offered)
            check_encoding(request.scope)
            if reads_body:
                try:
                    body = await read_body(request.scope, request.receive, limit)
                except Disconnected:
                    return Response(status_code=400)  # nobody reads it
                request.scope[DOCUMENT] = _document(request.scope, body, values)
                request = Request(_as_json(request.scope), _again(body, request.receive))
            return await handle(request)

        return checked


class BundleRoute(ControlRoute):
    """A route of bundles, whose bodies may be larger."""

    max_body_bytes = MAX_BUNDLE_BYTES
    max_values = MAX_BUNDLE_VALUES


class ControlRouter(APIRouter):
    """A router of such routes."""

    def __init__(self, *, route_class: type[ControlRoute] = ControlRoute, **options: Any) -> None:
        super().__init__(route_class=route_class, **options)


def _types_of(route: APIRoute) -> set[str]:
    """Return the types of what a route answers: those that it names, or that of its class of answer."""
    named = route.responses.get(200, {}).get("content", {})
    answer = route.response_class
    kind = answer.value if isinstance(answer, DefaultPlaceholder) else answer
    return {*named, kind.media_type or JSON}


def _check_of_caller(dependant: Dependant) -> Callable[[Request], Awaitable[Principal]] | None:
    """Return which of the checks of the caller a route depends on."""
    found = {part.call for part in dependant.dependencies}
    return next(
        (check for check in (find_admin, find_scraper, find_user, find_caller) if check in found), None
    )


def _as_json(scope: Scope) -> Scope:
    """Return the scope with the type of the body, which FastAPI does not read without it."""
    if header(scope, b"content-type") is None:
        return {**scope, "headers": [*scope["headers"], (b"content-type", b"application/json")]}
    return scope


def _check_type(scope: Scope) -> None:
    content_type = header(scope, b"content-type")
    if content_type is not None and b"json" not in content_type.lower():
        given = content_type[:80].decode("latin-1")
        hint = (
            "; curl -d sends that one: add -H 'Content-Type: application/json'"
            if b"form" in content_type
            else ""
        )
        raise UnsupportedMedia(f"the Content-Type is {given!r}, application/json is needed{hint}")


def _document(scope: Scope, body: bytes, values: int) -> Any:
    """Return the body's JSON, None where there is no body; raise UnsupportedMedia for another type of content."""
    if not body:
        return None
    _check_type(scope)
    if sum(map(body.count, (b",", b"[", b"{"))) > values:
        raise PayloadTooLarge(f"the JSON of the body has over {values} values, which is the limit")
    document = parse_json(body)
    if is_too_deep(document):
        raise BadRequest(f"the body is nested deeper than {MAX_DEPTH} levels", code="too_deep")
    return document


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

"""Errors as clients of OpenAI's API read them, and those of Anthropic's, whose routes are among the same."""

import json
from collections.abc import Mapping
from typing import Any

from openlaunch.errors import (
    APIError,
    Forbidden,
    NotFound,
    ServerError,
    TooManyRequests,
    Unauthorized,
    Unprocessable,
)
from openlaunch.wire import routes

_OF_ANTHROPIC = (routes.MESSAGES, routes.COUNT_TOKENS)
NAMED_EVENTS = (routes.RESPONSES, *_OF_ANTHROPIC)
"""Routes whose streams have names for their events, and whose errors do."""

_OF_MODEL = ("missing_model", "model_not_found", "unsupported_route", "wrong_endpoint_type")
"""Codes of errors that are about the `model` of a request."""

_OF_MESSAGES = {NotFound.status: "not_found_error", Forbidden.status: "permission_error"}


def error_document(error: APIError, request_id: str, route: str = "") -> dict[str, Any]:
    """Return an error of a route as its clients read it; the rest is for those of Launch and our own."""
    document: dict[str, Any] = {
        "error": described(error),
        "detail": error.message,
        "code": error.code,
        "request_id": request_id,
    }
    if route in NAMED_EVENTS:
        document |= {"type": "error", "message": error.message}
    if route in _OF_ANTHROPIC:
        kind = "api_error" if error.status >= ServerError.status else _OF_MESSAGES.get(error.status)
        document["error"]["type"] = kind or _type_of(error)
    return document


def error_event(error: APIError, request_id: str, route: str) -> bytes:
    """Return the last event of a stream that has failed, which clients raise as an error."""
    name = b"event: error\n" if route in NAMED_EVENTS else b""
    return b"%bdata: %b\n\n" % (name, json.dumps(error_document(error, request_id, route)).encode())


def described(error: APIError) -> dict[str, Any]:
    """Return what OpenAI's clients read of an error."""
    errors = error.errors if isinstance(error, Unprocessable) else ()
    param = _path(errors[0]) if errors else "model" if error.code in _OF_MODEL else None
    return {"message": _message_of(error), "type": _type_of(error), "param": param, "code": error.code}


def _path(misfit: Mapping[str, Any]) -> str | None:
    return ".".join(map(str, misfit["loc"][1:])) or None


def _message_of(error: APIError) -> str:
    """Return the message with the fields that do not fit, which clients show nowhere else."""
    errors = error.errors if isinstance(error, Unprocessable) else ()
    fields = [f"{_path(each) or ''}: {each['msg']}" for each in errors]
    return "; ".join([error.message, *(field for field in fields if field not in error.message)])


def _type_of(error: APIError) -> str:
    if error.status >= ServerError.status:
        return "server_error"
    if error.status == TooManyRequests.status:
        return "rate_limit_error"
    return "authentication_error" if error.status == Unauthorized.status else "invalid_request_error"

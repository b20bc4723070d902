"""Errors on the wire: problem+json (RFC 9457) to and from the classes of `openlaunch.errors`.

`detail` is text, but for 422 it is the contract's list of `{"loc", "msg", "type"}`; the text is then in
`title`.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

from openlaunch.errors import APIError, BadRequest, class_for_status

CONTENT_TYPE = "application/problem+json"
MAX_TEXT = 500
"""Bytes of an answer other than JSON that go into the error's message."""


def to_problem(error: APIError, request_id: str | None) -> dict[str, Any]:
    """Return the problem document of an error."""
    return {
        "type": "about:blank",
        "title": error.message if error.errors else error.title,
        "status": error.status,
        "detail": [dict(e) for e in error.errors] if error.errors else error.message,
        "code": error.code,
        "request_id": request_id,
    }


def from_response(status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    """Return the error of an answer with status 300 or more, of this server, a proxy or an old server."""
    if status < 400:
        return _redirected(status, headers)
    document = _document(body)
    if document is None:
        retry_after = _seconds(headers.get("retry-after"))
        return class_for_status(status)(_foreign(status, body), retry_after=retry_after)
    detail = document.get("detail")
    errors = [e for e in detail if isinstance(e, dict)] if isinstance(detail, list) else []
    message = "; ".join(_field_message(e) for e in errors) if errors else str(detail or "")
    return class_for_status(status)(
        message or f"the server answered {status} without a reason",
        code=_text(document.get("code")),
        retry_after=_seconds(headers.get("retry-after")),
        request_id=_text(document.get("request_id")) or headers.get("x-request-id"),
        errors=errors,
    )


def _foreign(status: int, body: bytes) -> str:
    """Say what a proxy, or whatever else is not an Openlaunch server, has answered."""
    text = body[:MAX_TEXT].decode("utf-8", "replace").strip() or "it is empty"
    return (
        f"the answer has the status {status}, and is not one of an Openlaunch server (is the URL right, and is there "
        f"a proxy on the way?): {text}"
    )


def _redirected(status: int, headers: Mapping[str, str]) -> APIError:
    where = headers.get("location", "")[:MAX_TEXT]
    return BadRequest(
        f"the answer is a redirect ({status}) to {where!r}, which is not followed: give the client the URL of the "
        "server itself",
        code="redirected",
    )


def _document(body: bytes) -> dict[str, Any] | None:
    """Return the problem document in an answer; None where it has none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) and document.keys() & {"detail", "code"} else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: str | None) -> float | None:
    """Return a Retry-After in seconds; None for a date, which we never send, and for anything else."""
    try:
        seconds = float(value or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _field_message(error: Mapping[str, Any]) -> str:
    loc = error.get("loc")
    path = ".".join(str(part) for part in loc) if isinstance(loc, list) else ""
    return f"{path}: {error.get('msg', '')}" if path else str(error.get("msg", ""))

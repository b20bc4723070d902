"""Errors on the wire: problem+json (RFC 9457) to and from the classes of `openlaunch.errors`.

`detail` is text, but for 422 it is the contract's list of `{"loc", "msg", "type"}`; the text is then in
`title`.
"""

import json
from collections.abc import Mapping
from typing import Any

from openlaunch.errors import APIError, class_for_status

CONTENT_TYPE = "application/problem+json"


def to_problem(error: APIError, request_id: str | None) -> dict[str, Any]:
    """The problem document of an error."""
    return {
        "type": "about:blank",
        "title": error.message if error.errors else error.title,
        "status": error.status,
        "detail": [dict(e) for e in error.errors] if error.errors else error.message,
        "code": error.code,
        "request_id": request_id,
    }


def from_response(status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    """The error of an answer with status 400 or more, from whoever wrote it: us, a proxy, an old server."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {"detail": body[:500].decode("utf-8", "replace").strip()}
    detail = document.get("detail")
    errors = [e for e in detail if isinstance(e, dict)] if isinstance(detail, list) else []
    message = "; ".join(_field_message(e) for e in errors) if errors else str(detail or "")
    retry_after = headers.get("retry-after", "")
    return class_for_status(status)(
        message or f"the server answered {status} without a reason",
        code=document.get("code"),
        retry_after=float(retry_after) if retry_after.replace(".", "", 1).isdigit() else None,
        request_id=document.get("request_id") or headers.get("x-request-id"),
        errors=errors,
    )


def _field_message(error: Mapping[str, Any]) -> str:
    path = ".".join(str(part) for part in error.get("loc", ()))
    return f"{path}: {error.get('msg', '')}" if path else str(error.get("msg", ""))

"""The lines of the files of answers and errors of batches for models."""

import json
from typing import Any

import orjson

from openlaunch_worker.frames import Body

LINE_HEAD = b'{"id": "batch_req_'
"""What a line begins with that is the result of a task; other tasks have ended without an answer."""

_MAX_TEXT = 2000


def line_of(
    line_id: str,
    custom_id: str | None,
    response: dict[str, Any] | None,
    body: bytes,
    error: dict[str, str] | None,
) -> bytes:
    """Return a line of a file of answers or errors; the response has this body, which is JSON in one line."""
    answer = b"null"
    if response is not None:
        answer = b'%b, "body": %b}' % (json.dumps(response).encode()[:-1], body)
    parts = (line_id.encode(), json.dumps(custom_id).encode(), answer, json.dumps(error).encode())
    return LINE_HEAD + b'%b", "custom_id": %b, "response": %b, "error": %b}\n' % parts


def error_line(line_id: str, custom_id: str | None, code: str, message: str) -> bytes:
    """Return a line of a file of errors for what has no answer."""
    return line_of(line_id, custom_id, None, b"", {"code": code, "message": message})


def body_of_line(gathered: Body) -> bytes:
    """Return an answer as JSON in one line; what is not JSON becomes its text."""
    try:
        orjson.loads(gathered)
    except orjson.JSONDecodeError:
        return text_of_line(gathered)
    # Where JSON has a line feed, it is between values.
    return bytes(gathered).replace(b"\r", b"").replace(b"\n", b" ")


def text_of_line(gathered: Body) -> bytes:
    """Return the beginning of what is not JSON, or can't be read, as JSON."""
    return json.dumps(bytes(gathered[:_MAX_TEXT]).decode("utf-8", "replace")).encode()

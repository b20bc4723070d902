"""Reads the lines of a batch for models, a few at a time: each is a request as OpenAI's Batch API has it."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from openlaunch.tasks.batch_input import MAX_INPUT_CHARS, InputError, Pieces
from openlaunch.tasks.raw_json import members
from openlaunch.wire import routes

MAX_CUSTOM_ID = 512
STORED = frozenset(("previous_response_id", "conversation", "background"))
"""Fields of a request for a response that need what OpenAI's API stores."""
NOT_STORED = (
    "answers are not stored here: send the whole conversation as input, without previous_response_id, conversation "
    "and background"
)
"""Why a request is refused that needs what OpenAI's API stores; engines leave out that they know nothing of it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line: the body of a request for a model; or, with `error`, why it can't be one."""

    number: int
    custom_id: str | None = None
    model: str = ""
    body: bytes = field(default=b"", repr=False)
    error: str | None = None


class _Bad(ValueError):
    """A line that can't be a request; the others can."""


def model_lines(pieces: Iterator[bytes], endpoint: str, max_bytes: int) -> Iterator[Line]:
    """Yield the lines of a file that are not empty, for this route, with bodies of up to `max_bytes`.

    Raises:
        InputError: a line is too long to be read.
    """
    seen: set[str] = set()
    text = io.TextIOWrapper(io.BufferedReader(Pieces(pieces), 1 << 20), "utf-8-sig", "surrogateescape", "\n")
    number = 0
    while line := text.readline(MAX_INPUT_CHARS):
        number += 1
        if not line.endswith("\n") and len(line) >= MAX_INPUT_CHARS:
            raise InputError(f"line {number} has over {MAX_INPUT_CHARS} characters")
        if not line.isspace():
            yield _line(number, line, endpoint, max_bytes, seen)


def needs_stored(body: dict[str, Any]) -> bool:
    """Return whether a request for a response continues an earlier one, or is to be asked for later."""
    return any(body.get(name) for name in STORED)


def _line(number: int, text: str, endpoint: str, max_bytes: int, seen: set[str]) -> Line:
    custom_id = None
    try:
        document = _object(text)
        custom_id = _custom_id(document)
        if custom_id in seen:
            raise _Bad("custom_id is that of a line before: give each line one of its own")
        seen.add(custom_id)
        model = _checked(document, endpoint)
        body = _text_of_body(text).encode()
        if len(body) > max_bytes:
            raise _Bad(f"body has {len(body)} bytes, {max_bytes} are allowed")
        return Line(number, custom_id, model, body)
    except _Bad as error:
        return Line(number, custom_id, error=f"line {number}: {error}")


def _object(text: str) -> dict[str, Any]:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Bad("it is not UTF-8 text") from None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Bad(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _Bad("it is not an object of JSON")
    return document


def _custom_id(document: dict[str, Any]) -> str:
    custom_id = document.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID:
        raise _Bad(f"custom_id is missing, or not text of up to {MAX_CUSTOM_ID} characters")
    return custom_id


def _checked(document: dict[str, Any], endpoint: str) -> str:
    """Return the model that the request is for."""
    if document.get("method", "POST") != "POST":
        raise _Bad("method is not POST")
    if document.get("url", endpoint) != endpoint:
        raise _Bad(f"url is {repr(document['url'])[:80]}, and the batch is for {endpoint}")
    body = document.get("body")
    if not isinstance(body, dict):
        raise _Bad("body is not an object")
    if body.get("stream"):
        raise _Bad("body asks for a stream: leave out stream, the answers of a batch come whole")
    if endpoint == routes.RESPONSES and needs_stored(body):
        raise _Bad(NOT_STORED)
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _Bad("body.model is missing: name an endpoint that speaks OpenAI")
    return model


def _text_of_body(text: str) -> str:
    """Return the body as it stands in the line, of which nothing is written anew."""
    return [text[start:end] for name, start, end in members(text) if name == "body"][-1]

"""Reads the items of a streamed HTTP answer: server-sent events, or JSON texts on lines."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

from openlaunch_worker.http_body import BodyError, pieces

MAX_LINE: Final = 64 * 1024 * 1024
MAX_SHOWN: Final = 200
EVENTS: Final = "text/event-stream"
_JSON_LINES: Final = frozenset(
    ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
)
_IGNORED: Final = frozenset((b"", b"id", b"retry"))
"""Fields of events that say nothing of items, and comments, which begin with a colon."""


def items(response: Any) -> Iterator[Any]:
    """Yield the items of a response as they come. Raise `BodyError` where it is cut short, or not a stream."""
    kind, coding = content_type(response), response.headers.get("Content-Encoding", "identity")
    if coding != "identity":
        raise BodyError(f"its stream has the Content-Encoding {coding!r}, which was not asked for")
    # Where nothing says how long the body is, only a line's end says that the line is whole.
    framed = response.chunked or response.length is not None
    lines = _lines(pieces(response), framed=framed)
    if kind in _JSON_LINES:
        return _json_lines(lines)
    if kind in (EVENTS, ""):
        return _events(lines)
    allowed = f"{EVENTS} or application/x-ndjson"
    raise BodyError(f"it answered with the Content-Type {kind!r}: a stream needs {allowed}")


def content_type(response: Any) -> str:
    """Return the media type of a response in lower case, without parameters; empty where it names none."""
    named: str = response.headers.get("Content-Type", "")
    return named.partition(";")[0].strip().lower()


def value(text: str) -> Any:
    """Return what the text is as JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _json_lines(lines: Iterable[bytes]) -> Iterator[Any]:
    for line in lines:
        if line.strip():
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                raise BodyError(f"a line of its stream is not JSON: {_shown(line)}") from None
            yield item


def _events(lines: Iterable[bytes]) -> Iterator[Any]:
    """Yield the data of events, as JSON where it is. A language model server's `[DONE]` ends them."""
    found, event, data, odd = False, b"", [], b""
    for line in chain(lines, (b"",)):  # the last event is given also where no empty line follows it
        name, _, content = line.partition(b":")
        content = content.removeprefix(b" ")
        if name == b"data":
            data.append(content)
        elif name == b"event":
            event = content
        elif line and name not in _IGNORED:
            odd = odd or line
        if line:
            continue
        if data:
            found = True
            text = b"\n".join(data).decode("utf-8", "replace")
            if event == b"error":
                raise BodyError(f"its stream has an event `error`: {text[:MAX_SHOWN]}")
            if text == "[DONE]":
                return
            yield value(text)
        event, data = b"", []
    if odd and not found:
        raise BodyError(f"its stream has no server-sent events, but lines such as {_shown(odd)}")


def _lines(body: Iterable[bytes], *, framed: bool) -> Iterator[bytes]:
    """Yield the lines of a body. What is behind the last line's end is a line only in a body that is `framed`.

    Elsewhere the connection may have ended in the middle of it: then raise `BodyError`.
    """
    parts, size, held, began = [b""], 0, b"", False
    for piece in body:
        data = held + piece
        held = b"\r" if data.endswith(b"\r") else b""  # its \n may follow
        first, *more = data.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        parts.append(first if began else first.removeprefix(BOM_UTF8))
        began = True
        size += len(first)
        for line in more:
            yield b"".join(parts)
            parts, size = [line], len(line)
        if size > MAX_LINE:
            raise BodyError(f"its stream has a line of over {MAX_LINE} bytes")
    last = b"".join(parts)
    if last and not framed and not held:
        raise BodyError(
            f"its answer was cut short: the connection ended in the middle of a line: {_shown(last)}"
        )
    yield last


def _shown(line: bytes) -> str:
    return repr(line[:MAX_SHOWN].decode("utf-8", "replace"))

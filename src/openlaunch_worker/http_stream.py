"""Reads the items of a streamed HTTP answer: server-sent events, or JSON texts on lines."""

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from typing import Any, Final, Protocol

from openlaunch_worker.http_body import BodyError
from openlaunch_worker.upstream import Answer

MAX_LINE: Final = 64 * 1024 * 1024
MAX_SHOWN: Final = 200
EVENTS: Final = "text/event-stream"
JSON_LINES: Final = frozenset(
    ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")
)
_IGNORED: Final = frozenset((b"", b"id", b"retry"))
"""Fields of events that say nothing of items, and comments, which begin with a colon."""


class ItemReader(Protocol):
    """Makes items of the bytes of a stream."""

    is_done: bool
    """Whether the stream has said that no item follows."""

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the items that end in these bytes. Raise `BodyError` where they are not such a stream's."""
        ...

    def end(self) -> Iterator[Any]:
        """Yield the items that end with the stream. Raise `BodyError` where it was cut short."""
        ...


def item_reader(answer: Answer) -> ItemReader:
    """Return what reads the items of an answer. Raise `BodyError` where it is not a stream."""
    kind, coding = content_type(answer), answer.headers.get("content-encoding", "identity")
    if coding != "identity":
        raise BodyError(f"its stream has the Content-Encoding {coding!r}, which was not asked for")
    lines = _Lines(is_framed=answer.is_framed)
    if kind in JSON_LINES:
        return _JsonLines(lines)
    if kind in (EVENTS, ""):
        return _Events(lines)
    allowed = f"{EVENTS} or application/x-ndjson"
    raise BodyError(f"it answered with the Content-Type {kind!r}: a stream needs {allowed}")


def content_type(answer: Answer) -> str:
    """Return the media type of an answer in lower case, without parameters; empty where it names none."""
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()


def value(text: str) -> Any:
    """Return what the text is as JSON, else the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


class _Lines:
    """Cuts bytes into lines.

    Where nothing says how long the body is, only a line's end says that the line is whole: what is behind the last
    one is a line only in a body that `is_framed`.
    """

    def __init__(self, *, is_framed: bool) -> None:
        self._is_framed = is_framed
        self._parts: list[bytes] = []
        self._size = 0
        self._held = b""
        """A \\r at the end of what has come: its \\n may follow."""
        self._has_begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that end in these bytes."""
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        first, *more = (
            data.removesuffix(self._held).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        )
        self._parts.append(first if self._has_begun else first.removeprefix(BOM_UTF8))
        self._has_begun = True
        self._size += len(first)
        lines = []
        for line in more:
            lines.append(b"".join(self._parts))
            self._parts, self._size = [line], len(line)
        if self._size > MAX_LINE:
            raise BodyError(f"its stream has a line of over {MAX_LINE} bytes")
        return lines

    def end(self) -> bytes:
        """Return what is behind the last line's end. Raise `BodyError` where the body may have been cut short."""
        last = b"".join(self._parts)
        if last and not self._is_framed and not self._held:
            raise BodyError(
                f"its answer was cut short: the connection ended in the middle of a line: {_shown(last)}"
            )
        return last


class _JsonLines:
    """Reads an item from each line."""

    is_done = False

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def feed(self, data: bytes) -> Iterator[Any]:
        return self._items(self._lines.feed(data))

    def end(self) -> Iterator[Any]:
        return self._items([self._lines.end()])

    def _items(self, lines: list[bytes]) -> Iterator[Any]:
        for line in lines:
            if line.strip():
                try:
                    item = json.loads(line)
                except (ValueError, RecursionError):
                    raise BodyError(f"a line of its stream is not JSON: {_shown(line)}") from None
                yield item


class _Events:
    """Reads the data of events, as JSON where it is. A language model server's `[DONE]` ends them."""

    def __init__(self, lines: _Lines) -> None:
        self.is_done = False
        self._lines = lines
        self._event = b""
        self._data: list[bytes] = []
        self._size = 0
        self._odd = b""
        self._has_items = False

    def feed(self, data: bytes) -> Iterator[Any]:
        for line in self._lines.feed(data):
            yield from self._line(line)
            if self.is_done:
                return

    def end(self) -> Iterator[Any]:
        yield from self._line(self._lines.end())
        yield from self._line(b"")  # the last event is given also where no empty line follows it
        if self._odd and not self._has_items:
            raise BodyError(f"its stream has no server-sent events, but lines such as {_shown(self._odd)}")

    def _line(self, line: bytes) -> Iterator[Any]:
        if not line:
            yield from self._end_event()
            return
        name, _, content = line.partition(b":")
        content = content.removeprefix(b" ")
        if name == b"data":
            self._data.append(content)
            self._size += len(content)
            if self._size > MAX_LINE:
                raise BodyError(f"its stream has an event of over {MAX_LINE} bytes")
        elif name == b"event":
            self._event = content
        elif name not in _IGNORED:
            self._odd = self._odd or line

    def _end_event(self) -> Iterator[Any]:
        event, data = self._event, self._data
        self._event, self._data, self._size = b"", [], 0
        if not data:
            return
        self._has_items = True
        text = b"\n".join(data).decode("utf-8", "replace")
        if event == b"error":
            raise BodyError(f"its stream has an event `error`: {text[:MAX_SHOWN]}")
        if text == "[DONE]":
            self.is_done = True
        else:
            yield value(text)


def _shown(line: bytes) -> str:
    return repr(line[:MAX_SHOWN].decode("utf-8", "replace"))

"""Reads the inputs of a batch job, a few at a time: CSV, JSON lines, or one JSON array.

* CSV with a column `url`, or a column `args` of JSON objects. The quote character of a file with `args` is
  `'`, which is how Launch's client writes it: JSON is full of `"`.
* JSON lines, or an array: objects with `args` or `url`. JSON lines are the best choice for files made by hand.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

from openlaunch.tasks.raw_json import after_blanks, members

MAX_INPUT_CHARS = 64 * 1024 * 1024
_PIECE_CHARS = 1 << 20
_BLANK = " \t\r\n"


class InputError(ValueError):
    """The file as a whole can't be read."""


class BadRow:
    """An input that can't be read; the others can."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


Row = str | BadRow


def rows(pieces: Iterator[bytes]) -> Iterator[Row]:
    """Yield the inputs of a file as the text of bodies, `{"args": …}` or `{"url": …}` each, with values as they came.

    Raises:
        InputError: the bytes are not UTF-8 text, or not in one of the formats.
    """
    buffered = io.BufferedReader(Pieces(pieces), 1 << 20)
    first = buffered.peek()[:4096].removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    text = io.TextIOWrapper(buffered, "utf-8-sig", newline="")
    try:
        if first == b"[":
            yield from _array(text)
        elif first == b"{":
            yield from _lines(text)
        else:
            yield from _table(text)
    except UnicodeDecodeError as error:
        raise InputError(f"the input is not UTF-8 text: {error}") from None


class Pieces(io.RawIOBase):
    """A file of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, however small the pieces are."""
        filled = 0
        while filled < len(buffer):
            if not self._rest:
                self._rest = memoryview(next(self._pieces, b""))
                if not self._rest:
                    break
            count = min(len(buffer) - filled, len(self._rest))
            buffer[filled : filled + count] = self._rest[:count]
            self._rest = self._rest[count:]
            filled += count
        return filled


def _table(text: io.TextIOWrapper) -> Iterator[Row]:
    header = text.readline(_PIECE_CHARS)
    names = [name.strip().strip("\"'") for name in header.strip().split(",")]
    columns = [name for name in ("args", "url") if name in names]
    if not columns:
        raise InputError(
            f"the input is neither JSON nor a CSV with a column 'url' or 'args': it begins with {header[:80]!r}"
        )
    csv.field_size_limit(MAX_INPUT_CHARS)
    reader = csv.reader(_bounded_lines(text), quotechar="'" if "args" in columns else '"', strict=True)
    try:
        for values in reader:
            if values:
                yield _table_row(dict(zip(names, values, strict=False)), columns, len(values), len(names))
    except csv.Error as error:
        raise InputError(f"line {reader.line_num + 1} of the CSV can't be read: {error}") from None


def _table_row(row: dict[str, str], columns: Sequence[str], found: int, expected: int) -> Row:
    if found != expected:
        return BadRow(f"the row has {found} values, the header names {expected} columns")
    given = {name: row[name] for name in columns if row[name]}
    if "url" in given:
        given["url"] = json.dumps(given["url"])
    if "args" in given:
        try:
            json.loads(given["args"])
        except (ValueError, RecursionError) as error:
            return BadRow(f"args is not JSON: {error}")
    return _written(given)


def _bounded_lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_INPUT_CHARS):
        if len(line) == MAX_INPUT_CHARS:
            raise InputError(
                f"a line of the input has {MAX_INPUT_CHARS} characters or more, which is the limit"
            )
        yield line


def _lines(text: io.TextIOWrapper) -> Iterator[Row]:
    for line in _bounded_lines(text):
        if line.strip():
            try:
                json.loads(line)
                yield _body(line)
            except (ValueError, RecursionError) as error:
                yield BadRow(f"the line is not JSON: {error}")


def _array(text: io.TextIOWrapper) -> Iterator[Row]:
    """Yield the elements of one array; at most the longest element and a piece are in memory."""
    decoder = json.JSONDecoder()
    buffer, at = text.read(_PIECE_CHARS).lstrip(_BLANK), 1
    number = 0
    while True:
        at = after_blanks(buffer, at)
        if at == len(buffer):
            buffer, at = text.read(_PIECE_CHARS).lstrip(_BLANK), 0
        if number == 0 and buffer.startswith("]", at):
            return
        start, end, buffer, at = _next_element(decoder, buffer, at, text, number)
        yield _body(buffer[start:end])
        number += 1
        if buffer[at] == "]":
            return
        at += 1  # the comma: `_next_element` has seen that it is one


def _next_element(
    decoder: json.JSONDecoder, buffer: str, at: int, text: io.TextIOWrapper, number: int
) -> tuple[int, int, str, int]:
    """Return where the element at this place begins and ends, the buffer, and where the next bracket or comma is."""
    while True:
        problem = "it ends in the middle"
        try:
            _, end = decoder.raw_decode(buffer, at)
            behind = after_blanks(buffer, end)
            if behind < len(buffer):
                if buffer[behind] in ",]":
                    return at, end, buffer, behind
                problem = f"{buffer[behind : behind + 20]!r} follows it"
        except (ValueError, RecursionError) as error:
            problem = str(error)
        more = text.read(max(_PIECE_CHARS, len(buffer) - at))
        if not more or len(buffer) - at > MAX_INPUT_CHARS:
            raise InputError(f"element {number} of the JSON array can't be read: {problem}")
        buffer, at = buffer[at:] + more, 0


def _body(element: str) -> Row:
    start = after_blanks(element, 0)
    if element[start] != "{":
        return BadRow(f"it is {type(json.loads(element)).__name__}, an object with args or url is needed")
    try:
        parts = {name: element[begin:end] for name, begin, end in members(element, start)}
    except RecursionError as error:
        return BadRow(f"it is nested too deep: {error}")
    return _written({name: parts[name] for name in ("args", "url") if name in parts})


def _written(given: dict[str, str]) -> str:
    return "{" + ", ".join(f'"{name}": {value}' for name, value in given.items()) + "}"

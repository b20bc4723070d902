"""The lines of logs: each is stored behind the time at which it began, and several logs are read as one."""

import heapq
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

from openlaunch.engines.documents import LogLine, LogPart
from openlaunch.log_files import blocks_from_the_end
from openlaunch.wire.times import stamp_of

MAX_LINE = 4 * 1024 * 1024
"""A longer line is read as several."""

_STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ")
_STAMPS = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z ", re.MULTILINE)
_LEVEL = re.compile(
    rb"(?:[\[(]?\d[\d:.,/TZ+ -]{4,40}[\])]?[ :-]+)?"
    rb"[\[<(]?(DEBUG|INFO|WARN(?:ING)?|ERROR|CRITICAL|FATAL)(?=[\]>):\s|-])"
)
"""The level of a line that begins with it, as Python's logging writes it, or with a time before it."""
_SHORT = {"WARN": "WARNING", "FATAL": "CRITICAL"}
_NOT_KNOWN = "9"
"""The time of lines at a log's end that have none: after all others."""


def new_stamp() -> bytes:
    """Return what a line that begins now is stored behind."""
    return f"{stamp_of(datetime.now(UTC))} ".encode()


def without_stamps(text: str) -> str:
    """Return lines of a log as they were printed."""
    return _STAMPS.sub("", text)


def log_line(worker: str, data: bytes, at: str) -> LogLine:
    """Return a stored line; `at` is its time where it has none."""
    data = without_past(data)
    if (stamp := _STAMP.match(data)) is not None:
        at, data = stamp[1].decode(), data[stamp.end() :]
    found = _LEVEL.match(data)
    level = "" if found is None else found[1].decode()
    return LogLine(worker, data.rstrip(b"\r").decode(errors="replace"), at, _SHORT.get(level, level))


def without_past(data: bytes) -> bytes:
    """Return a stored line without what carriage returns overwrite: of a progress bar the last state alone."""
    stamp = _STAMP.match(data)
    head = 0 if stamp is None else stamp.end()
    return data[:head] + data[max(head, data.rstrip(b"\r").rfind(b"\r") + 1) :]


def from_the_end(path: Path, worker: str, limit: int, end: int | None = None) -> Iterator[LogLine]:
    """Yield the lines in the last `limit` bytes before `end` of a log, the last one first."""
    rest, at, is_last = b"", _NOT_KNOWN, True
    for _, block in blocks_from_the_end(path, limit, end):
        lines = (block + rest).split(b"\n")
        if is_last and not lines[-1]:
            lines.pop()
        rest, is_last = lines.pop(0) if len(lines[0]) < MAX_LINE else b"", False
        for data in reversed(lines):
            line = log_line(worker, data, at)
            at = line.at
            yield line
    if not is_last:
        yield log_line(worker, rest, at)


def last_of(logs: Iterable[Iterator[LogLine]], part: LogPart) -> list[LogLine]:
    """Return this part of logs, each of which gives its last line first, in the order of time."""
    lines: list[LogLine] = []
    room = part.tail_bytes
    for line in heapq.merge(*logs, key=attrgetter("at"), reverse=True):
        if part.until and line.at >= part.until:
            continue
        if line.at < part.since or len(lines) == part.most_lines:
            break
        size = len(f"{line.worker} {line.line}\n".encode())
        if size > room and not lines:
            lines.append(_end_of(line, room))
        if size > room:
            break
        room -= size
        lines.append(line)
    return [line for line in reversed(lines) if line.line or line.worker]


def _end_of(line: LogLine, room: int) -> LogLine:
    """Return the end of a line that alone is too long; nothing where there is no room."""
    text = line.line.encode()[-max(1, room - len(line.worker) - 2) :].decode(errors="ignore")
    return line._replace(line=text) if room > len(line.worker) + 2 else line._replace(worker="", line="")

"""The logs of all of an endpoint's workers as they grow: lines, each with the id of the worker that wrote it."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from openlaunch.engines.documents import LogLine, LogPart
from openlaunch.engines.log_lines import from_the_end, last_of, log_line, without_past
from openlaunch.engines.worker_logs import MAX_WORKER_BYTES, WorkerLogs, short_id
from openlaunch.log_files import blocks_from_the_end

MAX_POLL_BYTES = 256 * 1024
MAX_POLL_LINES = 2000
"""Limit on the lines that are read of all logs at once; the rest is read the next time."""

MAX_LINE_BYTES = 64 * 1024
"""A longer line is given in pieces."""

CUT = "(the log was shortened here, and lines may be missing)"


@dataclass(slots=True)
class _Place:
    """How far a log has been read; `rest` is the beginning of a line whose end has not been written yet."""

    offset: int
    rest: bytes = b""
    at: str = ""
    """The time of the last line."""


@dataclass(slots=True)
class FileFollower:
    """Implements `LogFollower` with files, which are read in a thread."""

    logs: WorkerLogs
    endpoint_id: str
    _places: dict[Path, _Place] = field(default_factory=dict)
    _next: int = -1

    async def begin(self, part: LogPart) -> list[LogLine]:
        return await asyncio.to_thread(self.read_end, part)

    async def poll(self) -> list[LogLine]:
        return await asyncio.to_thread(self.read_new)

    def read_end(self, part: LogPart) -> list[LogLine]:
        """Return this part of the whole lines that there are; `read_new` gives what comes behind them."""
        logs = []
        for path in reversed(self.logs.files(self.endpoint_id)):
            end = _end_of_lines(path)
            self._places[path] = _Place(end)
            logs.append(from_the_end(path, short_id(path), MAX_WORKER_BYTES, end))
        return last_of(logs, part)

    def read_new(self) -> list[LogLine]:
        """Return the lines that have been added; of new workers all."""
        there = self.logs.files(self.endpoint_id)
        self._places = {path: self._places.get(path, _Place(0)) for path in there}
        lines: list[LogLine] = []
        room = MAX_POLL_BYTES
        self._next += 1  # so that no log takes all the room every time
        first = self._next % len(there) if there else 0
        for path in there[first:] + there[:first]:
            place = self._places[path]
            before, count = place.offset, MAX_POLL_LINES - len(lines)
            if room <= 0 or count <= 0:
                break
            lines += _added(path, place, room, count)
            room -= max(0, place.offset - before)
        return lines


def _end_of_lines(path: Path) -> int:
    """Return where the last whole line of a file ends; the end of the file, where a line is too long."""
    size, last = 0, b""
    for start, last in blocks_from_the_end(path, MAX_LINE_BYTES):
        size = start + len(last)
        break
    if b"\n" in last:
        return size - len(last) + last.rindex(b"\n") + 1
    return 0 if size == len(last) else size


def _added(path: Path, place: _Place, most_bytes: int, most_lines: int) -> Iterator[LogLine]:
    worker = short_id(path)
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < place.offset:
                # `log_writer` has kept the last half of a log that was full.
                place.offset, place.rest = min(file.tell(), MAX_WORKER_BYTES // 2), b""
                yield LogLine(worker, CUT, place.at)
            file.seek(place.offset)
            data = file.read(most_bytes)
    except FileNotFoundError:
        return
    *lines, rest = data.split(b"\n", most_lines)
    if len(lines) == most_lines:
        data, rest = data[: len(data) - len(rest)], b""
    place.offset += len(data)
    if lines:
        lines[0] = place.rest + lines[0]
    else:
        rest = place.rest + rest
    if len(rest) > MAX_LINE_BYTES:
        rest = without_past(rest)
    if len(rest) > MAX_LINE_BYTES:
        lines, rest = [*lines, rest], b""
    place.rest = rest
    for data in lines:
        line = log_line(worker, data, place.at)
        place.at = line.at
        yield line

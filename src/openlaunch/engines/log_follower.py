"""The logs of all of an endpoint's workers as they grow: lines, each with the id of the worker that wrote it."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from openlaunch.engines.worker_logs import MAX_WORKER_BYTES, WorkerLogs, short_id

MAX_POLL_BYTES = 256 * 1024
MAX_POLL_LINES = 2000
"""What is read of all logs at once; the rest is read the next time."""

MAX_LINE_BYTES = 64 * 1024
"""A longer line is given in pieces."""

CUT = "(the log was shortened here, and lines may be missing)"


@dataclass(slots=True)
class _Place:
    """How far a log has been read; `rest` is the beginning of a line whose end has not been written yet."""

    offset: int
    rest: bytes = b""


@dataclass(slots=True)
class FileFollower:
    """Implements `LogFollower` with files, which are read in a thread."""

    logs: WorkerLogs
    endpoint_id: str
    _places: dict[Path, _Place] = field(default_factory=dict)
    _next: int = -1

    async def begin(self, tail_bytes: int) -> list[tuple[str, str]]:
        return await asyncio.to_thread(self.read_end, tail_bytes)

    async def poll(self) -> list[tuple[str, str]]:
        return await asyncio.to_thread(self.read_new)

    def read_end(self, tail_bytes: int) -> list[tuple[str, str]]:
        for path in reversed(self.logs.files(self.endpoint_id)):
            start, size = _line_start(path, tail_bytes)
            self._places[path] = _Place(start)
            tail_bytes -= size - start
        return self.read_new()

    def read_new(self) -> list[tuple[str, str]]:
        """Return what has been added, as pairs of a worker's short id and a line; of new workers all lines."""
        there = self.logs.files(self.endpoint_id)
        self._places = {path: self._places.get(path, _Place(0)) for path in there}
        lines: list[tuple[str, str]] = []
        room = MAX_POLL_BYTES
        self._next += 1  # so that no log takes all the room every time
        first = self._next % len(there) if there else 0
        for path in there[first:] + there[:first]:
            place = self._places[path]
            before, count = place.offset, MAX_POLL_LINES - len(lines)
            if room <= 0 or count <= 0:
                break
            lines += [(short_id(path), line) for line in _added(path, place, room, count)]
            room -= max(0, place.offset - before)
        return lines


def _line_start(path: Path, tail_bytes: int) -> tuple[int, int]:
    """Return where the first whole line begins in the last `tail_bytes` of a file, and the size of the file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - max(0, tail_bytes))
            if 0 < start < size:
                file.seek(start - 1)
                file.readline(MAX_LINE_BYTES)
                start = file.tell()
            return start, size
    except FileNotFoundError:
        return 0, 0


def _added(path: Path, place: _Place, most_bytes: int, most_lines: int) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < place.offset:
                # `log_writer` has kept the last half of a log that was full.
                place.offset, place.rest = min(file.tell(), MAX_WORKER_BYTES // 2), b""
                yield CUT
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
        lines, rest = [*lines, rest], b""
    place.rest = rest
    for line in lines:
        yield line.decode(errors="replace")

"""The logs of all of an endpoint's workers as they grow: lines, each with the id of the worker that wrote it."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from openlaunch.engines.worker_logs import MAX_WORKER_BYTES, WorkerLogs, short_id

MAX_POLL_BYTES = 256 * 1024
"""Bytes of one log that are read at once; the rest is read the next time."""

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

    async def begin(self, tail_bytes: int) -> list[tuple[str, str]]:
        return await asyncio.to_thread(self.read_end, tail_bytes)

    async def poll(self) -> list[tuple[str, str]]:
        return await asyncio.to_thread(self.read_new)

    def read_end(self, tail_bytes: int) -> list[tuple[str, str]]:
        for path in self.logs.files(self.endpoint_id):
            self._places[path] = _Place(_line_start(path, tail_bytes))
        lines = self.read_new()
        kept: list[tuple[str, str]] = []
        for line in reversed(lines):
            tail_bytes -= len(line[1].encode()) + 1
            if tail_bytes < 0:
                break
            kept.append(line)
        return kept[::-1]

    def read_new(self) -> list[tuple[str, str]]:
        """Return what has been added, as pairs of a worker's short id and a line; of new workers all lines."""
        there = self.logs.files(self.endpoint_id)
        self._places = {path: self._places.get(path, _Place(0)) for path in there}
        return [
            (short_id(path), line) for path, place in self._places.items() for line in _added(path, place)
        ]


def _line_start(path: Path, tail_bytes: int) -> int:
    """Return where the first whole line begins in the last `tail_bytes` of a file."""
    try:
        with path.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - tail_bytes)
            if start == 0:
                return 0
            file.seek(start - 1)
            file.readline(MAX_LINE_BYTES)
            return file.tell()
    except FileNotFoundError:
        return 0


def _added(path: Path, place: _Place) -> Iterator[str]:
    try:
        with path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < place.offset:
                # `WorkerLogs.prune` has kept the last half of a log that was full.
                place.offset, place.rest = min(file.tell(), MAX_WORKER_BYTES // 2), b""
                yield CUT
            file.seek(place.offset)
            data = file.read(MAX_POLL_BYTES)
    except FileNotFoundError:
        return
    place.offset += len(data)
    *lines, rest = (place.rest + data).split(b"\n")
    if len(rest) > MAX_LINE_BYTES:
        lines, rest = [*lines, rest], b""
    place.rest = rest
    for line in lines:
        yield line.decode(errors="replace")

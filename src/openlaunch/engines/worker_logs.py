"""The logs of workers: a bounded file for each of an endpoint's last workers."""

import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from openlaunch.log_files import blocks_from_the_end, last_lines, optional, private_folder

MAX_WORKER_BYTES = 10 * 1024 * 1024
"""What a log may have in it; a longer one loses its first half."""
OWN_LINES = "openlaunch server: "
"""How lines of the server's own begin."""

MAX_WORKER_LOGS = 20
"""Logs that are kept of each endpoint's workers that have ended."""


class WorkerLogs:
    """Files below `root`, a folder for each endpoint, readable by this user alone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, endpoint_id: str, worker_id: str) -> Path:
        """Return where the log of a worker goes, after making its folder."""
        return private_folder(self._root / endpoint_id) / f"worker-{short_id_of(worker_id)}.log"

    def add(self, endpoint_id: str, worker_id: str, text: str) -> None:
        """Add lines of the server's own to a worker's log, where there is one."""
        path = self._root / endpoint_id / f"worker-{short_id_of(worker_id)}.log"
        with optional(endpoint_id), suppress(FileNotFoundError), path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            start = b"" if file.read(1) in (b"", b"\n") else b"\n"
            lines = "".join(f"{OWN_LINES}{line}\n" for line in text.splitlines())
            file.write(start + lines.encode("utf-8", "backslashreplace"))

    def read(self, endpoint_id: str, tail_bytes: int) -> str:
        """Return the last `tail_bytes` of all logs, oldest worker first, each line after the worker's short id."""
        blocks: list[bytes] = []
        room = tail_bytes
        for path in reversed(self.files(endpoint_id)):
            for block in _named_from_the_end(path, room + 1):
                if room < 0:
                    break
                blocks.append(block)
                room -= len(block)
        return last_lines(b"".join(reversed(blocks)), tail_bytes)

    def files(self, endpoint_id: str) -> list[Path]:
        """Return the logs of an endpoint's workers, the one that was written to last at the end."""
        found: list[tuple[float, Path]] = []
        for path in (self._root / endpoint_id).glob("worker-*.log"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found)]

    def prune(self, endpoint_id: str, running: Collection[str]) -> None:
        """Delete the logs of workers that ended long ago.

        `running` has the short ids of workers that run, whose logs stay.
        """
        ended = [path for path in self.files(endpoint_id) if short_id(path) not in running]
        with optional(endpoint_id):
            for path in ended[:-MAX_WORKER_LOGS]:
                path.unlink(missing_ok=True)

    def remove(self, endpoint_id: str) -> None:
        shutil.rmtree(self._root / endpoint_id, ignore_errors=True)


def _named_from_the_end(path: Path, limit: int) -> Iterator[bytes]:
    """Yield the end of a log in blocks, the last one first; in them, the worker's short id is before each line."""
    name = short_id(path).encode() + b" "
    last = True
    for start, block in blocks_from_the_end(path, limit):
        named = (block.removesuffix(b"\n") if last else block).replace(b"\n", b"\n" + name)
        yield (name if start == 0 else b"") + named + (b"\n" if last else b"")
        last = False


def short_id(path: Path) -> str:
    """Return the short id of the worker that wrote a log."""
    return path.stem.removeprefix("worker-")


def short_id_of(worker_id: str) -> str:
    """Return the part of a worker's id after the endpoint's."""
    return worker_id.rpartition(".")[2]

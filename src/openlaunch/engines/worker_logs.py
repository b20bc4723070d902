"""The logs of workers: a bounded file for each of an endpoint's last workers."""

import os
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from openlaunch.engines.documents import LogLine, LogPart
from openlaunch.engines.log_lines import from_the_end, last_of, new_stamp
from openlaunch.log_files import optional, private_folder

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
            stamp = new_stamp()
            lines = [f"{OWN_LINES}{line}\n".encode("utf-8", "backslashreplace") for line in text.splitlines()]
            file.write(start + b"".join(stamp + line for line in lines))

    def read(self, endpoint_id: str, part: LogPart) -> list[LogLine]:
        """Return this part of all logs, in the order of time."""
        files = reversed(self.files(endpoint_id))
        return last_of((from_the_end(path, short_id(path), MAX_WORKER_BYTES) for path in files), part)

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


def short_id(path: Path) -> str:
    """Return the short id of the worker that wrote a log."""
    return path.stem.removeprefix("worker-")


def short_id_of(worker_id: str) -> str:
    """Return the part of a worker's id after the endpoint's."""
    return worker_id.rpartition(".")[2]

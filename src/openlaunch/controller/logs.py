"""The logs of an endpoint: one of its creation, and one of each of its last workers. All are bounded.

A disk that is full or read-only costs lines of a log, and nothing else: no worker's life depends on them.
"""

import logging
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

MAX_CREATION_BYTES = 1024 * 1024
MAX_WORKER_BYTES = 10 * 1024 * 1024
MAX_WORKER_LOGS = 20
"""So many logs of workers are kept for each endpoint, the running ones among them not counted."""

_CREATION = "creation.log"


class EndpointLogs:
    """Files below `root`, a folder for each endpoint, readable by this user alone."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def worker_path(self, endpoint_id: str, short_id: str) -> Path:
        """Where the log of a worker goes; its folder is made."""
        return self._folder(endpoint_id) / f"worker-{short_id}.log"

    def _folder(self, endpoint_id: str) -> Path:
        folder = self._root / endpoint_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

    def begin_creation(self, endpoint_id: str, title: str) -> None:
        """Begin the log of a new generation's creation; the one before is gone."""
        with _optional(endpoint_id):
            (self._folder(endpoint_id) / _CREATION).unlink(missing_ok=True)
        self.add_creation(endpoint_id, title)

    def add_creation(self, endpoint_id: str, text: str) -> None:
        """Add lines to the log of the endpoint's creation, whose oldest half goes when it is full."""
        with _optional(endpoint_id):
            path = self._folder(endpoint_id) / _CREATION
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "a", errors="replace") as file:
                file.write(text.rstrip("\n") + "\n")
            _trim(path, MAX_CREATION_BYTES)

    def creation(self, endpoint_id: str) -> str:
        """The log of the endpoint's creation; empty when there is none."""
        return tail(self._root / endpoint_id / _CREATION, MAX_CREATION_BYTES)

    def workers(self, endpoint_id: str, tail_bytes: int) -> str:
        """The last `tail_bytes` of its workers' logs, oldest worker first, each line after the worker's short id."""
        text = "".join(
            f"{short_id(path)} {line}\n"
            for path in self.worker_logs(endpoint_id)
            for line in tail(path, tail_bytes).splitlines()
        )
        return _last_lines(text.encode(errors="replace"), tail_bytes)

    def worker_logs(self, endpoint_id: str) -> list[Path]:
        """The logs of its workers, the one that was written to last at the end."""
        found: list[tuple[float, Path]] = []
        for path in (self._root / endpoint_id).glob("worker-*.log"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path))
        return [path for _, path in sorted(found)]

    def prune(self, endpoint_id: str, running: Collection[str]) -> None:
        """Shorten what has grown over its bound, and delete the logs of workers that ended long ago."""
        logs = self.worker_logs(endpoint_id)
        ended = [path for path in logs if short_id(path) not in running]
        with _optional(endpoint_id):
            for path in ended[:-MAX_WORKER_LOGS]:
                path.unlink(missing_ok=True)
            for path in logs:
                with suppress(FileNotFoundError):
                    _trim(path, MAX_WORKER_BYTES)

    def remove(self, endpoint_id: str) -> None:
        """Delete all logs of the endpoint."""
        shutil.rmtree(self._root / endpoint_id, ignore_errors=True)


@contextmanager
def _optional(endpoint_id: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        log.error("the logs of endpoint %s can't be written: %s", endpoint_id, error)


def short_id(path: Path) -> str:
    """The id of the worker that a log is of."""
    return path.stem.removeprefix("worker-")


def tail(path: Path, limit: int) -> str:
    """The whole lines in the last `limit` bytes of a file; empty when there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit - 1))
            return _last_lines(file.read(limit + 1), limit)
    except FileNotFoundError:
        return ""


def _last_lines(data: bytes, limit: int) -> str:
    if len(data) > limit:
        data = data[-limit - 1 :]
        data = data[data.find(b"\n") + 1 :]
        data = data[-limit:] if limit else b""
    return data.decode(errors="replace")


def _trim(path: Path, limit: int) -> None:
    """Cut a file that is over the limit down to its last half. Its writers append, so they go on at the end."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size <= limit:
            return
        file.seek(size - limit // 2)
        kept = file.read(limit // 2)
        file.seek(0)
        file.write(kept)
        file.truncate()

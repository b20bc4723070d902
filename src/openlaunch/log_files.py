"""Log files that are bounded. A disk that is full or read-only costs lines of a log, and nothing else."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

log = logging.getLogger(__name__)

BLOCK_BYTES = 64 * 1024


def tail(path: Path, limit: int) -> str:
    """Return the whole lines in the last `limit` bytes of a file; an empty text where there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit - 1))
            return last_lines(file.read(limit + 1), limit)
    except FileNotFoundError:
        return ""


def blocks_from_the_end(path: Path, limit: int, end: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield the last `limit` bytes of a file in blocks, the last one first, each with its place in the file.

    `end` is where the file is taken to end.
    """
    with suppress(FileNotFoundError), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        end = size if end is None else min(end, size)
        first = max(0, end - limit)
        while end > first:
            start = max(first, end - BLOCK_BYTES)
            file.seek(start)
            yield start, file.read(end - start)
            end = start


def last_lines(data: bytes, limit: int) -> str:
    """Return the whole lines in the last `limit` bytes; of a longer line its end."""
    if len(data) > limit:
        data = data[-limit - 1 :]
        data = data[data.find(b"\n") + 1 :]
        data = data[-limit:] if limit else b""
    return data.decode(errors="replace")


def trim(path: Path, limit: int) -> None:
    """Cut a file that is over the limit down to its last half. Its writers append, so they continue at its end."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size <= limit:
            return
        file.seek(size - limit // 2)
        kept = file.read(limit // 2)
        file.seek(0)
        file.write(kept)
        file.truncate()


def private_folder(path: Path) -> Path:
    """Make a folder that this user alone can read, and return it."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


@contextmanager
def optional(whose: str) -> Iterator[None]:
    """Log what keeps the logs of an endpoint from being written, and continue without them."""
    try:
        yield
    except OSError as error:
        log.error("the logs of endpoint %s can't be written: %s", whose, error)

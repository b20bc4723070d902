"""The file that says where an agent listens, and that it does: the agent holds its lock meanwhile."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def listening_at(path: Path, address: str) -> Iterator[None]:
    """Say where an agent listens, until the end of the block."""
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # who looks holds it for a moment only
        file.truncate(0)
        file.write(address)
        file.flush()
        yield


def agent_address(path: Path) -> str | None:
    """Return where the agent listens that holds the file; None where none does."""
    try:
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read() or None
    except FileNotFoundError:
        pass
    return None

"""What a server of the bundle's own prints: it goes to the worker's log, and its end is kept."""

import os
import threading
from contextlib import suppress
from typing import IO, Final

KEPT_BYTES: Final = 4000
KEPT_LINES: Final = 5
SHOWN: Final = 600
LAST_SECONDS: Final = 1.0
"""How long to wait for the last lines of a process that has ended; one that it has started may hold its output."""

_PIECE: Final = 64 * 1024
_LOG: Final = 1


class ServerOutput:
    """Copies a pipe to the worker's standard output, in a thread, until its end."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._end = b""
        self._thread = threading.Thread(target=self._copy, name="server-output", daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        while data := os.read(self._pipe.fileno(), _PIECE):
            self._end = (self._end + data)[-KEPT_BYTES:]
            left = memoryview(data)
            with suppress(OSError):  # a full disk must not stop the server
                while left:
                    left = left[os.write(_LOG, left) :]

    def last_lines(self) -> str:
        """Return the last lines of a process that has ended, as one line."""
        self._thread.join(LAST_SECONDS)
        lines = self._end.decode("utf-8", "replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-KEPT_LINES:])[-SHOWN:]

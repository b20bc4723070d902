"""What processes print, written to bounded log files by a thread: no process has a descriptor of a log.

All of it is read at a bounded rate, a piece of each process in turn, and a process that prints more waits.
"""

import asyncio
import os
import selectors
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Final

from openlaunch.engines.log_lines import new_stamp
from openlaunch.engines.sandbox import give
from openlaunch.engines.worker_logs import MAX_WORKER_BYTES, OWN_LINES
from openlaunch.log_files import trim

PIECE: Final = 64 * 1024
RATE: Final = 16 * 1024 * 1024
"""Bytes a second, of all processes together."""

REST_SECONDS: Final = 1.0
"""How long to wait for a log after its process's end: what that has left running may hold the pipe open."""


class LogPipe:
    """The pipe of one process: `sending` is the end that the process writes to, to be closed once it has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _open(path)
        self._in_line = False
        """Whether the last line that was written has no end yet."""
        if os.fstat(self._file).st_size > MAX_WORKER_BYTES:
            os.ftruncate(self._file, 0)
        self.receiving, self.sending = os.pipe()
        give(self.sending)  # else /dev/stdout could not be opened
        os.set_blocking(self.receiving, False)
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()

    def close_sending(self) -> None:
        os.close(self.sending)

    def move(self) -> int | None:
        """Write a piece to the log, and return its size: 0 where there is none now, None at the end."""
        try:
            data = os.read(self.receiving, PIECE)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            return None
        with suppress(OSError):  # a disk that is full costs lines of a log, and nothing else
            self._write(data, self._file)
        return len(data)

    def note(self, line: str) -> None:
        """Add a line of the server's own to the log, also after the process has closed its output."""
        with suppress(OSError):
            file = _open(self._path)  # the thread may close the other one at any time
            try:
                self._write(b"\n" * self._in_line + f"{OWN_LINES}{line}\n".encode(), file)
            finally:
                os.close(file)

    def _write(self, data: bytes, file: int) -> None:
        stamp = new_stamp()
        begun = b"" if self._in_line else stamp
        self._in_line = not data.endswith(b"\n")
        data = begun + data[:-1].replace(b"\n", b"\n" + stamp) + data[-1:]
        stat = os.fstat(file)
        if stat.st_nlink:  # else it was deleted, and nobody sees how long it gets
            os.write(file, data)
            if stat.st_size + len(data) > MAX_WORKER_BYTES:
                trim(self._path, MAX_WORKER_BYTES)

    def close(self) -> None:
        os.close(self.receiving)
        os.close(self._file)
        with suppress(RuntimeError):  # the loop may have ended
            self._loop.call_soon_threadsafe(self._ended.set)

    async def ended(self) -> None:
        """Wait until all that the process printed is in the log."""
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                await self._ended.wait()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


class LogWriter:
    """The thread that writes all logs; it runs while there is one to write."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._added: deque[LogPipe] = deque()
        self._caught_up: deque[threading.Event] = deque()
        self._waking, self._wake = os.pipe()
        self._selector.register(self._waking, selectors.EVENT_READ)
        self._thread: threading.Thread | None = None
        self._closed = False

    def open(self, path: Path) -> LogPipe:
        """Return a pipe whose other end is written to the log. Raise `OSError` if that can't be opened."""
        pipe = LogPipe(path)
        self._added.append(pipe)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="worker-logs", daemon=True)
            self._thread.start()
        os.write(self._wake, b"+")
        return pipe

    def catch_up(self, seconds: float = REST_SECONDS) -> None:
        """Wait until a piece of what each process has printed by now is in its log; from another thread."""
        if self._thread is None or self._closed:
            return
        caught_up = threading.Event()
        self._caught_up.append(caught_up)
        with suppress(OSError):  # it was closed meanwhile
            os.write(self._wake, b"=")
        caught_up.wait(seconds)

    def _run(self) -> None:
        while True:
            moved = 0
            # Pipes that have something by now are among what is ready here.
            waiting = [self._caught_up.popleft() for _ in range(len(self._caught_up))]
            for key, _ in self._selector.select(0 if waiting else None):
                if key.data is None:
                    if b"-" in os.read(self._waking, PIECE):
                        return
                    while self._added:
                        pipe = self._added.popleft()
                        self._selector.register(pipe.receiving, selectors.EVENT_READ, pipe)
                elif (size := key.data.move()) is None:
                    self._selector.unregister(key.fd)
                    key.data.close()
                else:
                    moved += size
            for each in waiting:
                each.set()
            time.sleep(moved / RATE)

    async def close(self) -> None:
        """End the thread; what is printed from now on is lost."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            os.write(self._wake, b"-")
            await asyncio.to_thread(self._thread.join)
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                key.data.close()
        self._selector.close()
        os.close(self._waking)
        os.close(self._wake)

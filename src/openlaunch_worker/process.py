"""The worker as a process: what it does to its surroundings, and how it ends with its server."""

import atexit
import logging
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any, Final, NoReturn

EXIT_USAGE: Final = 2
EXIT_LOAD_FAILED: Final = 3
"""The bundle can't be loaded: to start the worker again would not help."""
EXIT_SERVER_LOST: Final = 4
"""The connection to the server could not be made, was lost, or carried nonsense."""
EXIT_UNFINISHED: Final = 5
"""Requests were still running when the time to drain was over."""

UNENDED_SECONDS: Final = 0.002
"""After this time the log has what was printed without a line end."""

EXIT_SECONDS: Final = 3.0
"""How long what user code has left running may hold up the end."""
_LOOK_MS: Final = 1000
"""How often a worker looks whether its connection is still its own."""
_PR_SET_PDEATHSIG: Final = 1
# Linux tells the end of the other side while there is still something to read; elsewhere POLLHUP does.
_GONE: Final = select.POLLHUP | getattr(select, "POLLRDHUP", 0)


class _Lossy(FileIO):
    """A log that drops what a full disk does not take: nothing that prints a line should fail for it."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


class _Lines(TextIOWrapper):
    """Passes lines on at once, and soon after what has no line end yet."""

    _due = False

    def write(self, text: str, /) -> int:
        count = super().write(text)
        if not self._due and not text.endswith("\n"):
            self._due = True
            UNENDED.add(self)
            timer = threading.Timer(UNENDED_SECONDS, self.pass_on)
            timer.daemon = True
            timer.start()
        return count

    def pass_on(self) -> None:
        """Pass on what has no line end."""
        self._due = False
        UNENDED.discard(self)
        with suppress(ValueError):  # it may be closed by now
            self.flush()


UNENDED: Final[set[_Lines]] = set()
"""Outputs that have something without a line end, which is to be in the log before the answer is sent."""


def set_up_output() -> None:
    """Make what user code prints appear in the log line by line, whatever characters it holds."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper):
            raw = BufferedWriter(_Lossy(stream.fileno(), "wb", closefd=False))
            setattr(sys, name, _Lines(raw, stream.encoding, "backslashreplace", line_buffering=True))


def set_up_logging() -> None:
    """Make what user code logs from INFO on appear in the log, as long as it sets up no logging of its own."""
    logging.root.setLevel(logging.INFO)
    if logging.lastResort is not None:
        logging.lastResort.setLevel(logging.INFO)
        logging.lastResort.setFormatter(logging.Formatter(logging.BASIC_FORMAT))


def set_up_path() -> None:
    """Make programs of the environment, `python` among them, the first that are found."""
    programs = os.path.dirname(sys.executable)  # noqa: PTH120 -- not resolved: the environment's own
    os.environ["PATH"] = os.pathsep.join((programs, os.environ.get("PATH", os.defpath)))
    os.environ["VIRTUAL_ENV"] = sys.prefix


def log(message: str) -> None:
    """Write a line of the worker's own to its log, where user code has left one."""
    with suppress(Exception):
        sys.stderr.write(f"openlaunch worker: {message}\n")


calls: tuple[str, str] | None = None
"""Where the server is, and the token that this worker has for it; None: this is not a worker."""

_before_leaving: list[Callable[[], None]] = []


def on_leave(function: Callable[[], None]) -> None:
    """Have this called before the process ends, by `leave` or at its normal end."""
    _before_leaving.append(function)
    atexit.register(function)


def leave(code: int, scratch: Path) -> NoReturn:
    """End the process at once, whatever user code does; only the scratch folder is tidied away."""
    for function in _before_leaving:
        function()
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(code)


def leave_within(seconds: float, code: int, scratch: Path) -> None:
    """End the process at the latest then: threads and exit functions of user code can hold up a normal end."""
    timer = threading.Timer(seconds, leave, (code, scratch))
    timer.daemon = True
    try:
        timer.start()
    except RuntimeError:  # there is no memory for another thread
        leave(code, scratch)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies. Linux only; elsewhere the connection tells."""
    if sys.platform == "linux":
        try:
            import ctypes  # nothing else needs it

            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        except (ImportError, OSError, AttributeError):
            pass


class ServerWatch:
    """Ends the process with its connection; a thread, because user code may keep the main one busy at any time."""

    def __init__(self, sock: socket.socket, scratch: Path) -> None:
        self._fd = sock.fileno()
        self._file = _file_of(self._fd)
        self._scratch = scratch
        self._over = False

    def start(self) -> None:
        threading.Thread(target=self._watch, name="server-watch", daemon=True).start()

    def end(self) -> None:
        """Ignore the end of the connection from now on, because the worker ends."""
        self._over = True

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._fd, _GONE)
        # Where user code closes the descriptor, a poll that waits for it continues.
        while not poll.poll(_LOOK_MS) and _file_of(self._fd) == self._file:
            time.sleep(0.2)  # nothing has happened: some systems return early, and this must not spin
        if not self._over:
            leave(EXIT_SERVER_LOST, self._scratch)


def _file_of(fd: int) -> tuple[int, int] | None:
    """Return what a descriptor is of; None where it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def let_go_in_forks(sock: socket.socket) -> None:
    """Keep processes that user code forks off (multiprocessing) away from the connection and the signals.

    Else the server would not see the end of this process while they live, and a SIGTERM to one of them would
    wake this process's event loop, as if it had been meant for it.
    """
    fd = sock.fileno()
    signals = (signal.SIGTERM, signal.SIGINT)

    def block() -> None:
        # A signal to the child may come before it has released the handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def unblock() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def let_go() -> None:
        os.close(fd)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        unblock()

    os.register_at_fork(before=block, after_in_parent=unblock, after_in_child=let_go)

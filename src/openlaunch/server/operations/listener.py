"""Sockets that listen, and how connections are accepted.

A few are taken in each turn of the event loop, and none while the process can't open more files.

The event loop's own listener takes all that come in one turn, which a flood makes a long one, and stops
permanently when no file can be opened.
"""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator

from openlaunch.errors import ConfigurationError

log = logging.getLogger(__name__)

ACCEPTED_AT_ONCE = 64
PAUSE_SECONDS = 0.1
LOG_SECONDS = 60.0
BACKLOG = 2048


@contextlib.contextmanager
def bound_socket(
    host: str, port: int, instead: str = "another address with --host and --port"
) -> Iterator[socket.socket]:
    """Give a socket bound to the address, or raise ConfigurationError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"can't listen on {host}:{port}: {error.strerror or error}; "
                f"name {instead} (port 0 picks a free one)"
            ) from error
        yield listener


def url_of(listener: socket.socket, *, secure: bool) -> str:
    """Return the URL of a bound socket, for programs on this machine."""
    scheme = "https" if secure else "http"
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # noqa: S104 -- compared, not bound
        host = "127.0.0.1"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


class Listener:
    """Gives each accepted socket to `take`."""

    def __init__(self, listener: socket.socket, take: Callable[[socket.socket], None]) -> None:
        self._listener = listener
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._resuming: asyncio.TimerHandle | None = None
        self._logged_at = -LOG_SECONDS

    def start(self) -> None:
        """Listen."""
        self._listener.setblocking(False)
        self._listener.listen(BACKLOG)
        self._loop.add_reader(self._listener, self._accept)

    def close(self) -> None:
        """Stop listening."""
        if self._resuming is not None:
            self._resuming.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()

    def take_all(self) -> None:
        """Take all that has come, as one does that closes next: the kernel would reset what is not taken."""
        with contextlib.suppress(OSError):
            self._take_some(BACKLOG)

    def _accept(self) -> None:
        try:
            self._take_some(ACCEPTED_AT_ONCE)
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:
            self._pause(error)

    def _take_some(self, most: int) -> None:
        for _ in range(most):
            sock, _ = self._listener.accept()
            sock.setblocking(False)
            self._take(sock)

    def _pause(self, error: OSError) -> None:
        """Accept nothing for a moment: what has come waits in the kernel, and the loop does not spin."""
        self._loop.remove_reader(self._listener)
        self._resuming = self._loop.call_later(
            PAUSE_SECONDS, self._loop.add_reader, self._listener, self._accept
        )
        now = time.monotonic()
        if now - self._logged_at >= LOG_SECONDS:
            self._logged_at = now
            log.error("connections can't be accepted: %s; this is logged once in %g s", error, LOG_SECONDS)

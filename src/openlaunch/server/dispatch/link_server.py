"""The socket that workers connect to, and the connections that have not said yet which worker they are."""

import asyncio
import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from struct import Struct
from typing import Protocol

from openlaunch.background import BackgroundTasks
from openlaunch.errors import ConfigurationError
from openlaunch.server.dispatch.answer_rules import read_object
from openlaunch.server.dispatch.frame_link import FrameLink, handlers
from openlaunch.server.operations.listener import Listener
from openlaunch_worker.frames import Body, FrameError, Kind

HELLO_SECONDS = 10.0
"""How long a connection may take for its HELLO, which a worker sends at once."""

MAX_STRANGERS = 128
MAX_OF_ONE_PROCESS = 8
"""Limits on connections without a HELLO. Past them the oldest one is closed, because workers say HELLO at once."""

PREFIX, SOCKET = "openlaunch-", "workers.sock"
LEFT_SECONDS = 5.0
"""The age from which a temporary folder without a listener is one that a killed server has left."""

log = logging.getLogger(__name__)

_CREDENTIALS = Struct("3i")
_SO_PEERCRED: int | None = getattr(socket, "SO_PEERCRED", None)


class Expected(Protocol):
    """What is made of a connection that has said HELLO with its token."""

    def connect(self, transport: asyncio.Transport) -> None:
        """Take the connection over."""


class Stranger(FrameLink):
    """A connection that has not said HELLO: it becomes a worker's link, or ends soon."""

    def __init__(self, strangers: "Strangers", process: int = 0) -> None:
        super().__init__(_GREETING)
        self.process = process
        """The id of the process at the other end; 0 where it is not known."""
        self._strangers = strangers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._deadline = self._loop.call_later(HELLO_SECONDS, self.close)
        self._strangers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over()

    def over(self) -> None:
        """End the wait for a HELLO."""
        self._deadline.cancel()
        self._strangers.discard(self)

    def _on_hello(self, kind: int, request_id: int, payload: Body) -> None:
        hello = read_object(payload, "a HELLO")
        seat = hello.get("seat")
        member = self._strangers.find(str(hello.get("token")), seat if type(seat) is int else 0)
        if member is None:
            raise FrameError("a HELLO with a token that is not expected")
        self.over()
        self._handlers = _NOTHING
        member.connect(self._transport)


_GREETING = handlers((Kind.HELLO, Stranger._on_hello))
_NOTHING = handlers()


class Strangers:
    """Bounds the connections that have not said HELLO, all together and those of one process."""

    def __init__(self, find: Callable[[str, int], Expected | None]) -> None:
        self.find = find
        """Returns the worker that is expected with a token, once, or what takes a call for a request of a seat."""
        self._links: dict[Stranger, None] = {}
        """The oldest one first."""

    def __len__(self) -> int:
        return len(self._links)

    def add(self, stranger: Stranger) -> None:
        self._links[stranger] = None
        same = [each for each in self._links if each.process == stranger.process]
        if stranger.process and len(same) > MAX_OF_ONE_PROCESS:
            self._close(same[0])
        elif len(self._links) > MAX_STRANGERS:
            self._close(next(iter(self._links)))

    def _close(self, stranger: Stranger) -> None:
        stranger.over()
        stranger.close()

    def discard(self, stranger: Stranger) -> None:
        self._links.pop(stranger, None)


def _process_of(sock: socket.socket) -> int:
    """Return the id of the process at the other end; 0 where the system does not tell it."""
    if _SO_PEERCRED is None:
        return 0
    credentials = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[0])


def remove_leftovers(parent: Path) -> None:
    """Remove what killed servers of this user have left in a folder for temporary files."""
    for entry in os.scandir(parent):
        try:
            if not entry.name.startswith(PREFIX) or not _is_left(entry):
                continue
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                (path / SOCKET).unlink()
                path.rmdir()
            else:
                path.unlink()
        except OSError as error:
            log.warning("%s, which a server has left, could not be removed: %s", entry.path, error.strerror)


def _is_left(entry: "os.DirEntry[str]") -> bool:
    found = entry.stat(follow_symlinks=False)
    if found.st_uid != os.geteuid() or found.st_mtime > time.time() - LEFT_SECONDS:
        return False
    if entry.is_dir(follow_symlinks=False):
        names = [path.name for path in Path(entry.path).iterdir()]
        return names == [SOCKET] and not _listens(Path(entry.path, SOCKET))
    return entry.is_file(follow_symlinks=False)  # with a client certificate, which is there for a moment


def _listens(path: Path) -> bool:
    """Return whether a server listens on the socket, which the file alone does not tell."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True
    return True


class LinkServer:
    """The unix socket that workers connect to, in a private folder with a short path.

    The folder is not in the data directory: a socket's path may be at most 104 bytes long on macOS.
    """

    def __init__(self, find: Callable[[str, int], Expected | None]) -> None:
        self.strangers = Strangers(find)
        remove_leftovers(Path(tempfile.gettempdir()))
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX)
        self.address = str(Path(self._folder.name) / SOCKET)
        self._listener: Listener | None = None
        self._opening = BackgroundTasks("a connection to a worker could not be opened")

    def start(self) -> None:
        """Listen for workers in a folder that this user alone can read."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(self.address)
        except OSError as error:
            listener.close()
            self._folder.cleanup()
            raise ConfigurationError(
                f"the socket {self.address} for workers can't be made: {error}; name another folder with TMPDIR"
            ) from error
        self._listener = Listener(listener, self._take)
        self._listener.start()

    def _take(self, sock: socket.socket) -> None:
        self._opening.spawn(self._open(sock))

    async def _open(self, sock: socket.socket) -> None:
        process, loop = _process_of(sock), asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: Stranger(self.strangers, process), sock)

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._opening.cancel()
        if self._listener is not None:
            self._listener.close()
        self._folder.cleanup()

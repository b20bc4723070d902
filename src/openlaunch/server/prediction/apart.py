"""Processes of the server that compute for it: what holds Python's lock for long, no thread helps against.

Each runs one module, which calls `serve`. It has a lower priority, a limit of memory, and one of time for each call.
"""

import logging
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from openlaunch.errors import APIError, ServerError, Unprocessable
from openlaunch.server.asgi import FAULT

log = logging.getLogger(__name__)

CALL_SECONDS = 10
MEMORY_BYTES = 2 * 1024 * 1024 * 1024
KEPT_BYTES = 128 * 1024 * 1024
"""A process that has more memory after a call is ended: what many small values took is not given back otherwise."""

_NUMBER = struct.Struct("<Q")


class Channel:
    """Objects in both directions of a socket, one message for each; EOFError is raised at the end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, message: object) -> None:
        """Send a message. A `PickleBuffer` in it is not copied, and comes as bytes."""
        large: list[pickle.PickleBuffer] = []
        data = pickle.dumps(message, protocol=5, buffer_callback=large.append)
        parts = [memoryview(data), *(buffer.raw() for buffer in large)]
        self._connection.sendall(_NUMBER.pack(len(parts)))
        for part in parts:
            self._connection.sendall(_NUMBER.pack(len(part)))
            self._connection.sendall(part)

    def receive(self) -> Any:
        """Wait for the next message."""
        count = _NUMBER.unpack(self._read(_NUMBER.size))[0]
        data, *large = [self._read(_NUMBER.unpack(self._read(_NUMBER.size))[0]) for _ in range(count)]
        return pickle.loads(data, buffers=large)

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view, got = memoryview(data), 0
        while got < size:
            count = self._connection.recv_into(view[got:])
            if not count:
                raise EOFError
            got += count
        return data

    def close(self) -> None:
        self._connection.close()


class ProcessApart:
    """A process of the server's own, which is started when it is first asked. Used in one thread at a time."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._killed = False

    def call(self, name: str, *args: object) -> Any:
        """Call a function of the process, and return what it returns.

        Raises:
            Unprocessable: it took more time or memory than it may.
            APIError: what the function raised.
        """
        try:
            channel = self.channel()
            channel.send((name, args))
            good, value, memory = channel.receive()
        except (OSError, EOFError):
            self.stop()
            raise _too_costly() from None
        if memory > KEPT_BYTES:
            self.stop()
        if good:
            return value
        raise value

    def channel(self) -> Channel:
        """Return the way to the process, which is started if it does not run, or was killed after its last answer."""
        if self._process is not None and (self._killed or self._process.poll() is not None):
            self.stop()
        if self._channel is None:
            ours, theirs = socket.socketpair()
            with theirs:
                command = [sys.executable, "-m", self._module, str(theirs.fileno())]
                self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
            self._channel = Channel(ours)
        return self._channel

    def stop(self) -> None:
        """End the process, and what it computes."""
        channel, process = self._channel, self._process
        self._channel = self._process = None
        self._killed = False
        if process is not None:
            process.kill()
            process.wait()
        if channel is not None:
            channel.close()

    def kill(self) -> None:
        """End what the process computes, from another thread; the call there fails."""
        process = self._process
        if process is not None:
            self._killed = True
            process.kill()


def connect() -> Channel:
    """Begin as such a process, and return the way to the server."""
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal; the server ends this process
    return Channel(socket.socket(fileno=int(sys.argv[1])))


def serve(functions: dict[str, Callable[..., Any]]) -> None:
    """Answer calls of the server until it closes its end, or a call takes too long."""
    channel = connect()
    with suppress(EOFError, OSError):
        while True:
            name, args = channel.receive()
            signal.alarm(CALL_SECONDS)  # whose default action ends the process, whatever it computes
            good, value = _answer(functions[name], args)
            del args
            channel.send((good, value, _memory()))
            signal.alarm(0)


def _memory() -> int:
    """Return how many bytes this process has in memory now; where the system does not say that, the most it had."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _answer(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, function(*args)
    except APIError as error:
        return False, error
    except MemoryError:
        return False, _too_costly()
    except Exception:
        log.exception("%s failed", function.__name__)
        return False, ServerError(FAULT)


def _too_costly() -> Unprocessable:
    return Unprocessable(
        f"to read and check this takes over {CALL_SECONDS} s, or over {MEMORY_BYTES // 2**30} GiB of memory: "
        "send less in one request, or simplify the schema",
        code="too_costly",
    )

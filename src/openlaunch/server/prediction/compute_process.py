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

from openlaunch.errors import APIError, ServerError, Unavailable, Unprocessable
from openlaunch.server.asgi import FAULT
from openlaunch_worker.frames import LARGE_BYTES

log = logging.getLogger(__name__)

CALL_SECONDS = 10
MEMORY_BYTES = 2 * 1024 * 1024 * 1024
_MEMORY = f"{MEMORY_BYTES // 2**30} GiB of memory"
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

    def call(self, name: str, *args: object, given: bytearray | None = None) -> Any:
        """Call a function of the process, and return what it returns.

        What is `given`, of which an argument is the `PickleBuffer`, is emptied once it was sent.

        Raises:
            Unprocessable: it took more time, memory or stack than it may.
            Unavailable: the process can't be started, or was ended by something else.
            APIError: what the function raised.
        """
        try:
            channel = self.channel()
            channel.send((name, args))
            if given is not None:
                for each in args:
                    if isinstance(each, pickle.PickleBuffer):
                        each.release()
                with suppress(BufferError):  # something else has a view of it
                    given.clear()
            good, value, memory = channel.receive()
        except (OSError, EOFError):
            raise _why_ended(self.stop()) from None
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
                self._channel = Channel(ours)  # which `stop` closes, also where no process can be started
                command = [sys.executable, "-P", "-m", self._module, str(theirs.fileno())]
                self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        return self._channel

    def stop(self) -> int | None:
        """End the process, and what it computes; return the code with which it has ended, None if there was none."""
        channel, process = self._channel, self._process
        self._channel = self._process = None
        self._killed = False
        if process is not None:
            process.kill()
            process.wait()
        if channel is not None:
            channel.close()
        return None if process is None else process.returncode

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
            try:
                channel.send((good, value, _memory()))
            except RecursionError:  # before anything of it was sent
                channel.send((False, _too_deep(), _memory()))
            signal.alarm(0)


def _memory() -> int:
    """Return how many bytes this process has in memory now; where the system does not say that, the most it had."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _answer(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, _uncopied(function(*args))
    except APIError as error:
        return False, error
    except MemoryError:
        return False, _too_costly(_MEMORY)
    except RecursionError:
        return False, _too_deep()
    except Exception:
        log.exception("%s failed", function.__name__)
        return False, ServerError(FAULT)


def _why_ended(code: int | None) -> APIError:
    """Make the error of a call during which the process has ended with this code; None: it could not be started."""
    match code and -code:
        case signal.SIGALRM:
            return _too_costly(f"{CALL_SECONDS} s")
        case signal.SIGABRT:  # how compiled code ends without memory
            return _too_costly(_MEMORY)
        case signal.SIGSEGV | signal.SIGBUS:  # and without stack
            return _too_deep()
    how = "could not be started" if code is None else f"was ended (exit code {code})"
    log.error("a process that checks requests %s", how)
    return Unavailable(f"the process that checks this {how}: try again", code="check_ended", retry_after=1)


def _uncopied(value: Any) -> Any:
    """Return a value whose large bytes come as a bytearray beside the pickle, of which the server makes no copy."""
    if isinstance(value, bytes | bytearray):
        return pickle.PickleBuffer(bytearray(value)) if len(value) >= LARGE_BYTES else value
    if isinstance(value, tuple):
        parts = [_uncopied(each) if isinstance(each, bytes | bytearray) else each for each in value]
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    return value


def _too_costly(limit: str) -> Unprocessable:
    return Unprocessable(
        f"to read and check this takes over {limit}: send less in one request, or simplify the schema",
        code="too_costly",
    )


def _too_deep() -> Unprocessable:
    return Unprocessable(
        "this, or the schema that it is checked with, is nested too deep: make it flatter, and let no schema "
        "refer to itself endlessly",
        code="too_deep",
    )

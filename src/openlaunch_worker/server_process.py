"""The process of a bundle's own HTTP server: the worker waits until it answers, and it ends with the worker."""

import http.client
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from openlaunch_worker.hooks import NoAnswer, Unhealthy
from openlaunch_worker.http_body import pieces
from openlaunch_worker.process import leave, log, on_leave
from openlaunch_worker.server_output import ServerOutput

PROBE_SECONDS: Final = 5.0
PROBE_BYTES: Final = 64 * 1024
ASKED: Final = 0.9
"""The part of a health check's time that its server has for its answer."""
_HOST: Final = "127.0.0.1"


class NotReady(Exception):
    """The server did not become ready; the text says why."""


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def health_of(port: int, route: str, seconds: float) -> Callable[[], None]:
    """Return what asks a server's health route; it raises `Unhealthy`, or `NoAnswer` without one in time."""

    def ask() -> None:
        connection = http.client.HTTPConnection(_HOST, port, timeout=seconds)
        try:
            connection.request("GET", route)
            status = connection.getresponse().status
        except ConnectionRefusedError:
            raise Unhealthy("nothing listens on its port any longer") from None
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(f"GET {route} has no answer: {type(error).__name__}: {error}") from None
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise Unhealthy(f"GET {route} answered {status}")

    return ask


def ended(code: int) -> str:
    """Say how a process ended, as words after its name."""
    return f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"


@dataclass(eq=False, slots=True)
class ServerProcess:
    """A process that serves the bundle. It ends with the worker, by `end`, and the worker with it, which needs it.

    Where its standard output is a pipe, that is copied to the worker's log.
    The exit code `not_found` says that a program was not found.
    """

    name: str
    process: "subprocess.Popen[bytes]"
    scratch: Path
    end: Callable[[], object]
    not_found: int | None = None
    _stopping: bool = False

    _output: ServerOutput | None = field(init=False)

    def __post_init__(self) -> None:
        pipe = self.process.stdout
        self._output = None if pipe is None else ServerOutput(pipe)
        on_leave(self._stop)

    def wait(self, port: int, route: str, seconds: float) -> None:
        """Wait until the route answers 2xx. Raise `NotReady` if it does not in time, or the process has ended."""
        deadline, last = time.monotonic() + seconds, "nothing listens on its port"
        pause = 0.02
        while True:
            self._check()
            left = deadline - time.monotonic()
            if left <= 0:
                raise NotReady(f"GET {route} had no good answer within {seconds:g} s of the start: {last}")
            connection = http.client.HTTPConnection(_HOST, port, timeout=min(left, PROBE_SECONDS))
            try:
                connection.request("GET", route)
                response = connection.getresponse()
                if 200 <= response.status < 300:
                    _read_probe(response)
                    return
                last = f"it answered {response.status}"
            except ConnectionRefusedError:
                pass
            except (OSError, http.client.HTTPException) as error:
                last = f"{type(error).__name__}: {error}"
            finally:
                connection.close()
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, 0.5)

    def _check(self) -> None:
        if (code := self.process.poll()) is not None:
            why = ": a program was not found" if code == self.not_found else ""
            raise NotReady(f"{self.name} {ended(code)} before it was ready{why}; {self._printed()}")

    def _printed(self) -> str:
        if self._output is None:
            return "the log has what it printed"
        last = self._output.last_lines()
        return f"it printed last: {last}" if last else "it printed nothing"

    def watch(self) -> None:
        """End the worker from now on when the process ends."""
        threading.Thread(target=self._watch, name="server-process", daemon=True).start()

    def _watch(self) -> None:
        code = self.process.wait()
        if not self._stopping:
            log(f"{self.name} {ended(code)}")
            leave(code if code > 0 else 128 - code if code < 0 else 1, self.scratch)

    def _stop(self) -> None:
        self._stopping = True
        with suppress(OSError, subprocess.TimeoutExpired):
            self.end()


def _read_probe(response: http.client.HTTPResponse) -> None:
    """Read the beginning of an answer. Raise `BodyError` if it is cut short there."""
    size = 0
    if response.chunked or response.length is not None:
        for piece in pieces(response):
            size += len(piece)
            if size > PROBE_BYTES:
                return

"""Serves a bundle that is a command: starts it, waits until it answers, and passes requests on as HTTP.

The command is an HTTP/1.1 server on `$PORT`. A prediction is a POST of its `args` as JSON (or of the bytes of its
`url`) to the predict route; on a streaming endpoint to the streaming route, which answers with server-sent events.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from openlaunch_worker.failures import Refusal
from openlaunch_worker.leash import EXIT_NOT_FOUND
from openlaunch_worker.process import leave, log, on_leave

REQUEST_SECONDS: Final = 24 * 3600.0
"""How long the command may take for its next bytes."""
PROBE_SECONDS: Final = 5.0
STOP_SECONDS: Final = 2.0
MAX_ERROR: Final = 2000
MAX_LINE: Final = 64 * 1024 * 1024
_HOST: Final = "127.0.0.1"
_BROKEN: Final = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


class CommandError(Exception):
    """The command did not become ready; the text says why."""


def start_command(
    flavor: dict[str, Any], folder: Path, streaming: bool, max_bytes: int
) -> Callable[..., Any]:
    """Start the command, wait until its health route answers, and give the function that predicts.

    `folder` lies in the worker's scratch folder, which goes when the command's end ends the worker.

    Raises:
        CommandError: it is not there, has ended, or did not answer in time.

    """
    port = _free_port()
    command = [str(part).replace("$PORT", str(port)) for part in flavor["command"]]
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "openlaunch_worker.leash", *command],
        cwd=folder,
        env=_environ(flavor.get("env") or {}, port),
        stdin=subprocess.DEVNULL,
    )
    stop = _Stopper(process, folder.parent)
    on_leave(stop.at_once)
    _wait_until_ready(
        process, port, str(flavor["healthcheck_route"]), flavor["readiness_initial_delay_seconds"]
    )
    stop.watch()
    server = _Server(port, max_bytes)
    if streaming:
        return server.streaming(str(flavor["streaming_predict_route"]))
    return server.answering(str(flavor["predict_route"]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _environ(own: dict[str, str], port: int) -> dict[str, str]:
    programs = os.path.dirname(sys.executable)  # noqa: PTH120 -- not resolved: the environment's own
    path = os.pathsep.join((programs, os.environ.get("PATH", os.defpath)))
    return {**os.environ, "PATH": path, "VIRTUAL_ENV": sys.prefix, **own, "PORT": str(port)}


class _Stopper:
    """Ends the command with the worker, and the worker with the command."""

    def __init__(self, process: "subprocess.Popen[bytes]", scratch: Path) -> None:
        self._process = process
        self._scratch = scratch
        self._stopping = False

    def watch(self) -> None:
        """End the worker when the command ends by itself: it can't serve any more."""
        threading.Thread(target=self._watch, name="command-watch", daemon=True).start()

    def _watch(self) -> None:
        code = self._process.wait()
        if not self._stopping:
            log(f"the command {_ended(code)}")
            leave(code if code > 0 else 128 - code if code < 0 else 1, self._scratch)

    def at_once(self) -> None:
        """End the command: SIGTERM, and SIGKILL after `STOP_SECONDS`."""
        self._stopping = True
        with suppress(OSError):
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()


def _ended(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"exited with code {code}"


def _wait_until_ready(process: "subprocess.Popen[bytes]", port: int, route: str, seconds: float) -> None:
    deadline, last = time.monotonic() + seconds, "nothing listens on $PORT"
    pause = 0.02
    while True:
        if (code := process.poll()) is not None:
            why = ": a program was not found" if code == EXIT_NOT_FOUND else ""
            raise CommandError(
                f"the command {_ended(code)} before it was ready{why}; the log has what it printed"
            )
        left = deadline - time.monotonic()
        if left <= 0:
            raise CommandError(f"GET {route} had no good answer within {seconds:g} s of the start: {last}")
        connection = http.client.HTTPConnection(_HOST, port, timeout=min(left, PROBE_SECONDS))
        try:
            connection.request("GET", route)
            status = connection.getresponse().status
            if 200 <= status < 300:
                return
            last = f"it answered {status}"
        except ConnectionRefusedError:
            pass
        except (OSError, http.client.HTTPException) as error:
            last = f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 0.5)


class _Server:
    """The command's HTTP server. Each thread keeps a connection to it."""

    def __init__(self, port: int, max_bytes: int) -> None:
        self._port = port
        self._max = max_bytes
        self._local = threading.local()

    def answering(self, route: str) -> Callable[..., Any]:
        """A predict function for sync and async endpoints."""

        def predict(*args: Any, **kwargs: Any) -> Any:
            response = self._post(route, args, kwargs)
            data = response.read(self._max + 1)
            if len(data) > self._max:
                self._drop()
                raise Refusal(f"POST {route} answered with over {self._max} bytes, which is the limit")
            if response.status >= 300:
                raise _refused(route, response.status, data)
            return _value(data)

        return predict

    def streaming(self, route: str) -> Callable[..., Any]:
        """A predict function for streaming endpoints."""

        def predict(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                response = self._post(route, args, kwargs)
                if response.status >= 300:
                    raise _refused(route, response.status, response.read(MAX_ERROR))
                yield from _items(response)
            finally:
                self._drop()  # its bytes may not have been read to the end

        return predict

    def _post(self, route: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> http.client.HTTPResponse:
        if args and isinstance(args[0], bytes):
            body, kind = args[0], "application/octet-stream"
        else:
            body, kind = json.dumps(args[0] if args else kwargs).encode(), "application/json"
        fresh = getattr(self._local, "connection", None) is None
        try:
            return self._send(route, body, kind)
        except _BROKEN:
            self._drop()
            if fresh:
                raise
        # The server has closed a connection that was kept: it has seen nothing of the request.
        return self._send(route, body, kind)

    def _send(self, route: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(_HOST, self._port, timeout=REQUEST_SECONDS)
            self._local.connection = connection
        try:
            connection.request("POST", route, body, {"Content-Type": kind})
            response: http.client.HTTPResponse = connection.getresponse()
        except Exception:
            self._drop()
            raise
        return response

    def _drop(self) -> None:
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            self._local.connection = None
            connection.close()


def _refused(route: str, status: int, data: bytes) -> Refusal:
    text = data[:MAX_ERROR].decode("utf-8", "replace").strip()
    return Refusal(f"POST {route} of the command answered {status}: {text}")


def _value(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace")


def _items(response: http.client.HTTPResponse) -> Iterator[Any]:
    """The data of server-sent events, as JSON where it is. `[DONE]`, a language model server's end, is no item."""
    lines: list[str] = []
    while line := response.readline(MAX_LINE):
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text.startswith("data:"):
            lines.append(text[5:].removeprefix(" "))
        elif not text and lines:
            data = "\n".join(lines)
            lines = []
            if data == "[DONE]":
                return
            yield _value(data.encode())

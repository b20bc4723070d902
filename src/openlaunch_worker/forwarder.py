"""Passes predictions on to an HTTP server of the bundle's own: a command, or a container.

A prediction is a POST of its `args` as JSON (or of the bytes of its `url`) to the predict route; on a streaming
endpoint to the streaming route, which answers with server-sent events.
"""

import http.client
import json
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from openlaunch_worker.failures import Refusal
from openlaunch_worker.http_body import BodyError, pieces, read_body
from openlaunch_worker.http_stream import EVENTS, content_type, items
from openlaunch_worker.jobs import Routed
from openlaunch_worker.passing import PassThrough
from openlaunch_worker.process import leave, log, on_leave
from openlaunch_worker.server_output import ServerOutput

REQUEST_SECONDS: Final = 24 * 3600.0
"""How long the server may take for its next bytes."""
PROBE_SECONDS: Final = 5.0
PROBE_BYTES: Final = 64 * 1024
MAX_ERROR: Final = 2000
_HOST: Final = "127.0.0.1"
_BAD_INPUT: Final = 400
_NOT_FOUND: Final = 404
_NO_CONTENT: Final = 204


class NotReady(Exception):
    """The server did not become ready; the text says why."""


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


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


class Forwarder:
    """The way to the server, which errors call `name`. Each thread keeps a connection to it.

    A prediction may be interrupted anywhere (`openlaunch_worker.interrupts`): a connection is kept for the next one
    only when its answer has been read to the end.
    """

    def __init__(self, name: str, port: int, max_bytes: int) -> None:
        self._name = name
        self._port = port
        self._max = max_bytes
        self._local = threading.local()
        self._sockets: dict[int, socket.socket] = {}

    def cut(self, thread: int) -> None:
        """Break off what the thread waits for, so that the server sees that nobody wants the answer."""
        if (sock := self._sockets.get(thread)) is not None:
            with suppress(OSError):  # it is closed already
                sock.shutdown(socket.SHUT_RDWR)

    def predict(self, flavor: dict[str, Any], streaming: bool) -> Callable[..., Any]:
        """Return the function that predicts, with the routes of the flavour."""
        extra = frozenset([*flavor.get("extra_routes", ()), *flavor.get("routes", ())])
        predict = (
            self._streaming(str(flavor["streaming_predict_route"]), extra)
            if streaming
            else self._answering(str(flavor["predict_route"]), extra)
        )
        predict.takes_route = True  # type: ignore[attr-defined]
        predict.cut = self.cut  # type: ignore[attr-defined]
        if spoken := flavor.get("openai"):
            passes = PassThrough(self._name, self._port, frozenset(spoken["routes"]), self._max)
            predict.passes = passes  # type: ignore[attr-defined]
        return predict

    def _answering(self, usual: str, extra: frozenset[str]) -> Callable[..., Any]:
        def predict(*args: Any, **kwargs: Any) -> Any:
            route, body, kind = self._content(usual, extra, args, kwargs)
            with self._blamed(route):
                response = self._post(route, body, kind)
                if response.status >= 300:
                    raise self._refused(route, response)
                data = read_body(response, self._max)
                self._local.is_idle = True
                return _value(response, data)

        return predict

    def _streaming(self, usual: str, extra: frozenset[str]) -> Callable[..., Any]:
        def predict(*args: Any, **kwargs: Any) -> Iterator[Any]:
            route, body, kind = self._content(usual, extra, args, kwargs)
            try:
                with self._blamed(route):
                    response = self._post(route, body, kind)
                    if response.status >= 300:
                        raise self._refused(route, response)
                    yield from items(response)
            finally:
                self._drop()  # its bytes may not have been read to the end

        return predict

    @contextmanager
    def _blamed(self, route: str) -> Iterator[None]:
        """Make what is wrong with the server's answer a `Refusal` that names the server and the route."""
        try:
            yield
        except BodyError as error:
            self._drop()
            raise Refusal(f"POST {route} of {self._name}: {error}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = f"{type(error).__name__}: {error}"
            raise Refusal(f"POST {route} of {self._name} had no answer, and may have run: {reason}") from None

    def _content(
        self, usual: str, extra: frozenset[str], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[str, bytes, str]:
        content = args[0] if args else kwargs
        route = usual
        if isinstance(content, Routed):
            route, content = content.route, content.args
            if route not in extra and route != usual:
                allowed = ", ".join(sorted({usual, *extra}))
                raise Refusal(f"destination_path is {route!r}, the bundle's routes are {allowed}", _NOT_FOUND)
        if isinstance(content, bytes):
            return route, content, "application/octet-stream"
        try:
            return route, json.dumps(content, allow_nan=False).encode(), "application/json"
        except ValueError:
            raise Refusal(
                "args has a number that JSON does not have: Infinity, or one above 1e308", _BAD_INPUT
            ) from None

    def _post(self, route: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        kept = getattr(self._local, "is_idle", False)
        self._local.is_idle = False
        if not kept or self._has_ended():
            self._drop()
        # Sent once: when the connection closes from now on, the server may have run the request.
        return self._send(route, body, kind)

    def _has_ended(self) -> bool:
        """Return whether the server has closed a connection that was kept, or sent what was not asked for."""
        connection: http.client.HTTPConnection = self._local.connection
        if connection.sock is None:
            return True
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        return bool(poll.poll(0))

    def _send(self, route: str, body: bytes, kind: str) -> http.client.HTTPResponse:
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(_HOST, self._port, timeout=REQUEST_SECONDS)
            self._local.connection = connection
        try:
            if connection.sock is None:  # it is new, or was closed after its last answer
                connection.connect()
            self._sockets[threading.get_ident()] = connection.sock
            connection.request("POST", route, body, {"Content-Type": kind})
            response: http.client.HTTPResponse = connection.getresponse()
        except Exception:
            self._drop()
            raise
        self._local.response = response
        return response

    def _drop(self) -> None:
        if (connection := getattr(self._local, "connection", None)) is not None:
            connection.close()
            if (response := getattr(self._local, "response", None)) is not None:
                response.close()  # one that lasts until the connection's end keeps the socket for itself
            self._local.connection, self._local.response, self._local.is_idle = None, None, False

    def _refused(self, route: str, response: http.client.HTTPResponse) -> Refusal:
        try:
            data = read_body(response, self._max)
            self._local.is_idle = True
        except BodyError as error:
            data = str(error).encode()
        text = data[:MAX_ERROR].decode("utf-8", "replace").strip()
        return Refusal(f"POST {route} of {self._name} answered {response.status}: {text}")


def _read_probe(response: http.client.HTTPResponse) -> None:
    """Read the beginning of an answer. Raise `BodyError` if it is cut short there."""
    size = 0
    if response.chunked or response.length is not None:
        for piece in pieces(response):
            size += len(piece)
            if size > PROBE_BYTES:
                return


def _value(response: http.client.HTTPResponse, data: bytes) -> Any:
    """Return an answer's JSON, else its text. Raise `BodyError` if it is neither, or not what its type says."""
    kind = content_type(response)
    if kind == EVENTS:
        raise BodyError(
            "it answered with a stream of events, for which the endpoint has to be a streaming one"
        )
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        if response.status != _NO_CONTENT and (kind == "application/json" or kind.endswith("+json")):
            raise BodyError(f"its answer is not the JSON that its Content-Type says: {error}") from None
    charset = response.headers.get_content_charset("utf-8")
    try:
        return data.decode(charset)
    except (UnicodeDecodeError, LookupError):
        sort = f"{len(data)} bytes of Content-Type {kind!r}"
        raise BodyError(
            f"it answered with {sort}, which are not text in {charset}: JSON or text is needed"
        ) from None

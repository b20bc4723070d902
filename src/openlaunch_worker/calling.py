"""Calls other endpoints from within a worker, through the server, over the socket that the worker has in any case.

A connection says HELLO with a token that is good for this worker's owner, for predictions alone, and for as long as
the worker lives, and with the seat of the server that it is for. It is HTTP from then on. A call belongs to the
request that makes it: the server bounds it by that one's deadline, and it ends with it.
"""

import asyncio
import hashlib
import json
import os
import re
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from threading import get_ident
from typing import Any, Final
from urllib.parse import quote, urlsplit

from openlaunch_worker import answers, process
from openlaunch_worker.frames import HEADER, SEAT_IDS, Kind, encode
from openlaunch_worker.handshake import connect
from openlaunch_worker.http_response import ResponseParser
from openlaunch_worker.interrupts import CUTS
from openlaunch_worker.jobs import CURRENT

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"
PARENT: Final = "openlaunch-parent"
"""The header with the id of the request that makes a call, by which the server knows it."""

MAX_IDLE: Final = 32
_TRACEPARENT: Final = re.compile(r"[0-9a-f-]{55}")
_ACCEPTED, _ERROR = 202, 400
_PIECE: Final = 256 * 1024


def calls_token(token: str) -> str:
    """Return the token of calls that goes with a worker's own."""
    return hashlib.sha256(b"calls\0" + token.encode()).hexdigest()


class CallFailed(Exception):
    """Another endpoint's prediction failed or was refused: `status_code` is HTTP's, `code` names the problem."""

    def __init__(self, name: str, status_code: int, code: str, detail: str) -> None:
        super().__init__(f"the endpoint {name!r} answered {status_code}: {detail}")
        self.status_code = status_code
        self.code = code


def endpoint(name: str) -> "CalledEndpoint":
    """Return an endpoint of this worker's owner, or a public one as `OWNER/NAME`, to call it from within a worker."""
    return CalledEndpoint(name)


class _Called:
    """What the blocking and the awaitable endpoint share: requests as bytes, and what answers mean."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._path = "/e/" + "/".join(quote(part, safe="") for part in name.split("/", 1))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def _request(self, args: dict[str, Any], accept: str) -> bytes:
        body = answers.partial_value(args)
        return _head("POST", self._path, accept, f"Content-Length: {len(body)}\r\n") + body

    def _look(self, answer: "_Answer") -> bytes:
        """Return the question for the value of a task, whose place an answer names."""
        path = urlsplit(json.loads(answer.body)["location"]).path
        place = path[path.index("/e/") :]
        return _head("GET", place, JSON, "Prefer: wait=60\r\n")

    def _check(self, answer: "_Answer") -> None:
        if answer.parser.status >= _ERROR:
            raise self._failure(answer.parser.status, answer.body)

    def _failure(self, status: int, body: bytes) -> CallFailed:
        document = {}
        with suppress(ValueError):
            document = json.loads(body)
        status = int(document.get("status", status))
        detail = str(document.get("detail") or document.get("title") or "no reason was given")
        return CallFailed(self.name, status, str(document.get("code", "")), detail)


def _head(method: str, path: str, accept: str, more: str) -> bytes:
    job = CURRENT.get(None)
    if job is not None:
        more += f"{PARENT}: {job.id}\r\n"
        if isinstance(job.traceparent, str) and _TRACEPARENT.fullmatch(job.traceparent):
            more += f"traceparent: {job.traceparent}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: server\r\nAccept: {accept}\r\n{more}\r\n".encode()


class _Answer:
    """An answer as it comes."""

    def __init__(self) -> None:
        self.parser = ResponseParser()
        self.pieces: list[bytes] = []
        self._events = b""

    def feed(self, data: bytes) -> None:
        """Take what came; nothing is the end of the connection."""
        if not data:
            self.parser.end()
        elif piece := self.parser.feed(data):
            self.pieces.append(piece)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def is_stream(self) -> bool:
        return self.parser.headers.get("content-type", "").startswith(EVENTS)

    def events(self) -> Iterator[tuple[str, bytes]]:
        """Yield the events that have come whole: name and data."""
        self._events += b"".join(self.pieces)
        self.pieces.clear()
        *whole, self._events = self._events.split(b"\n\n")
        for event in whole:
            fields = [line.partition(b": ")[::2] for line in event.split(b"\n") if not line.startswith(b":")]
            data = b"\n".join(value for name, value in fields if name == b"data")
            name = next((value.decode() for name, value in fields if name == b"event"), "message")
            if fields:
                yield name, data


class CalledEndpoint(_Called):
    """An endpoint that is called from within a worker; `openlaunch.aio.endpoint` gives its awaitable twin."""

    def predict(self, /, **args: Any) -> Any:
        """Return the value for these arguments; of a streaming endpoint, the list of its items.

        This waits for an async endpoint's task. Raise `CallFailed` where there is no value.
        """
        answer = self._whole(self._request(args, JSON))
        while answer.parser.status == _ACCEPTED:
            answer = self._whole(self._look(answer))
        self._check(answer)
        return json.loads(answer.body)

    def stream(self, /, **args: Any) -> Iterator[Any]:
        """Yield the items of a streaming endpoint as they come. Raise `CallFailed` where it fails."""
        with _Line() as line:
            answer = line.ask(self._request(args, EVENTS))
            while not answer.is_stream and not answer.parser.is_done:
                line.more(answer)
            self._check(answer)
            while True:
                for name, data in answer.events():
                    if name == "end":
                        while not answer.parser.is_done:
                            line.more(answer)
                        line.keep(answer)
                        return
                    if name == "error":
                        raise self._failure(500, data)
                    yield json.loads(data)
                line.more(answer)

    def _whole(self, request: bytes) -> _Answer:
        with _Line() as line:
            answer = line.ask(request)
            while not answer.parser.is_done:
                line.more(answer)
            line.keep(answer)
        return answer


_idle: list[tuple[int, int, socket.socket]] = []
"""Each with its process and its seat."""


def _seat() -> int:
    """Return the seat of the server whose request makes a call: it alone knows that request. 0: no request does."""
    job = CURRENT.get(None)
    return 0 if job is None else job.id // SEAT_IDS


class _Line:
    """A connection for one call, which is closed where the call is given up."""

    def __enter__(self) -> "_Line":
        self._seat = _seat()
        self._socket: socket.socket | None = _taken(self._seat) or _opened(self._seat)
        CUTS[get_ident()] = self._cut
        return self

    def __exit__(self, *_: object) -> None:
        CUTS.pop(get_ident(), None)
        if self._socket is not None:
            self._socket.close()

    def _cut(self) -> None:
        if (sock := self._socket) is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def ask(self, request: bytes) -> _Answer:
        assert self._socket is not None
        self._socket.sendall(request)
        answer = _Answer()
        while not answer.parser.status:
            self.more(answer)
        return answer

    def more(self, answer: _Answer) -> None:
        assert self._socket is not None
        CUTS[get_ident()] = self._cut  # a generator may be in another thread than before
        answer.feed(self._socket.recv(_PIECE))

    def keep(self, answer: _Answer) -> None:
        """Have another call use the connection."""
        sock, self._socket = self._socket, None
        if sock is not None and answer.parser.is_kept and len(_idle) < MAX_IDLE:
            _idle.append((os.getpid(), self._seat, sock))
        elif sock is not None:
            sock.close()


def _taken(seat: int) -> socket.socket | None:
    """Return a connection that waits for its next call; the server may have closed it meanwhile."""
    while True:
        try:
            owner, of_seat, sock = _idle.pop()
        except IndexError:
            return None
        if (owner, of_seat) == (os.getpid(), seat) and not select.select([sock], (), (), 0)[0]:
            return sock
        sock.close()


def _opened(seat: int) -> socket.socket:
    if process.calls is None:
        raise RuntimeError(
            "openlaunch.endpoint() calls from within a worker; elsewhere use "
            "openlaunch.LaunchClient().get_model_endpoint()"
        )
    address, token = process.calls
    sock = connect(address)
    try:
        sock.sendall(_hello(calls_token(token), seat))
        heard = b""
        while len(heard) < HEADER.size:
            if not (piece := sock.recv(HEADER.size - len(heard))):
                raise ConnectionError(
                    "the server takes no calls of this worker: it ends, or has too many of them"
                )
            heard += piece
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


def _hello(token: str, seat: int) -> bytes:
    return encode(Kind.HELLO, 0, json.dumps({"token": token, "pid": os.getpid(), "seat": seat}).encode())


class AwaitableEndpoint(_Called):
    """The awaitable twin of `CalledEndpoint`."""

    async def predict(self, /, **args: Any) -> Any:
        """Return the value for these arguments; see `CalledEndpoint`."""
        answer = await self._whole(self._request(args, JSON))
        while answer.parser.status == _ACCEPTED:
            answer = await self._whole(self._look(answer))
        self._check(answer)
        return json.loads(answer.body)

    async def stream(self, /, **args: Any) -> AsyncIterator[Any]:
        """Yield the items of a streaming endpoint as they come; see `CalledEndpoint`."""
        line = await _awaitable_line(_seat())
        try:
            answer = _Answer()
            line[1].write(self._request(args, EVENTS))
            while not answer.is_stream and not answer.parser.is_done:
                answer.feed(await line[0].read(_PIECE))
            self._check(answer)
            while True:
                for name, data in answer.events():
                    if name == "end":
                        return
                    if name == "error":
                        raise self._failure(500, data)
                    yield json.loads(data)
                answer.feed(await line[0].read(_PIECE))
        finally:
            line[1].close()

    async def _whole(self, request: bytes) -> _Answer:
        seat = _seat()
        line = _kept_line(seat) or await _awaitable_line(seat)
        answer = _Answer()
        try:
            line[1].write(request)
            while not answer.parser.is_done:
                answer.feed(await line[0].read(_PIECE))
        except BaseException:
            line[1].close()
            raise
        if answer.parser.is_kept and len(_waiting) < MAX_IDLE:
            _waiting.append((asyncio.get_running_loop(), seat, line))
        else:
            line[1].close()
        return answer


_AwaitableLine = tuple[asyncio.StreamReader, asyncio.StreamWriter]
_waiting: list[tuple[asyncio.AbstractEventLoop, int, _AwaitableLine]] = []


def _kept_line(seat: int) -> _AwaitableLine | None:
    while _waiting:
        loop, of_seat, line = _waiting.pop()
        same = loop is asyncio.get_running_loop() and of_seat == seat
        if same and not line[0].at_eof() and not line[1].is_closing():
            return line
        if not loop.is_closed():
            line[1].close()
    return None


async def _awaitable_line(seat: int) -> _AwaitableLine:
    sock = _opened(seat)  # the server is at the other end of a socket of this machine, and answers at once
    sock.setblocking(False)
    return await asyncio.open_connection(sock=sock)


def awaitable_endpoint(name: str) -> AwaitableEndpoint:
    """Return the awaitable twin of what `endpoint` gives."""
    return AwaitableEndpoint(name)

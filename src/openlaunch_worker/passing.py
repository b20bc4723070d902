"""Requests that pass through to an HTTP server of the bundle's own: bytes both ways, which nothing parses."""

import asyncio
import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from openlaunch_worker.failures import Refusal
from openlaunch_worker.frames import MIN_CHUNK_BYTES, Kind
from openlaunch_worker.http_stream import EVENTS
from openlaunch_worker.jobs import Job, Stream
from openlaunch_worker.outbox import Outbox
from openlaunch_worker.upstream import Connection, Upstream

PASSED_HEADERS: Final = ("content-type", "retry-after")
PASSED_VALUE: Final = re.compile(r"[ -~]{0,500}")
MAX_SHOWN: Final = 2000
_DONE: Final[tuple[bytes, ...]] = (b"[DONE]",)
_ENDS: Final = {
    "/v1/messages": (b"message_stop",),
    "/v1/responses": (b"response.completed", b"response.incomplete", b"response.failed"),
    "/v1/audio/transcriptions": (b"transcript.text.done", *_DONE),
    "/v1/audio/speech": (b"speech.audio.done", *_DONE),
}
"""What the last event of a stream is named, or its data, or the `type` in that; on all other routes `_DONE`."""

_ERROR: Final = re.compile(
    rb'^(?:data: ?\{(?:"error" ?:(?! ?null\b)|"type" ?: ?"error")|event: ?error)', re.MULTILINE
)
_BAD_INPUT, _NOT_FOUND, _BAD_GATEWAY = 400, 404, 502


class PassThrough:
    """The way to the server, which errors call `name`, for requests to these routes."""

    def __init__(self, name: str, upstream: Upstream, routes: frozenset[str], max_bytes: int) -> None:
        self._name = name
        self._upstream = upstream
        self._routes = routes
        self._max = max_bytes

    def answer_of(
        self, job: Job, outbox: Outbox, on_over: "Callable[[Refusal | None], None]"
    ) -> "PassedAnswer":
        """Return what the job is answered with, in the place of its stream; `on_over` is called when it is over."""
        return PassedAnswer(job.id, outbox, self._name, self._max, on_over)

    def send(self, body: bytes, answer: "PassedAnswer") -> None:
        """Send a request, of which the answer goes by. Raise `Refusal` where it can't be sent to any route."""
        route, content_type, content = split_request(body)
        if route not in self._routes:
            allowed = ", ".join(sorted(self._routes)) or "none"
            raise Refusal(f"{route} is not among the routes that the bundle says: {allowed}", _NOT_FOUND)
        connection = self._upstream.post_now(route, content_type, content, answer)
        if connection is not None:
            answer.begin(connection, route)
        else:
            connecting = self._connect(route, content_type, content, answer)
            answer.connecting = asyncio.get_running_loop().create_task(connecting)

    async def _connect(self, route: str, content_type: str, content: bytes, answer: "PassedAnswer") -> None:
        try:
            connection = await self._upstream.post(route, content_type, content, answer)
        except Refusal as refusal:
            answer.end(refusal)
        else:
            answer.begin(connection, route)


class PassedAnswer(Stream):
    """One answer on its way to the client, as the bytes that come.

    Of a stream of events it passes on whole events alone, so that what is sent in place of the rest, when the server
    dies, can be read. Such a stream is whole when it has said `[DONE]`. `on_over` is called once, with the failure if
    it is one.
    """

    def __init__(
        self,
        request_id: int,
        outbox: Outbox,
        name: str,
        max_bytes: int,
        on_over: Callable[[Refusal | None], None],
    ) -> None:
        super().__init__(request_id, outbox)
        self.connecting: asyncio.Task[None] | None = None
        """What makes a connection for the request, where none was free."""
        self._name = name
        self._max = max_bytes
        self._connection: Connection | None = None
        self._route = ""
        self._on_over: Callable[[Refusal | None], None] | None = on_over
        self._status = 0
        self._is_events = False
        self._is_paused = False
        self._ends = _DONE
        self._has_said_done = False
        self._held: list[bytes] = []
        """The part of an event that has come, whose end has not."""
        self._held_size = 0
        self._tail = b""
        """The last bytes of that, which may be the beginning of the end."""
        self._size = 0
        self._shown = b""

    def begin(self, connection: Connection, route: str) -> None:
        """Note where the answer comes from."""
        self._connection, self._route = connection, route
        self._ends = _ENDS.get(route, _DONE)

    def stop(self) -> None:
        """Break the request off, of which nobody wants the answer."""
        self.stopped = True
        if self.connecting is not None:
            self.connecting.cancel()
        if self._connection is not None and self._on_over is not None:
            self._connection.close()
        self.end(None)

    def end(self, failure: Refusal | None) -> None:
        """Note that nothing more comes, once."""
        # Taken away, because the callback leads to the request, and that to this.
        on_over, self._on_over = self._on_over, None
        if on_over is not None:
            on_over(failure)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self._status = status
        coding = headers.get("content-encoding", "identity")
        if coding != "identity":
            self._break_off(f"its answer has the Content-Encoding {coding!r}, which was not asked for")
        elif 300 <= status < 400:
            self._break_off(f"it answered {status}, which is a redirect")
        else:
            try:
                passed = _passed_head(status, *map(headers.get, PASSED_HEADERS))
            except ValueError as error:
                self._break_off(str(error))
            else:
                self._is_events, payload = passed
                self._outbox.control(Kind.HEAD, self._request_id, payload)

    def body(self, data: bytes) -> None:
        if self._on_over is None:
            return
        if self._is_events:
            self._events(data)
            return
        self._size += len(data)
        if self._size > self._max:
            self._break_off(f"its answer is larger than the limit of {self._max} bytes")
            return
        if len(self._shown) < MAX_SHOWN:
            self._shown += data[:MAX_SHOWN]
        self._pass(data)

    def _events(self, data: bytes) -> None:
        if self._held or data[-2:] != b"\n\n":
            data = self._whole_events(data)
            if not data:
                return
        # Both are looked for first in the quickest way, because a stream has a thousand events.
        if data.find(b"error") >= 0 and (found := _ERROR.search(data)) is not None:
            if found.start():
                self._pass(data[: found.start()])
            shown = data[found.start() :][:MAX_SHOWN].decode("utf-8", "replace").strip()
            self._break_off(f"its stream has an error: {shown}")
            return
        for word in self._ends:
            if data.find(word) >= 0:
                self._has_said_done |= _says(data, word)
        self._pass(data)

    def _whole_events(self, data: bytes) -> bytes:
        """Return the events that end in this data, and hold what is behind them."""
        # Searched is what is new, because an event may come in many pieces.
        searched = self._tail + data
        end = max(searched.rfind(b"\n\n") + 2, searched.rfind(b"\r\n\r\n") + 4, searched.rfind(b"\r\r") + 2)
        end -= len(self._tail)
        if end <= 4 and self._held_size + end <= 4:  # nothing was found, or what is so short that it can wait
            end = 0
        whole = b""
        if end > 0:
            whole = b"".join((*self._held, data[:end]))
            data, self._held, self._held_size, self._tail = data[end:], [], 0, b""
        if data:
            self._held.append(data)
            self._held_size += len(data)
            self._tail = (self._tail + data)[-3:]
        if self._held_size > self._max:
            self._break_off(f"its stream has an event of over {self._max} bytes")
        return whole

    def _pass(self, data: bytes) -> None:
        is_first = not self._produced and self._is_events
        self._produced += max(MIN_CHUNK_BYTES, len(data))
        self._outbox.chunk(self._request_id, data)
        if is_first:
            self._outbox.flush()  # the client waits for it
        if self.is_full() and self._connection is not None:
            self._is_paused = True
            self._connection.pause()

    def _wake(self) -> None:
        if self._is_paused and not self.is_full() and self._connection is not None:
            self._is_paused = False
            self._connection.resume()

    def whole(self) -> None:
        if self._is_events and self._on_over is not None:
            if any(_says(b"".join(self._held), word) for word in self._ends):
                self._events(b"\n\n")
            if not self._has_said_done:
                name = self._ends[0].decode()
                self.broken(f"its stream ended without {'data' if name == '[DONE]' else 'event'}: {name}")
        self.broken("")

    def broken(self, reason: str) -> None:
        if self._on_over is None:
            return
        where = f"POST {self._route} of {self._name}"
        if reason:
            self.end(Refusal(f"{where}: {reason}", _BAD_GATEWAY))
        elif self._status >= 500:
            text = self._shown.decode("utf-8", "replace").strip()
            self.end(Refusal(f"{where} answered {self._status}: {text}", self._status))
        else:
            self.end(None)

    def _break_off(self, reason: str) -> None:
        if self._connection is not None:
            self._connection.close()
        self.broken(reason)


@lru_cache(maxsize=64)  # a server's answers have few
def _passed_head(status: int, *values: str | None) -> tuple[bool, bytes]:
    """Return whether an answer is events, and what is said of it to the client.

    Raise ValueError for a header that can't be passed on; `values` are those of `PASSED_HEADERS`.
    """
    passed = {name: value for name, value in zip(PASSED_HEADERS, values, strict=True) if value is not None}
    for name, value in passed.items():
        if PASSED_VALUE.fullmatch(value) is None:
            raise ValueError(
                f"its answer has a {name} that is longer than 500 characters, or not plain ASCII"
            )
    kind = passed.get("content-type", "").partition(";")[0].strip().lower()
    document = json.dumps({"status": status, "headers": passed}).encode()
    return kind == EVENTS and status < 300, document


def _says(events: bytes, word: bytes) -> bool:
    lines = tuple(field + word for field in (b"data: ", b"data:", b"event: ", b"event:"))
    # Within a text of JSON the quotation marks have backslashes.
    typed = re.compile(rb'data: ?\{.*"type" ?: ?"%b"' % re.escape(word))
    return any(line.rstrip() in lines or typed.match(line) is not None for line in events.splitlines())


def split_request(body: bytes) -> tuple[str, str, bytes]:
    """Return the route, the Content-Type and the args of a request, which begins with its `destination_path`."""
    head, found, args = body.partition(b', "args": ')
    try:
        route, content_type = _named(head)
    except (ValueError, KeyError, TypeError, AttributeError):
        found = b""
    if not found:
        raise Refusal("the request does not begin with its destination_path and args", _BAD_INPUT)
    return route, content_type, args[:-1]


@lru_cache(maxsize=64)  # requests of clients have few, and those of batches are not waited for
def _named(head: bytes) -> tuple[str, str]:
    names = json.loads(f"{head.decode()}}}")
    return str(names["destination_path"]), str(names.get("content_type", "application/json"))

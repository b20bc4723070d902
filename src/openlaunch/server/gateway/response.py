"""Answers to the requests of hot routes: finished JSON, problem documents, and bodies of unknown length."""

import asyncio
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Protocol

from uvicorn.protocols.http.flow_control import FlowControl

from openlaunch.errors import APIError
from openlaunch.server.asgi import STREAM_HEADERS, Scope, new_request_id, problem_headers
from openlaunch.server.bodies import BodyBudget, Held
from openlaunch.server.gateway.unread_answers import PIECE_BYTES, UnreadAnswers
from openlaunch.turns import LoopTurns
from openlaunch.wire.problems import CONTENT_TYPE, to_problem
from openlaunch_worker.frames import Body

JOIN_BYTES = 64 * 1024
"""An answer up to this size goes out in one piece with its head; copying a larger one costs more than a write."""

JSON = {"content-type": "application/json"}
"""The headers of a document that is sent in pieces."""

_JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
"""By status. Engines have others too, such as 529."""
_PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"
_COMMENT = b":\n\n"


class Connection(Protocol):
    """What a request and its answer need of their HTTP connection."""

    transport: asyncio.Transport
    flow: FlowControl
    bodies: BodyBudget
    answers: UnreadAnswers
    turns: LoopTurns
    scheme: str
    server: tuple[str, int | None] | None
    client: tuple[str, int] | None

    def holder(self, scope: Scope) -> str:
        """Return for whom memory of a request is counted: its owner, or else the client's address."""
        ...

    def send(self, data: Body | memoryview) -> None:
        """Write to the client, unless the connection is closing."""
        ...

    def admit(self, scope: Scope) -> object:
        """Raise where the request's key is not good; called before a large body is read."""
        ...

    def refused(self, error: APIError) -> None:
        """Count a request that is answered with an error."""
        ...

    def on_response_complete(self) -> None:
        """Close the connection, or begin with the next request."""
        ...

    def leave(self) -> None:
        """Close the connection, once the client has what was sent to it."""
        ...


class Response:
    """The answer to one request of a hot route. Used in the event loop's thread.

    `on_gone` is called when the client goes away before the answer is complete, `on_writable` when the connection
    takes bytes again after `write_paused`.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_held",
        "_is_one_document",
        "disconnected",
        "keep_alive",
        "on_gone",
        "on_writable",
        "response_complete",
        "started",
    )

    def __init__(self, connection: Connection, *, chunked: bool, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.started = False
        self.response_complete = False
        self.disconnected = False
        self.on_gone: Callable[[], object] = _nothing
        self.on_writable: Callable[[], None] = _nothing
        self._connection = connection
        self._chunked = chunked
        self._held: Held | None = None
        """The request's part of the budget for bodies."""
        self._is_one_document = False
        """Whether nothing may be put between the parts of the answer."""

    @property
    def write_paused(self) -> bool:
        """Whether the connection holds as many bytes as it should: the client is slow."""
        return self._connection.flow.write_paused

    def respond(self, body: Body) -> None:
        """Answer with finished JSON."""
        if self.keep_alive and len(body) <= JOIN_BYTES:
            if not self.disconnected and not self.response_complete:
                self.response_complete = True
                self._connection.send(_JSON_HEAD % len(body) + body)
                self.let_go()
                self._connection.on_response_complete()
        else:
            self._respond(200, {"content-type": "application/json"}, body)

    def fail(self, error: APIError) -> None:
        """Answer with a problem document, unless an answer has begun."""
        if not self.started:
            self._connection.refused(error)
            self._respond(error.status, *self._described(error, error.request_id or self.request_id))

    def _described(self, error: APIError, request_id: str) -> tuple[dict[str, str], bytes]:
        """Return the headers and the body that say what is wrong."""
        return problem(error, request_id)

    def _respond(self, status: int, headers: Mapping[str, str], body: Body) -> None:
        if self.disconnected or self.started or self.response_complete:
            return
        head = response_head(
            status, {**headers, "content-length": str(len(body))}, keep_alive=self.keep_alive
        )
        if len(body) <= JOIN_BYTES:
            self._connection.send(head + body)
            self.finish()
        else:
            self._connection.send(head)
            self._send_large(memoryview(body))

    def _send_large(self, body: memoryview) -> None:
        """Send as much as the client takes at once; the rest waits where it can be kept."""
        self.started = self._is_one_document = True
        sent = 0
        while sent < len(body) and not self.write_paused:
            # A copy: a view that the connection holds would keep all of the body in memory.
            self._connection.send(bytes(body[sent : sent + PIECE_BYTES]))
            sent += PIECE_BYTES
        if sent < len(body):
            self._connection.answers.send(self, body[sent:])
        else:
            self.finish()

    def send_part(self, data: bytes) -> None:
        """Send a part of a body whose length was announced."""
        self._connection.send(data)

    def finish(self) -> None:
        """End an answer, all of which was sent."""
        self.response_complete = True
        self._ended()

    @property
    def request_id(self) -> str:
        """The id by which answers and logs name the request."""
        return new_request_id()

    @property
    def owner(self) -> str:
        """Whose request it is; "" where that is not known."""
        return ""

    def let_go(self) -> None:
        """Release what is held for the request."""
        # With the callbacks, each request would leave a cycle of references to the collector.
        self.on_gone = self.on_writable = _nothing
        if self._held is not None:
            self._held.resize(0)
            self._held = None

    def _ended(self) -> None:
        self.let_go()
        self._connection.on_response_complete()

    def write(self, data: bytes, headers: Mapping[str, str]) -> None:
        """Send a piece of an answer of unknown length; before the first, its head with these headers."""
        if self.disconnected or self.response_complete or not data:
            return
        self._is_one_document = headers is JSON
        self._connection.send(self._stream_head(headers) + self._framed(data))

    def write_large(self, data: Body, headers: Mapping[str, str]) -> None:
        """Send a large piece of such an answer without a copy: the connection holds it until the client has it."""
        self._write_uncopied(data, headers)

    def _write_uncopied(self, data: Body | memoryview, headers: Mapping[str, str]) -> None:
        if self.disconnected or self.response_complete:
            return
        size, end = (b"%x\r\n" % len(data), b"\r\n") if self._chunked else (b"", b"")
        self._connection.send(self._stream_head(headers) + size)
        self._connection.send(data)
        self._connection.send(end)

    def end(self, data: bytes, headers: Mapping[str, str]) -> None:
        """Send the last piece of such an answer, which may be empty."""
        if self.disconnected or self.response_complete:
            return
        self.response_complete = True
        last = b"0\r\n\r\n" if self._chunked else b""
        self._connection.send(self._stream_head(headers) + self._framed(data) + last)
        self._ended()

    async def drained(self) -> None:
        """Wait until the connection takes bytes again."""
        await self._connection.flow.drain()

    def drop(self) -> None:
        """Close the connection at once, without a callback."""
        self.let_go()
        self._connection.transport.abort()

    def probe(self) -> bool:
        """Write something harmless to a client that has closed its side, whose kernel answers if it is gone.

        Gives whether the answer continues: what may be written is an interim answer, or a comment in a stream of
        events, and nothing within a document.
        """
        if self._is_one_document and not self.response_complete:
            return True
        if self.response_complete or not self._chunked:
            return False
        self._connection.send(self._framed(_COMMENT) if self.started else _PROCESSING)
        return True

    def _stream_head(self, headers: Mapping[str, str]) -> bytes:
        if self.started:
            return b""
        self.started = True
        if headers is STREAM_HEADERS and self._chunked and self.keep_alive:
            return _EVENTS_HEAD
        given = {**headers, "transfer-encoding": "chunked"} if self._chunked else headers
        return response_head(200, given, keep_alive=self.keep_alive)

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if data and self._chunked else data


def response_head(status: int, headers: Mapping[str, str], *, keep_alive: bool) -> bytes:
    """Return the status line and the headers of an answer as bytes."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}"]
    lines += [f"{name.lower()}: {value}" for name, value in headers.items()]
    if not keep_alive:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


_EVENTS_HEAD = response_head(200, {**STREAM_HEADERS, "transfer-encoding": "chunked"}, keep_alive=True)


def refusal(error: APIError) -> bytes:
    """Make the whole answer to a request that can't be read, after which the connection is closed."""
    headers, body = problem(error, error.request_id or new_request_id())
    return response_head(error.status, {**headers, "content-length": str(len(body))}, keep_alive=False) + body


def problem(error: APIError, request_id: str) -> tuple[dict[str, str], bytes]:
    """Return the headers and the body of a problem document."""
    headers = {"content-type": CONTENT_TYPE, **problem_headers(error, request_id)}
    return headers, json.dumps(to_problem(error, request_id)).encode()


def _nothing() -> None:
    pass

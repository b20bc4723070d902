"""Requests by name: the answer is the value alone, with a status that says how the prediction has ended."""

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from openlaunch.errors import ServerError
from openlaunch.server.asgi import HARMLESS, STREAM_HEADERS
from openlaunch.server.gateway.exchange import Exchange, split_binary
from openlaunch.server.gateway.heartbeats import HEARTBEAT
from openlaunch.server.gateway.response import JOIN_BYTES, JSON
from openlaunch.server.prediction.forms import FORM
from openlaunch.server.prediction.values import events_in, item_in, parts_of, problem_of, url_of, value_of
from openlaunch.wire.problems import CONTENT_TYPE
from openlaunch.wire.sse import END_EVENT
from openlaunch_worker.answers import failure
from openlaunch_worker.files import OCTETS
from openlaunch_worker.frames import Body

MIXED = "multipart/mixed"
LARGE_BYTES = 1024 * 1024
"""An answer beyond this is not parsed in the event loop's thread."""

_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w.-]+=[\w.+-]+)*", re.ASCII)


class Format(NamedTuple):
    """How the items of a stream are written.

    Only one with `says_end` has an event for a failure. Another is cut off then, without the end of its last chunk,
    because nothing else in it could not be an item.
    """

    media_type: str
    first: bytes
    before: bytes
    between: bytes
    after: bytes
    last: bytes
    says_end: bool = False


EVENTS = Format("text/event-stream", b"", b"data: ", b"", b"\n\n", END_EVENT, says_end=True)
LINES = Format("application/x-ndjson", b"", b"", b"", b"\n", b"")
ARRAY = Format("application/json", b"[", b"", b",\n", b"", b"]\n")
FORMATS = {each.media_type: each for each in (EVENTS, LINES, ARRAY)}


class PlainExchange(Exchange):
    """One request by name. It takes answers as workers make them, and writes what is in them."""

    __slots__ = ("_collected", "_items", "_responding", "format")

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.reads_parts = False  # its answer is the value
        self.format = EVENTS
        self._items = 0
        self._collected = bytearray()
        """What has come of an answer that comes in pieces."""

    def respond(self, body: Body) -> None:
        """Answer with the value in an answer of a worker, or with why there is none."""
        if self._collected:
            self._collected += body
            body = self._collected
        if len(body) > LARGE_BYTES:
            self._responding = asyncio.get_running_loop().create_task(self._respond_large(body))
            self.on_gone = self._responding.cancel
        else:
            self._respond_value(body, value_of(body))

    async def _respond_large(self, body: Body) -> None:
        """Answer once a thread has the value, which takes it 2 ms for each MiB."""
        value = await asyncio.to_thread(value_of, body)
        self.guarded(self._respond_value, body, value)

    def _respond_value(self, body: Body, value: Body | None) -> None:
        if value is not None:
            self._respond(200, JSON, value)
        elif len(body) > LARGE_BYTES:  # no worker that keeps to the rules answers so
            raise ServerError("the worker's answer is not one")
        elif (pickled := url_of(body)) is not None:
            self.respond_document(200, {}, pickled)
        else:
            self.respond_failed(bytes(body))

    def respond_binary(self, payload: Body) -> None:
        """Answer with bytes and their media type, which are behind them."""
        payload, media_type = split_binary(payload)
        if media_type.startswith(FORM) and self._reads_mixed:
            media_type = media_type.replace(FORM, MIXED, 1)
        known = media_type if _MEDIA_TYPE.fullmatch(media_type) else OCTETS
        self._respond(200, {"content-type": known, **HARMLESS}, payload)

    @property
    def _reads_mixed(self) -> bool:
        """Whether the client reads parts that are not called a form."""
        accept = b",".join(value for name, value in self.scope["headers"] if name == b"accept").lower()
        return MIXED.encode() in accept and FORM.encode() not in accept

    def respond_document(self, status: int, headers: Mapping[str, str], document: Mapping[str, Any]) -> None:
        """Answer with a document of the server's own."""
        self._respond(status, {**JSON, **headers}, json.dumps(document).encode())

    def respond_failed(self, body: bytes) -> None:
        """Answer with the failure of a model as a problem document."""
        request_id = self.request_id
        status, document = problem_of(body, request_id)
        headers = {"content-type": CONTENT_TYPE, "x-request-id": request_id}
        self._respond(status, headers, json.dumps(document).encode())

    def write(self, data: Body, headers: Mapping[str, str]) -> None:
        """Send the items of a piece of a stream, or collect a piece of an answer."""
        if self.disconnected or self.response_complete:
            return
        if headers is JSON:
            self._collected += data
            self._count(len(self._collected))
        elif data != HEARTBEAT:
            self._write_items(bytes(data))
        elif self.format.says_end:
            super().write(HEARTBEAT, self._headers)

    def write_large(self, data: Body, headers: Mapping[str, str]) -> None:
        """Send the items of a large piece of a stream, large ones without a copy, or collect a piece of an answer."""
        if headers is JSON:
            self.write(data, headers)
            return
        small = bytearray()
        for event in events_in(data):
            item = item_in(event) if len(event) > JOIN_BYTES else None
            if item is None:
                small += event
                small += b"\n\n"
                continue
            self.write(bytes(small), headers)
            small.clear()
            self._write_large_item(item)
        self.write(bytes(small), headers)

    def _write_large_item(self, item: memoryview) -> None:
        if not self.disconnected and not self.response_complete:
            between = self.format.between if self._items else self.format.first
            super().write(between + self.format.before, self._headers)
            self._write_uncopied(item, self._headers)
            self._items += 1
            self._send_items(self.format.after)

    def end(self, data: bytes, headers: Mapping[str, str]) -> None:
        """Send the last items of a stream and its end, or break it off where it failed."""
        if self.disconnected or self.response_complete:
            return
        if not self._write_items(data):
            return
        last = self.format.last if self._items else self.format.first + self.format.last
        super().end(last, self._headers)

    @property
    def _headers(self) -> Mapping[str, str]:
        return {**STREAM_HEADERS, "content-type": self.format.media_type}

    def _write_items(self, events: bytes) -> bool:
        """Send the items in these events; return False once the stream has failed."""
        text = bytearray()
        for item, failed in parts_of(events):
            if item is None:
                self._fail_stream(bytes(text), failed)
                return False
            text += self.format.between if self._items else self.format.first
            text += self.format.before + item + self.format.after
            self._items += 1
        self._send_items(bytes(text))
        return True

    def _send_items(self, text: bytes) -> None:
        super().write(text, self._headers)
        if not self.format.says_end:
            self._is_one_document = True

    def _fail_stream(self, items: bytes, failed: bytes) -> None:
        if len(failed) > LARGE_BYTES:  # no worker that keeps to the rules fails so
            failed = failure("the worker's answer is not one", ServerError.status)
        if not self.started and not items:
            self.respond_failed(failed)
            return
        self._send_items(items)
        if self.format.says_end:
            _, document = problem_of(failed, self.request_id)
            super().end(b"event: error\ndata: %b\n\n" % json.dumps(document).encode(), self._headers)
        else:
            self.response_complete, self.keep_alive = True, False
            self._ended()

"""The hot path: sync and streaming predictions, from the bytes of a request to a worker's slot and back.

A payload's bytes are passed on as they came and an answer's as the worker made them; nothing is built here
but errors. No task is made for a request: what happens to it is called when it happens.
"""

import asyncio
import secrets
from collections.abc import Coroutine
from functools import partial
from typing import Any

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import APIError, BadRequest, DeadlineExceeded, Unavailable
from openlaunch.server.front import Front
from openlaunch.server.http import STREAM_HEADERS, Scope, header, query_value
from openlaunch.server.inputs import OFF_LOOP_BYTES, PredictInput, check_body, refuse_callback
from openlaunch.server.lane import Lane
from openlaunch.server.protocol import Exchange, HotHandler
from openlaunch.server.results import SignedURLs, base_url, failure_body, hold_against_schema, pickled_body
from openlaunch.server.resume import Resumables, ResumableStream
from openlaunch.server.schemas import BundleSchemas
from openlaunch.server.work import Call, StreamCall
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch.wire.sse import LAST_EVENT_ID, RESUME
from openlaunch_worker.frames import Outcome

_LAST_EVENT_ID = LAST_EVENT_ID.encode()
_RESUME = RESUME.encode()


class Gateway:
    """The handlers of the sync and streaming routes, for `HttpProtocol`."""

    def __init__(self, front: Front, artifacts: Artifacts, urls: SignedURLs) -> None:
        self.front = front
        self.settings = front.settings
        self.deadlines = Deadlines()
        self._artifacts = artifacts
        self._urls = urls
        self.loop = asyncio.get_running_loop()
        self.resumables = Resumables(self.settings, self.loop)
        self._background: set[asyncio.Task[None]] = set()

    def handlers(self) -> dict[tuple[bytes, bytes], HotHandler]:
        """By method and path."""
        return {
            (b"POST", routes.SYNC_TASKS.encode()): partial(self._predict, EndpointType.SYNC),
            (b"POST", routes.STREAMING_TASKS.encode()): self._stream,
            (b"DELETE", routes.STREAMING_TASKS.encode()): self._stop_stream,
        }

    def _stream(self, exchange: Exchange) -> None:
        if last_event_id := header(exchange.scope, _LAST_EVENT_ID):
            stream, number = self._stream_of(exchange.scope, last_event_id)
            stream.resume(exchange, number)
        else:
            self._predict(EndpointType.STREAMING, exchange)

    def _stop_stream(self, exchange: Exchange) -> None:
        """A client that left a resumable stream will not come back to it."""
        last_event_id = header(exchange.scope, _LAST_EVENT_ID)
        if not last_event_id:
            raise BadRequest(
                "the header Last-Event-ID is missing: it names the stream", code="missing_parameter"
            )
        stream, _ = self._stream_of(exchange.scope, last_event_id)
        done = stream.cancelled
        stream.give_up()
        exchange.respond(b'{"cancelled": false}' if done else b'{"cancelled": true}')

    def _stream_of(self, scope: Scope, last_event_id: bytes) -> tuple[ResumableStream, int]:
        owner = self.front.principal(scope).owner
        return self.resumables.find(owner, query_value(scope, b"model_endpoint_id"), last_event_id)

    def _predict(self, kind: EndpointType, exchange: Exchange) -> None:
        lane, _ = self.front.lane(exchange.scope, kind)
        schemas = self.front.cached_schemas_of(lane)
        if schemas is None or len(exchange.body) > OFF_LOOP_BYTES:
            self.spawn(self._check_aside(exchange, lane), exchange)
        else:
            self._begin(exchange, lane, check_body(exchange.body, schemas), schemas)

    async def _check_aside(self, exchange: Exchange, lane: Lane) -> None:
        """The same for a body that would hold the others up, and for schemas that are not in memory."""
        schemas = await self.front.schemas_of(lane)
        wanted = await asyncio.to_thread(check_body, exchange.body, schemas)
        if not exchange.disconnected:
            self._begin(exchange, lane, wanted, schemas)

    def _begin(self, exchange: Exchange, lane: Lane, wanted: PredictInput, schemas: BundleSchemas) -> None:
        refuse_callback(wanted)
        streams = lane.endpoint.endpoint_type is EndpointType.STREAMING
        limit = self.settings.stream_timeout_seconds if streams else self.settings.request_timeout_seconds
        seconds = limit if wanted.timeout is None else min(wanted.timeout, limit)
        deadline = self.loop.time() + seconds
        call = (
            self._new_stream(exchange, lane, wanted, deadline)
            if streams
            else _Sync(self, exchange, wanted, deadline, schemas)
        )
        lane.submit(call)
        if not call.cancelled:
            exchange.on_gone = call.gone
            self.deadlines.add(call)

    def _new_stream(
        self, exchange: Exchange, lane: Lane, wanted: PredictInput, deadline: float
    ) -> "_Stream | ResumableStream":
        asked = header(exchange.scope, _RESUME)
        if asked is None or not self.resumables.seconds:
            return _Stream(self, exchange, wanted, deadline)
        if asked != b"true":
            raise BadRequest(
                f"{RESUME} is {asked[:80].decode('latin-1')!r}: 'true' is needed, or no such header"
            )
        owner = self.front.principal(exchange.scope).owner
        return ResumableStream(self, exchange, wanted, deadline, owner, lane.endpoint.id)

    def spawn(self, coroutine: Coroutine[Any, Any, None], exchange: Exchange) -> None:
        """Go on with a request in a task of its own; what it raises is the answer."""
        task = self.loop.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(lambda done: self._ended(done, exchange))

    def _ended(self, task: asyncio.Task[None], exchange: Exchange) -> None:
        self._background.discard(task)
        if not task.cancelled():
            exchange.guarded(task.result)

    async def answer_with_care(
        self, exchange: Exchange, outcome: int, payload: bytes, schemas: BundleSchemas
    ) -> None:
        """Answers that go to artifacts, or are held against the response schema first."""
        if outcome == Outcome.PICKLED:
            key = f"results/{secrets.token_hex(16)}.pkl"
            await self._artifacts.put(key, payload)
            payload = pickled_body(self._urls.make(base_url(exchange.scope), "GET", key))
        else:
            payload = await hold_against_schema(payload, schemas)
        exchange.respond(payload)


class _Sync(Call):
    """A sync request of an exchange."""

    __slots__ = ("_exchange", "_gateway", "_schemas")

    def __init__(
        self,
        gateway: Gateway,
        exchange: Exchange,
        wanted: PredictInput,
        deadline: float,
        schemas: BundleSchemas,
    ) -> None:
        super().__init__(exchange.body, wanted.flags, deadline)
        self._gateway = gateway
        self._exchange = exchange
        self._schemas = schemas

    def answered(self, outcome: int, payload: bytes) -> None:
        gateway, exchange = self._gateway, self._exchange
        gateway.deadlines.discard(self)
        if outcome == Outcome.CANCELLED:
            exchange.fail(
                Unavailable("the worker stopped before it answered", code="cancelled", retry_after=1)
            )
        elif outcome == Outcome.PICKLED or (outcome == Outcome.SUCCESS and gateway.settings.check_responses):
            gateway.spawn(gateway.answer_with_care(exchange, outcome, payload, self._schemas), exchange)
        else:
            exchange.respond(payload)

    def failed(self, error: APIError) -> None:
        self._gateway.deadlines.discard(self)
        self._exchange.fail(error)

    def gone(self) -> None:
        """The client went away."""
        self._gateway.deadlines.discard(self)
        self.abandon(None)


class _Stream(StreamCall):
    """A streaming request of an exchange. Until its first piece there can still be an error status."""

    __slots__ = ("_exchange", "_gateway", "_held", "_pieces")

    def __init__(self, gateway: Gateway, exchange: Exchange, wanted: PredictInput, deadline: float) -> None:
        super().__init__(exchange.body, wanted.flags, deadline)
        self._gateway = gateway
        self._exchange = exchange
        self._held = 0
        self._pieces: list[bytes] = []
        exchange.on_writable = self._writable

    def piece(self, data: bytes) -> None:
        # What comes in one turn of the loop goes out in one write.
        self._pieces.append(data)
        if not self._exchange.started:
            self._flush()
        elif len(self._pieces) == 1:
            self._gateway.loop.call_soon(self._flush)

    def _flush(self) -> None:
        data = self._taken_pieces()
        self._exchange.write(data, STREAM_HEADERS)
        if self._exchange.write_paused:
            self._held += len(data)
        else:
            self.passed_on(len(data))

    def _taken_pieces(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def _writable(self) -> None:
        held, self._held = self._held, 0
        self.passed_on(held)

    def answered(self, outcome: int, payload: bytes) -> None:
        if outcome == Outcome.CANCELLED:
            self.failed(Unavailable("the worker stopped before the end of the stream", code="cancelled"))
            return
        self._gateway.deadlines.discard(self)
        self._exchange.end(self._taken_pieces() + payload, STREAM_HEADERS)

    def failed(self, error: APIError) -> None:
        self._gateway.deadlines.discard(self)
        pieces = self._taken_pieces()
        if self._exchange.started or pieces:
            event = b"data: " + failure_body(str(error), error.status) + b"\n\n"
            self._exchange.end(pieces + event, STREAM_HEADERS)
        else:
            self._exchange.fail(error)

    def gone(self) -> None:
        """The client went away."""
        self._gateway.deadlines.discard(self)
        self.abandon(None)


class Deadlines:
    """Ends calls whose deadline passes: one timer for the earliest, because hardly any call reaches its own."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._next = float("inf")
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def add(self, call: Call) -> None:
        """Watch a call."""
        self._calls.add(call)
        if call.deadline < self._next:
            self._expect(call.deadline)

    def discard(self, call: Call) -> None:
        """The call has ended."""
        self._calls.discard(call)

    def _expect(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = deadline
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        for call in [call for call in self._calls if call.deadline <= now]:
            where = "ran in its worker" if call.running else "waited for a worker"
            call.abandon(DeadlineExceeded(f"the deadline passed while the request {where}"))
        self._next, self._timer = float("inf"), None
        if self._calls:
            self._expect(min(call.deadline for call in self._calls))

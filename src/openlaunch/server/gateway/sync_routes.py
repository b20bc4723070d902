"""The hot path: sync and streaming predictions, from the bytes of a request to a worker's slot and back.

A payload's bytes are passed on as they came and an answer's as the worker made them; nothing is built here
but errors. No task is made for a request: what happens to it is called when it happens.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable
from functools import partial

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import APIError, BadRequest, Unavailable
from openlaunch.server.asgi import STREAM_HEADERS, Scope, header, query_value
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.work import Call, StreamCall
from openlaunch.server.gateway.front import Front, as_told
from openlaunch.server.gateway.protocol import Exchange, HotHandler
from openlaunch.server.gateway.resumable import Resumables, ResumableStream
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch.server.prediction.idempotency import Answers, Keyed, idempotency_key, keyed
from openlaunch.server.prediction.inputs import (
    OFF_LOOP_BYTES,
    PredictInput,
    check_body,
    check_input,
    refuse_async_only,
)
from openlaunch.server.prediction.results import (
    SignedURLs,
    base_url,
    failure_body,
    hold_against_schema,
    pickled_body,
)
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.server.settings import GatewaySettings
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch.wire.sse import LAST_EVENT_ID, RESUME
from openlaunch_worker.frames import Flags, Outcome

log = logging.getLogger(__name__)

_LAST_EVENT_ID = LAST_EVENT_ID.encode()
_RESUME = RESUME.encode()


class Gateway:
    """The handlers of the sync and streaming routes, for `HttpProtocol`."""

    def __init__(
        self,
        settings: GatewaySettings,
        front: Front,
        artifacts: Artifacts,
        urls: SignedURLs,
        answers: Answers,
    ) -> None:
        self.front = front
        self.answers = answers
        self.settings = settings
        self.deadlines = Deadlines()
        self._artifacts = artifacts
        self._urls = urls
        self.loop = asyncio.get_running_loop()
        self.resumables = Resumables(self.settings, self.loop)
        self._flushes: list[Callable[[], None]] = []

    def flush_soon(self, flush: Callable[[], None]) -> None:
        """Have a stream's pieces written in the next turn of the loop, which is one call for all streams."""
        self._flushes.append(flush)
        if len(self._flushes) == 1:
            self.loop.call_soon(self._flush_all)

    def _flush_all(self) -> None:
        flushes, self._flushes = self._flushes, []
        for flush in flushes:
            try:
                flush()
            except Exception:
                log.exception("a stream could not be written")

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
        self.front.principal(exchange.scope)
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
        lane, principal = self.front.lane(exchange.scope, kind)
        owner = principal.owner
        schemas = self.front.cached_schemas_of(lane)
        if (key := idempotency_key(exchange.scope)) is not None:
            _refuse_key_of_stream(kind)
            exchange.on_gone = self.front.spawn(
                self._predict_once(exchange, lane, owner, key), exchange
            ).cancel
        elif schemas is None or len(exchange.body) > OFF_LOOP_BYTES:
            self.front.spawn(self._check_aside(exchange, lane, owner), exchange)
        else:
            self._begin(exchange, lane, owner, check_body(exchange.body, schemas), schemas)

    async def _check_aside(self, exchange: Exchange, lane: Lane, owner: str) -> None:
        """The same for a body that would hold the others up, and for schemas that are not in memory."""
        schemas = await self.front.schemas_of(lane)
        wanted = await asyncio.to_thread(check_body, exchange.body, schemas)
        if not exchange.disconnected:
            self._begin(exchange, lane, owner, wanted, schemas)

    async def _predict_once(self, exchange: Exchange, lane: Lane, owner: str, key: str) -> None:
        """The same for a sync request with an Idempotency-Key: its answer may be there already."""
        schemas = await self.front.schemas_of(lane)
        wanted = await check_input(exchange.body, schemas)
        request = await keyed(key, lane.endpoint.id, exchange.body)
        refuse_async_only(wanted)
        deadline = self._deadline(lane, wanted)
        stored = await self.answers.begin(owner, request, deadline)
        if stored is None:
            call = _SyncOnce(self, exchange, wanted, deadline, schemas, owner, request)
            try:
                self._submit(exchange, lane, owner, call)
            except BaseException:
                self.answers.release(owner, request)
                raise
        elif stored.body_key is not None and stored.body_key.endswith(".pkl"):
            exchange.respond(self._pickled(exchange, stored.body_key))
        else:
            exchange.respond(await self.answers.body_of(stored))

    def _deadline(self, lane: Lane, wanted: PredictInput) -> float:
        streams = lane.endpoint.endpoint_type is EndpointType.STREAMING
        limit = lane.endpoint.spec.timeout_seconds or (
            self.settings.stream_timeout_seconds if streams else self.settings.request_timeout_seconds
        )
        return self.loop.time() + (limit if wanted.timeout is None else min(wanted.timeout, limit))

    def _begin(
        self, exchange: Exchange, lane: Lane, owner: str, wanted: PredictInput, schemas: BundleSchemas
    ) -> None:
        refuse_async_only(wanted)
        deadline = self._deadline(lane, wanted)
        call = (
            self._new_stream(exchange, lane, owner, wanted, deadline)
            if lane.endpoint.endpoint_type is EndpointType.STREAMING
            else _Sync(self, exchange, wanted, deadline, schemas)
        )
        self._submit(exchange, lane, owner, call)

    def _submit(
        self, exchange: Exchange, lane: Lane, owner: str, call: "_Stream | ResumableStream | _Sync"
    ) -> None:
        if owner != lane.endpoint.owner:
            call.flags |= Flags.FOREIGN
        try:
            lane.submit(call, owner)
        except Unavailable as error:
            raise as_told(error, call.flags) from None
        if not call.cancelled:
            exchange.on_gone = call.gone
            self.deadlines.add(call)

    def _new_stream(
        self, exchange: Exchange, lane: Lane, owner: str, wanted: PredictInput, deadline: float
    ) -> "_Stream | ResumableStream":
        asked = header(exchange.scope, _RESUME)
        if asked is None or not self.resumables.seconds:
            return _Stream(self, exchange, wanted, deadline)
        if asked != b"true":
            raise BadRequest(
                f"{RESUME} is {asked[:80].decode('latin-1')!r}: 'true' is needed, or no such header"
            )
        return ResumableStream(self, exchange, wanted, deadline, owner, lane.endpoint.id)

    async def answer_with_care(
        self, exchange: Exchange, outcome: int, payload: bytes, schemas: BundleSchemas
    ) -> None:
        """Answers that go to artifacts, or are held against the response schema first."""
        body, _ = await self._with_care(exchange, outcome, payload, schemas)
        exchange.respond(body)

    async def _with_care(
        self, exchange: Exchange, outcome: int, payload: bytes, schemas: BundleSchemas
    ) -> tuple[bytes, str | None]:
        """The body of such an answer, and the artifact of a pickled one."""
        if outcome == Outcome.PICKLED:
            key = f"results/{secrets.token_hex(16)}.pkl"
            await self._artifacts.put(key, payload)
            return self._pickled(exchange, key), key
        return await hold_against_schema(payload, schemas), None

    def _pickled(self, exchange: Exchange, key: str) -> bytes:
        return pickled_body(self._urls.make(base_url(exchange.scope), "GET", key))

    def needs_care(self, outcome: int) -> bool:
        """Whether an answer goes to artifacts, or is held against the response schema first."""
        return outcome == Outcome.PICKLED or (outcome == Outcome.SUCCESS and self.settings.check_responses)

    async def answer_once(
        self,
        exchange: Exchange,
        outcome: int,
        body: bytes,
        schemas: BundleSchemas,
        owner: str,
        request: Keyed,
    ) -> None:
        """An answer to a request with an Idempotency-Key, which is stored before it is given."""
        key = None
        try:
            if self.needs_care(outcome):
                body, key = await self._with_care(exchange, outcome, body, schemas)
            await self.answers.keep(owner, request, body, key)
        except Unavailable as error:
            log.error("an answer is given without being stored under its Idempotency-Key: %s", error)
        finally:
            self.answers.release(owner, request)
        exchange.respond(body)


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
        elif gateway.needs_care(outcome):
            gateway.front.spawn(gateway.answer_with_care(exchange, outcome, payload, self._schemas), exchange)
        else:
            exchange.respond(payload)

    def failed(self, error: APIError) -> None:
        self._gateway.deadlines.discard(self)
        self._exchange.fail(as_told(error, self.flags))

    def gone(self) -> None:
        """The client went away."""
        self._gateway.deadlines.discard(self)
        self.abandon(None)


class _SyncOnce(_Sync):
    """A sync request with an Idempotency-Key. Only what the model answered is stored: errors are tried again."""

    __slots__ = ("_owner", "_request")

    def __init__(
        self,
        gateway: Gateway,
        exchange: Exchange,
        wanted: PredictInput,
        deadline: float,
        schemas: BundleSchemas,
        owner: str,
        request: Keyed,
    ) -> None:
        super().__init__(gateway, exchange, wanted, deadline, schemas)
        self._owner = owner
        self._request = request

    def answered(self, outcome: int, payload: bytes) -> None:
        if outcome == Outcome.CANCELLED:
            self._release()
            super().answered(outcome, payload)
            return
        gateway, exchange = self._gateway, self._exchange
        gateway.deadlines.discard(self)
        answer = gateway.answer_once(exchange, outcome, payload, self._schemas, self._owner, self._request)
        gateway.front.spawn(answer, exchange)

    def failed(self, error: APIError) -> None:
        self._release()
        super().failed(error)

    def gone(self) -> None:
        if not self.cancelled:
            self._release()
        super().gone()

    def _release(self) -> None:
        self._gateway.answers.release(self._owner, self._request)


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
            self._gateway.flush_soon(self._flush)

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
            self._exchange.fail(as_told(error, self.flags))

    def gone(self) -> None:
        """The client went away."""
        self._gateway.deadlines.discard(self)
        self.abandon(None)


def _refuse_key_of_stream(kind: EndpointType) -> None:
    if kind is EndpointType.STREAMING:
        raise BadRequest(
            "a stream's items are not stored, so it can't have an Idempotency-Key: send the request without",
            code="idempotency_of_stream",
        )

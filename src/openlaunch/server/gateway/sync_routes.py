"""The hot path: sync and streaming predictions, from the bytes of a request to a worker's slot and back.

A payload's bytes are passed on as they came and an answer's as the worker made them; nothing is built here
but errors. No task is made for a request: what happens to it is called when it happens.
"""

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import APIError, BadRequest, NotFound, Unprocessable
from openlaunch.server.asgi import header, query_value
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.work import Call
from openlaunch.server.gateway.exchange import Exchange, HotHandler
from openlaunch.server.gateway.passing_on import ANY_OTHER
from openlaunch.server.gateway.request_tasks import RequestTasks, counted
from openlaunch.server.gateway.resolver import EndpointResolver
from openlaunch.server.gateway.streams import Resumed, Streams, stream_name
from openlaunch.server.gateway.sync_calls import Calls
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch.server.prediction.file_ids import FilesById
from openlaunch.server.prediction.forms import Form
from openlaunch.server.prediction.idempotency import Answers, idempotency_key
from openlaunch.server.prediction.inputs import PredictInput, as_request, check_sync_body, of_args
from openlaunch.server.prediction.results import SignedURLs
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.prediction.schemas import BundleSchemas, TakesLong
from openlaunch.server.settings import GatewaySettings
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch.wire.sse import LAST_EVENT_ID
from openlaunch_worker.files import PARTS
from openlaunch_worker.frames import Body, Flags, document_behind

if TYPE_CHECKING:
    from openlaunch.server.dispatch.left_work import LeftWork

LEFT_SECONDS = 3.0
"""How long a client that resumes waits for the stream's server to be taken for dead: nodes do that after 2 s."""
_LAST_EVENT_ID = LAST_EVENT_ID.encode()
_PARTS = PARTS.encode()


class SyncRoutes:
    """The handlers of the sync and streaming routes, for `HttpProtocol`."""

    def __init__(
        self,
        settings: GatewaySettings,
        resolver: EndpointResolver,
        schemas: SchemaCache,
        answers: Answers,
        artifacts: Artifacts,
        urls: SignedURLs,
        files: FilesById,
        left_work: "LeftWork | None" = None,
    ) -> None:
        self._files, self._left_work = files, left_work
        self._settings = settings
        self._resolver = resolver
        self._schemas = schemas
        self._loop = asyncio.get_running_loop()
        self._tasks = RequestTasks()
        deadlines = Deadlines()
        self.streams = Streams(settings, deadlines, left_work)
        self._calls = Calls(
            settings.check_responses,
            deadlines,
            self._tasks,
            answers,
            artifacts,
            urls,
            schemas.checks,
            left_work,
        )

    @property
    def answers(self) -> Answers:
        """The answers to requests with an Idempotency-Key."""
        return self._calls.answers

    def handlers(self) -> dict[tuple[bytes, bytes], HotHandler]:
        """Return the handlers by method and path."""
        return {
            (b"POST", routes.SYNC_TASKS.encode()): partial(self._predict, EndpointType.SYNC),
            (b"POST", routes.STREAMING_TASKS.encode()): self._stream,
            (b"DELETE", routes.STREAMING_TASKS.encode()): self._stop_stream,
        }

    def _stream(self, exchange: Exchange) -> None:
        if last_event_id := header(exchange.scope, _LAST_EVENT_ID):
            endpoint_id = query_value(exchange.scope, b"model_endpoint_id")
            self._resolver.authenticate(exchange.scope)
            self.resume(exchange, endpoint_id, last_event_id)
        else:
            self._predict(EndpointType.STREAMING, exchange)

    def resume(self, exchange: Exchange, endpoint_id: str, last_event_id: bytes) -> None:
        """Have the client resume the stream of this event, which may send megabytes, in the turn of its owner."""
        exchange.in_turn(self._with_stream, exchange, b"POST", endpoint_id, last_event_id, _resume)

    def _stop_stream(self, exchange: Exchange) -> None:
        """End a resumable stream to which its client will not come back."""
        self._resolver.authenticate(exchange.scope)
        last_event_id = header(exchange.scope, _LAST_EVENT_ID)
        if not last_event_id:
            text = "the header Last-Event-ID is missing: it names the stream"
            raise BadRequest(text, code="missing_parameter")
        endpoint_id = query_value(exchange.scope, b"model_endpoint_id")
        self._with_stream(exchange, b"DELETE", endpoint_id, last_event_id, _stop)

    def _with_stream(
        self,
        exchange: Exchange,
        method: bytes,
        endpoint_id: str,
        last_event_id: bytes,
        use: Callable[[Exchange, Resumed, int], None],
    ) -> None:
        """Find a stream, and use it with the number of its event; where another server has it, that one answers."""
        owner, elsewhere = self._resolver.authenticate(exchange.scope).owner, self.streams.elsewhere
        try:
            stream, number = self.streams.resumables.find(owner, endpoint_id, last_event_id)
        except NotFound as unknown:
            server = "" if elsewhere is None else elsewhere.server_of(exchange, last_event_id)
            lane = self._resolver.lane_of(endpoint_id)
            if not server and (self._left_work is None or lane is None):
                raise
            finding = self._find_elsewhere(exchange, method, lane, owner, server, last_event_id, use, unknown)
            task = self._tasks.spawn(finding, exchange)
            exchange.on_gone = task.cancel
        else:
            use(exchange, stream, number)

    async def _find_elsewhere(
        self,
        exchange: Exchange,
        method: bytes,
        lane: Lane | None,
        owner: str,
        server: str,
        last_event_id: bytes,
        use: Callable[[Exchange, Resumed, int], None],
        unknown: NotFound,
    ) -> None:
        """Have the server answer that has the stream; where none has, take it up from the node that has kept it."""
        elsewhere = self.streams.elsewhere
        stream_id, _, number = last_event_id.decode("latin-1").rpartition("-")
        name = "" if lane is None else stream_name(owner, lane.endpoint.id, stream_id)
        stream: Resumed | None = await self._taken_up(lane, owner, stream_id, name, number)
        if stream is None and server and elsewhere is not None:
            try:
                await elsewhere.answer(exchange, method, server, name, unknown)
                return
            except NotFound as error:
                if error is not unknown or self._left_work is None:
                    raise
            if server != ANY_OTHER and await self._left_work.wait_for(name, LEFT_SECONDS):
                stream = await self._taken_up(lane, owner, stream_id, name, number)
        if stream is None:
            raise unknown
        use(exchange, stream, int(number[:20]))

    async def _taken_up(
        self, lane: Lane | None, owner: str, stream_id: str, name: str, number: str
    ) -> Resumed | None:
        """Take up a stream whose server is gone; None where no node has it, or another server by now."""
        left_work = self._left_work
        if left_work is None or lane is None or name not in left_work or not number.isdecimal():
            return None
        return await self.streams.take_up(left_work, lane, owner, stream_id, self.deadline(lane, None))

    def _predict(self, kind: EndpointType, exchange: Exchange) -> None:
        lane, principal = self._resolver.resolve(exchange.scope, kind)
        key = idempotency_key(exchange.scope)
        schemas = self._schemas.cached(lane.endpoint.serving_bundle_id)
        if (
            key is None
            and schemas is not None
            and not schemas.openai
            and len(exchange.body) <= schemas.quick_bytes
        ):
            try:
                predict_input = check_sync_body(exchange.body, schemas)
            except TakesLong:
                pass
            except APIError as error:
                if header(exchange.scope, b"content-type") != _PARTS:
                    lane.numbers.refused.refused(error)
                    raise
            else:
                if not predict_input.files:
                    self._start(exchange, lane, principal.owner, predict_input, schemas)
                    return
        preparing = self._prepare(exchange, lane, principal.owner, key)
        task = self._tasks.spawn(counted(lane, preparing), exchange)
        exchange.on_gone = task.cancel

    async def predict_args(
        self,
        exchange: Exchange,
        lane: Lane,
        owner: str,
        form: Form | None,
        flags: Flags,
        timeout: float | None = None,
    ) -> Call | None:
        """Start a prediction whose args are the body of its request, or in it; None: it was answered before."""
        key = idempotency_key(exchange.scope)
        _refuse_keyed_stream(key, lane)
        schemas = await self._schemas.get(lane.endpoint.serving_bundle_id)
        if form is None:
            checked = await self._schemas.checks.args(owner, exchange.body, schemas)
            checked = checked._replace(body=as_request(checked.body))
        else:
            args = json.dumps(form.args).encode()
            checked = await self._schemas.checks.args(owner, args, schemas)
            exchange.body = form.behind(exchange.body)
            checked = checked._replace(body=exchange.body)
            flags |= Flags.PARTS
        if key is not None and (form is None or form.tensors is None):
            flags &= ~Flags.ACCEPTS  # the answer is kept as JSON
        checked = checked._replace(flags=flags, timeout=timeout)
        try:
            [checked] = await self._files.behind(owner, [checked], exchange.limit, exchange.hold)
        except Unprocessable as unknown:
            raise of_args(unknown) from None
        return await self._begin(exchange, lane, owner, checked, schemas, key)

    async def _prepare(self, exchange: Exchange, lane: Lane, owner: str, key: str | None) -> None:
        """Start a prediction after what takes time: loading schemas, checking a large body, a stored answer."""
        _refuse_keyed_stream(key, lane)
        schemas = await self._schemas.get(lane.endpoint.serving_bundle_id)
        if header(exchange.scope, b"content-type") == _PARTS:
            predict_input = await self._check_parts(exchange.body, owner, schemas)
        else:
            predict_input = await self._schemas.checks.one_sync(owner, exchange.body, schemas)
        [predict_input] = await self._files.behind(owner, [predict_input], exchange.limit, exchange.hold)
        await self._begin(exchange, lane, owner, predict_input, schemas, key)

    async def _check_parts(self, body: Body, owner: str, schemas: BundleSchemas) -> PredictInput:
        """Check a body with a document behind it; a function without annotations gets its files in JSON."""
        try:
            document = bytes(document_behind(memoryview(body)))
        except ValueError as error:
            raise BadRequest(f"the parts of the body can't be read: {error}", code="invalid_form") from None
        checks = self._schemas.checks
        checked = await checks.parts(owner, document, schemas)
        if schemas.fields is not None:
            return checked._replace(body=body, flags=checked.flags | Flags.PARTS)
        return checked._replace(body=await checks.files_in_json(owner, body, args_alone=False))

    async def _begin(
        self,
        exchange: Exchange,
        lane: Lane,
        owner: str,
        predict_input: PredictInput,
        schemas: BundleSchemas,
        key: str | None,
    ) -> Call | None:
        if schemas.openai:
            self._resolver.refuse_uncounted(exchange.scope)
        if key is None:
            return self._start(exchange, lane, owner, predict_input, schemas)
        deadline = self.deadline(lane, predict_input.timeout)
        return await self._calls.start_keyed(key, exchange, lane, owner, predict_input, deadline, schemas)

    def _start(
        self, exchange: Exchange, lane: Lane, owner: str, predict_input: PredictInput, schemas: BundleSchemas
    ) -> Call:
        deadline = self.deadline(lane, predict_input.timeout)
        if lane.endpoint.endpoint_type is EndpointType.STREAMING:
            return self.streams.start(exchange, lane, owner, predict_input, deadline)
        return self._calls.start(exchange, lane, owner, predict_input, deadline, schemas)

    def deadline(self, lane: Lane, timeout: float | None) -> float:
        """Return when a request that begins now ends at the latest; `timeout` is what its caller allows."""
        limit, settings = lane.endpoint.spec.timeout_seconds, self._settings
        if not limit:
            streams = lane.endpoint.endpoint_type is EndpointType.STREAMING
            limit = settings.stream_timeout_seconds if streams else settings.request_timeout_seconds
        return self._loop.time() + (limit if timeout is None else min(timeout, limit))


def _refuse_keyed_stream(key: str | None, lane: Lane) -> None:
    if key is not None and lane.endpoint.endpoint_type is EndpointType.STREAMING:
        raise keyed_stream()


def keyed_stream() -> BadRequest:
    """Make the error of a stream that has an Idempotency-Key."""
    text = "a stream's items are not stored, so it can't have an Idempotency-Key: send the request without"
    return BadRequest(text, code="idempotency_of_stream")


def _resume(exchange: Exchange, stream: Resumed, number: int) -> None:
    stream.resume(exchange, number)


def _stop(exchange: Exchange, stream: Resumed, number: int) -> None:
    done = stream.cancelled
    stream.give_up()
    exchange.respond(b'{"cancelled": false}' if done else b'{"cancelled": true}')

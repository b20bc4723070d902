"""The async predict routes: submit, ask, and wait, one by one and in bulk."""

from collections.abc import AsyncIterator
from typing import TypeVar
from urllib.parse import unquote

import orjson
from pydantic import BaseModel, ValidationError

from openlaunch.errors import BadRequest, PayloadTooLarge, Unprocessable
from openlaunch.server.access.auth import Principal
from openlaunch.server.asgi import Scope, headers_of
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.gateway.answers_in_pieces import respond_in_pieces
from openlaunch.server.gateway.exchange import Exchange, HotHandler
from openlaunch.server.gateway.request_tasks import RequestTasks, counted
from openlaunch.server.gateway.resolver import EndpointResolver
from openlaunch.server.prediction.file_ids import FilesById
from openlaunch.server.prediction.headers import with_headers
from openlaunch.server.prediction.idempotency import Keyed, idempotency_key, keyed
from openlaunch.server.prediction.inputs import PredictInput, parse_json
from openlaunch.server.prediction.results import SignedURLs
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.prediction.schemas import QUICK_BYTES
from openlaunch.server.queue.answering import Answerable, DoneTasks, body_of
from openlaunch.server.queue.service import TaskService
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch.wire.keys import Role
from openlaunch.wire.misfits import said
from openlaunch.wire.tasks import MAX_WAIT_SECONDS, BulkWaitRequest
from openlaunch_worker.frames import Body

M = TypeVar("M", bound=BaseModel)
_ONE_TASK = routes.ASYNC_TASKS.encode() + b"/"


class TaskRoutes:
    """The handlers of the async routes, for `HttpProtocol`.

    A client that goes away ends its wait; what it has submitted is stored all the same.
    """

    def __init__(
        self,
        resolver: EndpointResolver,
        schemas: SchemaCache,
        queue: TaskService,
        urls: SignedURLs,
        files: FilesById,
    ) -> None:
        self._files = files
        self._resolver = resolver
        self._schemas = schemas
        self._queue = queue
        self._urls = urls
        self._tasks = RequestTasks()

    def handlers(self) -> dict[tuple[bytes, bytes], HotHandler]:
        """Return the handlers by method and path."""
        return {
            (b"POST", routes.ASYNC_TASKS.encode()): self._create,
            (b"POST", routes.ASYNC_TASKS_BULK.encode()): self._create_many,
            (b"POST", routes.ASYNC_TASKS_WAIT.encode()): self._wait,
            (b"GET", _ONE_TASK): self._get,
        }

    def _create(self, exchange: Exchange) -> None:
        lane, principal = self._resolver.resolve(exchange.scope, EndpointType.ASYNC)
        exchange.outlives_client = True
        self._tasks.spawn(counted(lane, self._store_one(exchange, lane, principal)), exchange)

    async def _store_one(self, exchange: Exchange, lane: Lane, principal: Principal) -> None:
        schemas = await self._schemas.get(lane.endpoint.serving_bundle_id)
        if schemas.openai:
            self._resolver.refuse_uncounted(exchange.scope)
        predict_input = await self._schemas.checks.one(principal.owner, exchange.body, schemas)
        if predict_input.files:
            [predict_input] = await self._with_files(exchange, principal, [predict_input])
        if schemas.takes_context:
            predict_input = _with_headers(predict_input, exchange)
        key = await _keyed(exchange, lane)
        self._queue.submitter.refuse_hopeless(lane, principal.owner)
        ids = await self._queue.submitter.submit(lane, principal.owner, [predict_input], key)
        exchange.respond(b'{"task_id": "%s"}' % ids[0].encode())

    def _create_many(self, exchange: Exchange) -> None:
        exchange.in_turn(self._create_many_now, exchange)  # a small body, too, may have a hundred tasks

    def _create_many_now(self, exchange: Exchange) -> None:
        lane, principal = self._resolver.resolve(exchange.scope, EndpointType.ASYNC, requests=0)
        exchange.outlives_client = True
        self._tasks.spawn(counted(lane, self._store_many(exchange, lane, principal)), exchange)

    async def _store_many(self, exchange: Exchange, lane: Lane, principal: Principal) -> None:
        schemas = await self._schemas.get(lane.endpoint.serving_bundle_id)
        if schemas.openai:
            self._resolver.refuse_uncounted(exchange.scope)
        inputs = await self._schemas.checks.many(principal.owner, exchange.body, schemas)
        inputs = await self._with_files(exchange, principal, inputs)
        if schemas.takes_context:
            inputs = [_with_headers(each, exchange) for each in inputs]
        principal.spend(len(inputs))
        key = await _keyed(exchange, lane)
        self._queue.submitter.refuse_hopeless(lane, principal.owner)
        ids = await self._queue.submitter.submit(lane, principal.owner, inputs, key)
        exchange.respond(orjson.dumps({"task_ids": ids}))

    async def _with_files(
        self, exchange: Exchange, principal: Principal, inputs: list[PredictInput]
    ) -> list[PredictInput]:
        return await self._files.in_json(principal.owner, inputs, exchange.limit, exchange.hold)

    def _get(self, exchange: Exchange) -> None:
        caller = self._resolver.authenticate(exchange.scope)
        task_id = unquote(exchange.scope["raw_path"].removeprefix(_ONE_TASK))
        wait = _wait_seconds(exchange.scope)
        exchange.on_gone = self._tasks.spawn(self._answer(exchange, caller, task_id, wait), exchange).cancel

    async def _answer(self, exchange: Exchange, caller: Principal, task_id: str, wait: float) -> None:
        answerer = self._queue.answerer
        get = answerer.get_for_admin if caller.role is Role.ADMIN else answerer.get
        record = await get(caller.owner, task_id, wait)
        await respond_in_pieces(exchange, self._pieces_of(exchange, record))

    def _wait(self, exchange: Exchange) -> None:
        owner = self._resolver.authenticate(exchange.scope).owner
        exchange.on_gone = self._tasks.spawn(self._answer_any(exchange, owner), exchange).cancel

    async def _answer_any(self, exchange: Exchange, owner: str) -> None:
        asked = _validated(BulkWaitRequest, exchange.body)
        ids = list(dict.fromkeys(asked.task_ids))
        done = await self._queue.answerer.wait_for_any(owner, ids, asked.wait)
        await respond_in_pieces(exchange, self._pieces_of_all(exchange, done, len(ids)))

    async def _pieces_of_all(self, exchange: Exchange, done: DoneTasks, asked: int) -> AsyncIterator[bytes]:
        yield b'{"tasks": ['
        count = 0
        async for record in done.records():
            if count:
                yield b", "
            count += 1
            if record.state.done and record.result is not None:
                yield body_of(record, record.result)  # a generator for each would take as long as the rest
                continue
            async for piece in self._pieces_of(exchange, record):
                yield piece
        yield b'], "pending": %d}' % (asked - count)

    def _pieces_of(self, exchange: Exchange, record: Answerable) -> AsyncIterator[bytes]:
        def make_url(key: str) -> str:
            return self._urls.make(self._urls.base_url(exchange.whole_scope), "GET", key)

        return self._queue.answerer.pieces_of(record, make_url)


def _with_headers(predict_input: PredictInput, exchange: Exchange) -> PredictInput:
    return predict_input._replace(body=with_headers(predict_input.body, headers_of(exchange.scope)))


async def _keyed(exchange: Exchange, lane: Lane) -> Keyed | None:
    key = idempotency_key(exchange.scope)
    return None if key is None else await keyed(key, lane.endpoint.id, exchange.body)


def _wait_seconds(scope: Scope) -> float:
    for part in scope["query_string"].split(b"&"):
        if part.startswith(b"wait="):
            try:
                wait = float(part[5:])
            except ValueError:
                wait = -1.0
            if not 0 <= wait <= MAX_WAIT_SECONDS:
                raise BadRequest(
                    f"wait is {part[5:].decode('latin-1')!r}, seconds from 0 to {MAX_WAIT_SECONDS:g} are allowed"
                )
            return wait
    return 0.0


def _validated(model: type[M], body: Body) -> M:
    if len(body) > QUICK_BYTES:
        raise PayloadTooLarge(f"the body has {len(body)} bytes, the limit of this route is {QUICK_BYTES}")
    try:
        return model.model_validate(parse_json(body))
    except ValidationError as error:
        errors = [{"loc": ["body", *e["loc"]], "msg": said(e), "type": e["type"]} for e in error.errors()]
        raise Unprocessable("the body does not fit", errors=errors) from None

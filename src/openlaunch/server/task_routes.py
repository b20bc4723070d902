"""The async predict routes: submit, ask, and wait, one by one and in bulk. Plain ASGI, as the gateway."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from openlaunch.errors import APIError, BadRequest, Unprocessable
from openlaunch.server.front import Front, guarded
from openlaunch.server.http import App, Disconnected, Receive, Scope, Send, send_json
from openlaunch.server.idempotency import Keyed, idempotency_key, keyed
from openlaunch.server.inputs import at_index, check_document, check_input, parse_json
from openlaunch.server.lane import Lane
from openlaunch.server.results import SignedURLs, base_url
from openlaunch.server.tasks import TaskService
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch.wire.tasks import MAX_BULK, MAX_WAIT_SECONDS, BulkWaitRequest

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
_ONE_TASK = routes.ASYNC_TASKS + "/"


class TaskRoutes:
    """POST /v1/async-tasks, /bulk and /wait, and GET /v1/async-tasks/{id}; everything else goes on to `rest`."""

    def __init__(self, front: Front, tasks: TaskService, urls: SignedURLs, rest: App) -> None:
        self._front = front
        self._tasks = tasks
        self._urls = urls
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path, method = scope.get("path", ""), scope.get("method", "")
        if method == "POST" and path == routes.ASYNC_TASKS:
            await guarded(self._create, scope, receive, send)
        elif method == "POST" and path == routes.ASYNC_TASKS_BULK:
            await guarded(self._create_many, scope, receive, send)
        elif method == "POST" and path == routes.ASYNC_TASKS_WAIT:
            await guarded(self._wait, scope, receive, send)
        elif method == "GET" and path.startswith(_ONE_TASK) and path.count("/") == _ONE_TASK.count("/"):
            await guarded(self._get, scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def _create(self, scope: Scope, receive: Receive, send: Send) -> None:
        lane, principal = self._front.lane(scope, EndpointType.ASYNC)
        body = await self._front.body(scope, receive)
        await check_input(body, await self._front.schemas_of(lane))
        key = await _keyed(scope, lane, body)
        self._tasks.refuse_hopeless(lane)
        ids = await self._tasks.submit(lane, principal.owner, [body], key)
        await send_json(send, b'{"task_id": "%s"}' % ids[0].encode())

    async def _create_many(self, scope: Scope, receive: Receive, send: Send) -> None:
        lane, principal = self._front.lane(scope, EndpointType.ASYNC, requests=0)
        body = await self._front.body(scope, receive)
        schemas = await self._front.schemas_of(lane)
        documents = _requests_of(parse_json(body))
        for index, document in enumerate(documents):
            try:
                check_document(document, schemas)
            except APIError as error:
                raise at_index(error, index) from error
        bodies = [_written(document, index) for index, document in enumerate(documents)]
        principal.spend(len(bodies))
        key = await _keyed(scope, lane, body)
        self._tasks.refuse_hopeless(lane)
        ids = await self._tasks.submit(lane, principal.owner, bodies, key)
        await send_json(send, orjson.dumps({"task_ids": ids}))

    async def _get(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = self._front.principal(scope).owner
        task_id = scope["path"].removeprefix(_ONE_TASK)
        wait = _wait_seconds(scope)
        record = await unless_disconnected(self._tasks.get(owner, task_id, wait), receive)
        base = base_url(scope)
        body = await self._tasks.body_of(record, lambda key: self._urls.make(base, "GET", key))
        await send_json(send, body)

    async def _wait(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = self._front.principal(scope).owner
        asked = _validated(BulkWaitRequest, await self._front.body(scope, receive))
        ids = list(dict.fromkeys(asked.task_ids))
        done = await unless_disconnected(self._tasks.wait_for_any(owner, ids, asked.wait), receive)
        base = base_url(scope)
        bodies = [
            await self._tasks.body_of(record, lambda key: self._urls.make(base, "GET", key))
            for record in done
        ]
        await send_json(send, b'{"tasks": [%s], "pending": %d}' % (b", ".join(bodies), len(ids) - len(done)))


async def unless_disconnected(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """Wait for `work`, but no longer than the client does.

    Raises:
        Disconnected: the client went away; `work` was cancelled.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_until_disconnected(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Disconnected
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _requests_of(document: Any) -> list[Any]:
    requests = document.get("requests") if isinstance(document, dict) else None
    if not isinstance(requests, list) or not 1 <= len(requests) <= MAX_BULK:
        size = f"a list of {len(requests)}" if isinstance(requests, list) else type(requests).__name__
        message = f"it is {size}, a list of 1 to {MAX_BULK} requests is needed"
        raise Unprocessable(
            f"requests: {message}",
            errors=[{"loc": ["body", "requests"], "msg": message, "type": "value_error"}],
        )
    return requests


async def _keyed(scope: Scope, lane: Lane, body: bytes) -> Keyed | None:
    key = idempotency_key(scope)
    return None if key is None else await keyed(key, lane.endpoint.id, body)


def _written(document: Any, index: int) -> bytes:
    try:
        return orjson.dumps(document)
    except orjson.JSONEncodeError as error:  # it is read at any depth up to 1,024, and written up to 254
        raise BadRequest(f"request {index}: it is nested too deep: {error}", code="too_deep") from None


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


def _validated(model: type[M], body: bytes) -> M:
    try:
        return model.model_validate(parse_json(body))
    except ValidationError as error:
        raise Unprocessable(
            "the body does not fit",
            errors=[{"loc": ["body", *e["loc"]], "msg": e["msg"], "type": e["type"]} for e in error.errors()],
        ) from None

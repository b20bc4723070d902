"""Predictions by the name of their endpoint: the body is the args, the answer is the value.

`POST /e/{name}` and `/e/{owner}/{name}`. Where an answer takes long, or the request prefers that (RFC 7240), the
prediction is a durable task, and its answer is got from `/e/…/tasks/{id}`.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Collection, Coroutine
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from openlaunch.errors import BadRequest, Unprocessable, UnsupportedMedia
from openlaunch.server.accept import JSON, choose, prefers_json
from openlaunch.server.access.auth import Principal
from openlaunch.server.asgi import Scope, header, headers_of
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.nesting import Nesting, TaskWait, parent_of
from openlaunch.server.dispatch.waits import Waits
from openlaunch.server.dispatch.work import Work
from openlaunch.server.gateway.answers_in_pieces import respond_in_pieces
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.inflating import Inflater
from openlaunch.server.gateway.plain_exchange import FORMATS, MIXED, PlainExchange
from openlaunch.server.gateway.request_reader import Head
from openlaunch.server.gateway.request_tasks import RequestTasks
from openlaunch.server.gateway.resolver import EndpointResolver
from openlaunch.server.gateway.sync_routes import SyncRoutes
from openlaunch.server.prediction.file_ids import FilesById
from openlaunch.server.prediction.forms import FORM, Form, one_file, read_form, taken_types
from openlaunch.server.prediction.headers import with_headers
from openlaunch.server.prediction.idempotency import idempotency_key, keyed
from openlaunch.server.prediction.inputs import as_request, of_args
from openlaunch.server.prediction.results import SignedURLs
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.prediction.schemas import BundleSchemas
from openlaunch.server.queue.answering import Answerable
from openlaunch.server.queue.service import TaskService
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch.wire.keys import Role
from openlaunch.wire.sse import LAST_EVENT_ID, RESUME
from openlaunch.wire.tasks import MAX_WAIT_SECONDS
from openlaunch_worker.files import ARROW, NPY
from openlaunch_worker.frames import Flags

POLL_SECONDS = 20.0
"""How long the question for a task's answer is held open where it does not say so: no proxy has cut it by then."""

_PATH = re.compile(rb"/e/(?:([^/]+)/)?([^/]+)")
_TASK = re.compile(rb"(/e/[^/]+(?:/[^/]+)?)/tasks/([^/]+)")
_BELOW = re.compile(rb"(/e/[^/]+(?:/[^/]+)?)/(?:tasks/[^/]+|openapi\.json)")
"""What an endpoint has below its own path."""

_WAIT = re.compile(r"wait=\"?([0-9]{1,9})\"?\Z")
_TAKEN_TYPES = ("json", "application/x-www-form-urlencoded")
"""A part of the types of a body that are read as JSON; the second is what curl sends with `-d`."""


class Preference(NamedTuple):
    """What a request says in its Prefer header: whether a task is enough, and how many seconds it would wait."""

    is_async: bool
    wait: float | None


class ByName:
    """Handles the requests by name, for `HttpProtocol`."""

    exchange: type[Exchange] = PlainExchange
    posted: Collection[bytes] = ()

    def __init__(
        self,
        resolver: EndpointResolver,
        schemas: SchemaCache,
        sync: SyncRoutes,
        queue: TaskService,
        urls: SignedURLs,
        files: FilesById,
        waits: Waits | None = None,
    ) -> None:
        self._files = files
        self._resolver = resolver
        self._schemas = schemas
        self._sync = sync
        self._queue = queue
        self._urls = urls
        self._tasks = RequestTasks()
        self._inflater = Inflater()
        self._nesting = Nesting(waits)

    def takes(self, method: bytes, path: bytes) -> bool:
        """Return whether a request is answered here; the description of an endpoint is not."""
        if method == b"GET":
            return _TASK.fullmatch(path) is not None
        return method == b"POST" and _PATH.fullmatch(path) is not None

    def origins(self, head: Head) -> frozenset[str]:
        """Return the origins of which pages may send this request, by the endpoint that it is for.

        A browser asks before it sends a key: where the owner is not in the path, those of all of the name may.
        """
        below = _BELOW.fullmatch(head.path)
        parts = _PATH.match(head.path if below is None else below[1])
        if parts is None or all(name != b"origin" for name, _ in head.headers):
            return frozenset()
        try:
            names = [None if each is None else unquote(each.decode()) for each in parts.groups()]
        except UnicodeDecodeError:
            return frozenset()
        return self._resolver.origins(head, names[0], str(names[1]))

    def handle(self, exchange: Exchange) -> None:
        """Begin with a request whose body is there."""
        assert isinstance(exchange, PlainExchange)
        path = exchange.scope["raw_path"]
        if (task := _TASK.fullmatch(path)) is not None:
            self._get(exchange, task[1].decode(), unquote(task[2].decode()))
            return
        parts = _PATH.fullmatch(path)
        assert parts is not None
        owner = None if parts[1] is None else unquote(parts[1].decode())
        lane, principal = self._resolver.resolve_name(exchange.scope, owner, unquote(parts[2].decode()))
        self._predict(exchange, lane, principal)

    def _predict(self, exchange: PlainExchange, lane: Lane, principal: Principal) -> None:
        prefer = _preference(exchange.scope)
        kind = lane.endpoint.endpoint_type
        if kind is EndpointType.STREAMING:
            exchange.format = FORMATS[choose(_accept(exchange.scope), list(FORMATS))]
        if kind is EndpointType.ASYNC or prefer.is_async or prefer.wait is not None:
            if kind is EndpointType.STREAMING:
                raise BadRequest("a stream is answered as its items come: leave the header Prefer out")
            exchange.outlives_client = True
            self._tasks.spawn(self._store(exchange, lane, principal, prefer), exchange)
            return
        if kind is EndpointType.STREAMING:
            _refuse_resumption(exchange.scope)
        exchange.on_gone = self._tasks.spawn(self._run(exchange, lane, principal.owner), exchange).cancel

    async def _run(self, exchange: PlainExchange, lane: Lane, owner: str) -> None:
        schemas = await self._schemas.get(lane.endpoint.serving_bundle_id)
        flags = Flags.NONE
        if lane.endpoint.endpoint_type is not EndpointType.STREAMING:
            flags = _answered_as(_accept(exchange.scope), schemas)
        form = await self._form(exchange, owner, schemas)
        if (parent := parent_of(exchange.scope)) is None:
            await self._sync.predict_args(exchange, lane, owner, form, flags)
            return
        if lane.endpoint.endpoint_type is EndpointType.SYNC:
            self._give_key(exchange, parent)
        timeout = self._nesting.seconds_left(parent)
        call = await self._sync.predict_args(exchange, lane, owner, form, flags, timeout)
        if call is not None:
            self._nesting.begin(parent, call, lane)

    def _give_key(self, exchange: PlainExchange, parent: Work) -> None:
        """Have a call that is made again, because what makes it runs again, be answered as the first time."""
        if idempotency_key(exchange.scope) is None:
            key = self._nesting.key_of(parent, exchange.scope["raw_path"], bytes(exchange.body))
            if key is not None:
                exchange.scope["headers"] = [*exchange.scope["headers"], (b"idempotency-key", key)]

    async def _form(self, exchange: PlainExchange, owner: str, schemas: BundleSchemas) -> Form | None:
        """Return what is in a body that is a form or a file; None where it is JSON."""
        given = (header(exchange.scope, b"content-type") or b"").decode("latin-1")
        fields = schemas.fields
        is_json = not given or any(each in given.lower() for each in _TAKEN_TYPES)
        is_form = given.lower().startswith(FORM)
        if not is_json and (fields is None or (not is_form and fields.only_file is None)):
            raise UnsupportedMedia(f"the Content-Type is {given[:80]!r}: send {taken_types(fields)}")
        await self._inflater.inflate(exchange, owner)
        if is_json or fields is None:
            exchange.body = exchange.body or b"{}"
            return None
        if is_form:
            return await read_form(exchange.body, given, fields)
        return one_file(exchange.body, given, fields.only_file or "", fields)

    async def _store(
        self, exchange: PlainExchange, lane: Lane, principal: Principal, prefer: Preference
    ) -> None:
        schemas = await self._schemas.get(lane.endpoint.serving_bundle_id)
        if schemas.openai:
            self._resolver.refuse_uncounted(exchange.scope)
        choose(_accept(exchange.scope), [JSON])
        form = await self._form(exchange, principal.owner, schemas)
        if form is not None:
            checks, body = self._schemas.checks, form.behind(exchange.body)
            exchange.body = await checks.files_in_json(principal.owner, body, args_alone=True)
            del body  # it is large, and what follows has it as JSON
        parent = parent_of(exchange.scope)
        if parent is not None:
            self._give_key(exchange, parent)
        key = idempotency_key(exchange.scope)
        known = None if key is None else await keyed(key, lane.endpoint.id, exchange.body)
        checked = await self._schemas.checks.args(principal.owner, exchange.body, schemas)
        checked = checked._replace(body=as_request(checked.body))
        try:
            [checked] = await self._files.in_json(principal.owner, [checked], exchange.limit, exchange.hold)
        except Unprocessable as unknown:
            raise of_args(unknown) from None
        if schemas.takes_context:
            checked = checked._replace(body=with_headers(checked.body, headers_of(exchange.scope)))
        if parent is not None:
            seconds = self._nesting.seconds_left(parent)
            checked = checked._replace(timeout=seconds, priority=parent.priority)
        self._queue.submitter.refuse_hopeless(lane, principal.owner)
        exchange.body = b""
        task = [checked]
        del checked  # nothing has the input any longer once it is stored
        ids = await self._queue.submitter.submit(lane, principal.owner, task, known)
        task.clear()
        if parent is not None:
            self._nesting.submitted(parent, ids[0], lane)
        await self._answer(exchange, principal, exchange.scope["raw_path"].decode(), ids[0], prefer.wait)

    def _get(self, exchange: PlainExchange, path: str, task_id: str) -> None:
        caller = self._resolver.authenticate(exchange.scope)
        choose(_accept(exchange.scope), [JSON])
        wait = _preference(exchange.scope).wait
        answer = self._answer(exchange, caller, path, task_id, POLL_SECONDS if wait is None else wait)
        exchange.on_gone = self._tasks.spawn(answer, exchange).cancel

    async def _answer(
        self, exchange: PlainExchange, caller: Principal, path: str, task_id: str, wait: float | None
    ) -> None:
        """Answer with the value of a task, or with where it will be; the latter in any case without a `wait`."""
        answerer = self._queue.answerer
        get = answerer.get_for_admin if caller.role is Role.ADMIN else answerer.get
        found = get(caller.owner, task_id, min(wait or 0, MAX_WAIT_SECONDS))
        record = await (self._seen_waiting(exchange, task_id, found) if wait else found)
        if record.state.done and wait is not None:
            await respond_in_pieces(exchange, self._pieces_of(exchange, record))
            return
        base = self._urls.base_url(exchange.whole_scope)
        location = f"{base}{path}/tasks/{quote(record.id)}"
        document = {"task_id": record.id, "status": record.state.value, "location": location}
        exchange.respond_document(202, {"location": location}, document)

    async def _seen_waiting(
        self, exchange: PlainExchange, task_id: str, found: Coroutine[Any, Any, Answerable]
    ) -> Answerable:
        """Wait for a task; raise Conflict where a worker waits, and the task would wait for what that runs."""
        parent = parent_of(exchange.scope)
        lane = None if parent is None else self._nesting.lane_of(parent, task_id)
        if parent is None or lane is None:
            return await found
        waiting = asyncio.create_task(found)
        runner = self._queue.runner
        wait = TaskWait(
            task_id, waiting, lambda: runner.running_work(task_id), lambda: task_id in runner.held()
        )
        self._nesting.begin(parent, wait, lane)
        try:
            return await waiting
        except asyncio.CancelledError:
            if wait.error is not None:
                raise wait.error from None
            waiting.cancel()
            raise

    async def _pieces_of(self, exchange: Exchange, record: Answerable) -> AsyncIterator[bytes]:
        def make_url(key: str) -> str:
            return self._urls.make(self._urls.base_url(exchange.whole_scope), "GET", key)

        is_first = True
        async for piece in self._queue.answerer.pieces_of(record, make_url):
            yield b"{" if is_first else piece  # in place of the task's id, which the value has not beside it
            is_first = False


def _accept(scope: Scope) -> str:
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name == b"accept")


def _answered_as(accept: str, schemas: BundleSchemas) -> Flags:
    """Return how a value may be answered beside JSON. Raise NotAcceptable where it can't be as is asked."""
    text = accept.lower()
    parts = [FORM, MIXED] if FORM in text or MIXED in text else []
    if schemas.returns is None or not text:
        choose(accept, [JSON, *parts])
    flags = Flags.NONE if prefers_json(text) else Flags.BINARY
    flags |= Flags.NPY if NPY in text else Flags.NONE
    flags |= Flags.ARROW if ARROW in text else Flags.NONE
    return flags | (Flags.MULTIPART if parts else Flags.NONE)


def _refuse_resumption(scope: Scope) -> None:
    for name in (RESUME, LAST_EVENT_ID):
        if header(scope, name.encode()) is not None:
            raise BadRequest(
                f"a stream by name can't be resumed, and {name} is given: leave it out, or send the request to "
                f"POST {routes.STREAMING_TASKS}"
            )


def _preference(scope: Scope) -> Preference:
    is_async, wait = False, None
    for name, value in scope["headers"]:
        if name == b"prefer":
            for part in value.decode("latin-1").lower().split(","):
                text = part.partition(";")[0].strip()
                is_async = is_async or text == "respond-async"
                if wait is None and (seconds := _WAIT.match(text)) is not None:
                    wait = float(seconds[1])
    return Preference(is_async, wait)

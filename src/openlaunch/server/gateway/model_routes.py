"""OpenAI's routes: the endpoint is the `model` that the body names, and the rest is between caller and engine.

`GET /v1/models` lists the endpoints that speak OpenAI and that the caller may use; it never starts a worker.
"""

import json
import re
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote

from openlaunch.errors import APIError, TooManyRequests
from openlaunch.server import clock
from openlaunch.server.access.auth import PRINCIPAL, Principal
from openlaunch.server.access.tokens import TokenBudgets
from openlaunch.server.asgi import header
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.payers import Payer
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.inflating import Inflater
from openlaunch.server.gateway.keyed_model_calls import KeyedModelCall, answer_again
from openlaunch.server.gateway.model_calls import ModelCall
from openlaunch.server.gateway.model_exchange import ModelExchange
from openlaunch.server.gateway.model_names import Found, ModelNames, Served
from openlaunch.server.gateway.request_tasks import RequestTasks, counted
from openlaunch.server.gateway.resolver import EndpointResolver
from openlaunch.server.gateway.response import JSON
from openlaunch.server.gateway.resumable import Replay
from openlaunch.server.gateway.resumable_model_calls import ResumableModelCall, raw_events
from openlaunch.server.gateway.sync_calls import submit
from openlaunch.server.gateway.sync_routes import SyncRoutes, keyed_stream
from openlaunch.server.prediction.idempotency import Claim, idempotency_key, keyed
from openlaunch.server.prediction.inputs import (
    ModelInput,
    as_request,
    check_model,
    model_of_form,
    with_usage,
    with_value,
)
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.prediction.schemas import QUICK_BYTES
from openlaunch.store.answers import AnswerRecord
from openlaunch.wire import routes
from openlaunch.wire.sse import LAST_EVENT_ID, RESUME
from openlaunch_worker.frames import Body

_POSTED = {path.encode(): path for path in routes.MODEL_ROUTES | routes.MODEL_FORMS} | {
    given.encode(): path for given, path in routes.MODEL_ROUTES_V2.items()
}
_RESUME, _LAST_EVENT_ID = RESUME.encode(), LAST_EVENT_ID.encode()
_ASKS_MORE = frozenset((_RESUME, _LAST_EVENT_ID, b"idempotency-key", b"content-encoding"))
"""Headers of requests that have more to them than what most have."""

_MODELS = re.compile(routes.MODELS.encode() + rb"(?:/(.+))?")


class ModelRoutes:
    """Handles OpenAI's routes, for `HttpProtocol`."""

    exchange: type[Exchange] = ModelExchange
    posted: Collection[bytes] = _POSTED
    resumes = True
    """Whether streams can be resumed."""

    def __init__(
        self,
        resolver: EndpointResolver,
        names: ModelNames,
        schemas: SchemaCache,
        sync: SyncRoutes,
        budgets: TokenBudgets,
    ) -> None:
        self._resolver = resolver
        self._budgets = budgets
        self._names = names
        self._schemas = schemas
        self._sync = sync
        self._tasks = RequestTasks()
        self._inflater = Inflater()

    def takes(self, method: bytes, path: bytes) -> bool:
        """Return whether a request is one of OpenAI's."""
        return path in _POSTED if method == b"POST" else method == b"GET" and bool(_MODELS.fullmatch(path))

    def handle(self, exchange: Exchange) -> None:
        """Begin with a request whose body is there."""
        assert isinstance(exchange, ModelExchange)
        path = exchange.scope["raw_path"]
        if (route := _POSTED.get(path)) is not None:
            asks_more = not _ASKS_MORE.isdisjoint([name for name, _ in exchange.scope["headers"]])
            if asks_more and (last_event_id := header(exchange.scope, _LAST_EVENT_ID)):
                answer = self._resume(
                    exchange, self._resolver.authenticate(exchange.scope), route, last_event_id
                )
            else:
                caller = self._spend(exchange)
                if not asks_more and self._run_now(exchange, caller, route):
                    return
                answer = self._run(exchange, caller, route)
        else:
            found = _MODELS.fullmatch(path)
            model = None if found is None or found[1] is None else unquote(found[1].decode())
            answer = self._list(exchange, self._resolver.authenticate(exchange.scope), model)
        exchange.on_gone = self._tasks.spawn(answer, exchange).cancel

    def _spend(self, exchange: ModelExchange) -> Principal:
        """Return the caller, whose key pays for the request, if the key and its owner have anything left."""
        try:
            caller = self._resolver.spending(exchange.scope)
        except TooManyRequests:
            exchange.limits = exchange.scope[PRINCIPAL].limit_headers
            raise
        account = caller.account
        if caller.meter is not None or self._budgets.is_limited(account):
            now = clock.now()
            exchange.limits = self._budgets.headers(account, now) | caller.limit_headers
            self._budgets.check(account, now)
        return caller

    async def _list(self, exchange: ModelExchange, caller: Principal, model: str | None) -> None:
        if model is None:
            cards = [served.card for served in await self._names.served(caller.owner)]
            first, last = (cards[0]["id"], cards[-1]["id"]) if cards else (None, None)
            document: dict[str, Any] = {"object": "list", "data": cards}
            document |= {"first_id": first, "last_id": last, "has_more": False}
        else:
            document = Served(model, (await self._names.find(caller.owner, model)).lane).card
        exchange.respond_as_is(200, JSON, json.dumps(document).encode())

    def _run_now(self, exchange: ModelExchange, caller: Principal, route: str) -> bool:
        """Do what `_run` does where there is nothing to wait for, as with most requests; else return False."""
        if len(exchange.body) > QUICK_BYTES or route in routes.MODEL_FORMS:
            return False
        asked = check_model(exchange.body)
        found = self._names.known(caller.owner, asked.model)
        if found is None:
            return False
        try:
            found.check_route(route, needs_stored=asked.needs_stored)
            if asked.model != found.known_as:
                asked = asked._replace(body=with_value(asked.body, "model", found.known_as))
            adds_usage = _adds_usage(asked, route)
            body = with_usage(asked) if adds_usage else asked.body
            self._start(exchange, caller, route, asked, found.lane, body, adds_usage=adds_usage)
        except APIError as error:
            found.lane.numbers.refused.refused(error)
            raise
        return True

    async def _run(self, exchange: ModelExchange, caller: Principal, route: str) -> None:
        await self._inflater.inflate(exchange, caller.owner)
        asked = await self._read(exchange, caller.owner, route)
        found = await self._names.find(caller.owner, asked.model)
        await counted(found.lane, self._prepare(exchange, caller, route, asked, found))

    async def _resume(
        self, exchange: ModelExchange, caller: Principal, route: str, last_event_id: bytes
    ) -> None:
        """Resume a stream of the model that the body names, as the request that began it did."""
        await self._inflater.inflate(exchange, caller.owner)
        asked = await self._read(exchange, caller.owner, route)
        found = await self._names.find(caller.owner, asked.model)
        self._sync.resume(exchange, found.lane.endpoint.id, last_event_id)

    async def _read(self, exchange: ModelExchange, owner: str, route: str) -> ModelInput:
        """Read which model the body is for."""
        if route in routes.MODEL_FORMS:
            return await model_of_form(exchange.body, _content_type(exchange))
        return await self._schemas.checks.model(owner, exchange.body)

    async def _prepare(
        self, exchange: ModelExchange, caller: Principal, route: str, asked: ModelInput, found: Found
    ) -> None:
        found.check_route(route, needs_stored=asked.needs_stored)
        owner, known_as = caller.owner, found.known_as
        if asked.model != known_as:
            asked = asked._replace(body=await self._renamed(owner, asked, known_as))
        adds_usage = _adds_usage(asked, route)
        body = await self._names.with_usage(owner, asked) if adds_usage else asked.body
        if (key := idempotency_key(exchange.scope)) is not None:
            await self._start_keyed(exchange, caller, route, asked, found.lane, key)
            return
        resumes = None
        if asked.is_stream and self.resumes and (asks := header(exchange.scope, _RESUME)) is not None:
            resumes = self._sync.streams.new_id(asks)
        self._start(exchange, caller, route, asked, found.lane, body, adds_usage=adds_usage, resumes=resumes)

    async def _start_keyed(
        self, exchange: ModelExchange, caller: Principal, route: str, asked: ModelInput, lane: Lane, key: str
    ) -> None:
        """Run a request with an Idempotency-Key, unless it has an answer already, which is given again."""
        if asked.is_stream:
            raise keyed_stream()
        answers, deadline = self._sync.answers, self._sync.deadline(lane, None)
        request = await keyed(key, f"{lane.endpoint.id}{route}", exchange.body)
        claim = await answers.begin(caller.owner, request, deadline)
        if isinstance(claim, AnswerRecord):
            await answer_again(exchange, answers, claim)
            return
        claim.warn_of_second_run()
        self._start(exchange, caller, route, asked, lane, asked.body, adds_usage=False, claim=claim)

    def _start(
        self,
        exchange: ModelExchange,
        caller: Principal,
        route: str,
        asked: ModelInput,
        lane: Lane,
        body: Body,
        *,
        adds_usage: bool,
        resumes: str | None = None,
        claim: Claim | None = None,
    ) -> None:
        """Give a request to a worker; `resumes` is the id of a stream that can be resumed."""
        streams, deadline = self._sync.streams, self._sync.deadline(lane, None)
        payer, sent = Payer(self._budgets, lane, caller.account), _sent(exchange, route, asked, body)
        common = streams, exchange, payer, sent, deadline, adds_usage
        if claim is not None:
            call: ModelCall = KeyedModelCall(*common).holding(claim, self._tasks)
        elif resumes is not None:
            replay = Replay(resumes, caller.owner, lane.endpoint.id, split=raw_events)
            call = ResumableModelCall(*common).kept_in(replay)
        else:
            call = ModelCall(*common)
        submit(call, exchange, lane, call.owner, streams.deadlines)
        if asked.is_stream:
            streams.heartbeats.add(call)

    async def _renamed(self, owner: str, asked: ModelInput, model: str) -> Body:
        """Return a body with another model in it, and all else as it is."""
        if asked.place is None:
            return await self._names.renamed(owner, asked.body, model)
        start, end = asked.place
        return b"".join((asked.body[:start], model.encode(), asked.body[end:]))


def _adds_usage(asked: ModelInput, route: str) -> bool:
    """Return whether the server has to ask for the usage of a stream, because the caller does not."""
    return asked.is_stream and route in routes.WITH_STREAM_OPTIONS and not asked.asks_usage


def _sent(exchange: ModelExchange, route: str, asked: ModelInput, body: Body) -> Body:
    """Return what a worker is sent, in the place of the body that came."""
    exchange.body = b""
    return as_request(body, route, None if asked.place is None else _content_type(exchange))


def _content_type(exchange: ModelExchange) -> str:
    return (header(exchange.scope, b"content-type") or b"").decode("latin-1")

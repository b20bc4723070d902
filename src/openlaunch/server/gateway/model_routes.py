"""OpenAI's routes: the endpoint is the `model` that the body names, and the rest is between caller and engine.

`GET /v1/models` lists the endpoints that speak OpenAI and that the caller may use; it never starts a worker.
"""

import json
import re
from collections.abc import Coroutine
from typing import Any
from urllib.parse import unquote

from openlaunch.server import clock
from openlaunch.server.access.auth import Principal
from openlaunch.server.access.tokens import TokenBudgets
from openlaunch.server.asgi import header
from openlaunch.server.dispatch.payers import Payer
from openlaunch.server.gateway.calls import submit
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.inflating import Inflater
from openlaunch.server.gateway.model_calls import ModelCall
from openlaunch.server.gateway.model_exchange import ModelExchange
from openlaunch.server.gateway.model_names import ModelNames, Served
from openlaunch.server.gateway.request_tasks import RequestTasks, counted
from openlaunch.server.gateway.resolver import EndpointResolver
from openlaunch.server.gateway.response import JSON
from openlaunch.server.gateway.sync_routes import SyncRoutes
from openlaunch.server.prediction.inputs import ModelInput, as_request, model_of_form
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.wire import routes
from openlaunch_worker.frames import Body

_POSTED = {path.encode(): path for path in routes.MODEL_ROUTES | routes.MODEL_FORMS} | {
    given.encode(): path for given, path in routes.MODEL_ROUTES_V2.items()
}
_MODELS = re.compile(routes.MODELS.encode() + rb"(?:/(.+))?")


class ModelRoutes:
    """Handles OpenAI's routes, for `HttpProtocol`."""

    exchange: type[Exchange] = ModelExchange

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
        if (found := _MODELS.fullmatch(path)) is not None:
            model = None if found[1] is None else unquote(found[1].decode())
            answer = self._list(exchange, self._resolver.authenticate(exchange.scope), model)
        else:
            answer = self._spend(exchange, _POSTED[path])
        exchange.on_gone = self._tasks.spawn(answer, exchange).cancel

    def _spend(self, exchange: ModelExchange, route: str) -> Coroutine[Any, Any, None]:
        """Return what answers a request to a route, if its caller has anything left."""
        caller = self._resolver.spending(exchange.scope)
        now = clock.now()
        exchange.limits = self._budgets.headers(caller.account, now)
        if caller.meter is not None:
            exchange.limits |= caller.meter.headers(now)
        self._budgets.check(caller.account, now)
        return self._run(exchange, caller, route)

    async def _list(self, exchange: ModelExchange, caller: Principal, model: str | None) -> None:
        if model is None:
            cards = [served.card for served in await self._names.served(caller.owner)]
            document: dict[str, Any] = {"object": "list", "data": cards}
        else:
            lane, _ = await self._names.find(caller.owner, model)
            document = Served(model, lane).card
        exchange.respond_as_is(200, JSON, json.dumps(document).encode())

    async def _run(self, exchange: ModelExchange, caller: Principal, route: str) -> None:
        await self._inflater.inflate(exchange, caller.owner)
        asked = await self._read(exchange, caller.owner, route)
        lane, adapter = await self._names.find(caller.owner, asked.model)
        payer = Payer(self._budgets, lane, caller.account)
        await counted(lane, self._start(exchange, payer, route, asked, adapter))

    async def _read(self, exchange: ModelExchange, owner: str, route: str) -> ModelInput:
        """Read which model the body is for."""
        if route in routes.MODEL_FORMS:
            return await model_of_form(exchange.body, _content_type(exchange))
        return await self._schemas.checks.model(owner, exchange.body)

    async def _start(
        self,
        exchange: ModelExchange,
        payer: Payer,
        route: str,
        asked: ModelInput,
        adapter: str,
    ) -> None:
        lane = payer.lane
        await self._names.check_route(lane, route)
        # The engine knows the model by the endpoint's name.
        known_as = adapter or lane.endpoint.name
        if asked.model != known_as:
            asked = asked._replace(body=await self._renamed(payer.account.owner, asked, known_as))
        adds_usage = asked.is_stream and route in routes.WITH_STREAM_OPTIONS and not asked.asks_usage
        body = await self._names.with_usage(payer.account.owner, asked) if adds_usage else asked.body
        exchange.body = b""
        streams = self._sync.streams
        call = ModelCall(
            streams,
            exchange,
            payer,
            as_request(body, route, None if asked.place is None else _content_type(exchange)),
            self._sync.deadline(lane, None),
            adds_usage=adds_usage,
        )
        submit(call, exchange, lane, call.owner, streams.deadlines)
        if asked.is_stream:
            streams.heartbeats.add(call)

    async def _renamed(self, owner: str, asked: ModelInput, model: str) -> Body:
        """Return a body with another model in it, and all else as it is."""
        if asked.place is None:
            return await self._names.renamed(owner, asked.body, model)
        start, end = asked.place
        return b"".join((asked.body[:start], model.encode(), asked.body[end:]))


def _content_type(exchange: ModelExchange) -> str:
    return (header(exchange.scope, b"content-type") or b"").decode("latin-1")

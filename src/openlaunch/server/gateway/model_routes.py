"""OpenAI's routes: the endpoint is the `model` that the body names, and the rest is between caller and engine.

`GET /v1/models` lists the endpoints that speak OpenAI and that the caller may use; it never starts a worker.
"""

import json
import re
from typing import Any
from urllib.parse import unquote

from openlaunch.server.access.auth import Principal
from openlaunch.server.dispatch.lane import Lane
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
from openlaunch.server.prediction.inputs import ModelInput, as_request, with_model
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.wire import routes
from openlaunch_worker.frames import Body

_POSTED = frozenset(path.encode() for path in routes.MODEL_ROUTES)
_MODELS = re.compile(routes.MODELS.encode() + rb"(?:/(.+))?")


class ModelRoutes:
    """Handles OpenAI's routes, for `HttpProtocol`."""

    exchange: type[Exchange] = ModelExchange

    def __init__(
        self, resolver: EndpointResolver, names: ModelNames, schemas: SchemaCache, sync: SyncRoutes
    ) -> None:
        self._resolver = resolver
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
            answer = self._run(exchange, self._resolver.spending(exchange.scope), path.decode())
        exchange.on_gone = self._tasks.spawn(answer, exchange).cancel

    async def _list(self, exchange: ModelExchange, caller: Principal, model: str | None) -> None:
        if model is None:
            cards = [served.card for served in await self._names.served(caller.owner)]
            document: dict[str, Any] = {"object": "list", "data": cards}
        else:
            lane, _ = await self._names.find(caller.owner, model)
            document = Served(model, lane, frozenset()).card
        exchange.respond_as_is(200, JSON, json.dumps(document).encode())

    async def _run(self, exchange: ModelExchange, caller: Principal, route: str) -> None:
        await self._inflater.inflate(exchange, caller.owner)
        asked = await self._schemas.checks.model(caller.owner, exchange.body)
        lane, adapter = await self._names.find(caller.owner, asked.model)
        await counted(lane, self._start(exchange, lane, caller.owner, route, asked, adapter))

    async def _start(
        self,
        exchange: ModelExchange,
        lane: Lane,
        owner: str,
        route: str,
        asked: ModelInput,
        adapter: str,
    ) -> None:
        await self._names.check_route(lane, route)
        # The engine knows the model by the endpoint's name.
        known_as = adapter or lane.endpoint.name
        body: Body = asked.body if asked.model == known_as else with_model(asked.body, known_as)
        exchange.body = b""
        streams = self._sync.streams
        call = ModelCall(
            streams,
            exchange,
            owner,
            as_request(body, route),
            self._sync.deadline(lane, None),
        )
        submit(call, exchange, lane, owner, streams.deadlines)
        if asked.is_stream:
            streams.heartbeats.add(call)

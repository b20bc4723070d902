"""OpenAI's routes: the endpoint is the `model` that the body names, and the rest is between caller and engine.

`GET /v1/models` lists the endpoints that speak OpenAI and that the caller may use; it never starts a worker.
"""

import json
import re
from difflib import get_close_matches
from typing import Any, NamedTuple
from urllib.parse import unquote

from openlaunch.errors import BadRequest, NotFound
from openlaunch.server.access.auth import Principal
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.endpoints.specs import may_predict
from openlaunch.server.gateway.calls import submit
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.inflating import Inflater
from openlaunch.server.gateway.model_calls import ModelCall
from openlaunch.server.gateway.model_exchange import ModelExchange
from openlaunch.server.gateway.request_tasks import RequestTasks, counted
from openlaunch.server.gateway.resolver import EndpointResolver, find_by_name
from openlaunch.server.gateway.response import JSON
from openlaunch.server.gateway.sync_routes import SyncRoutes
from openlaunch.server.prediction.inputs import ModelInput, as_request, with_model
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.store.records import EndpointRecord
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch_worker.frames import Body

MAX_NAME = 200
"""Characters of an unknown name that are shown and compared."""

MAX_SHOWN = 10
"""Names of models that an error lists."""

_POSTED = frozenset(
    path.encode() for path in (routes.CHAT_COMPLETIONS, routes.COMPLETIONS, routes.EMBEDDINGS)
)
_MODELS = re.compile(routes.MODELS.encode() + rb"(?:/(.+))?")


class Served(NamedTuple):
    """An endpoint that speaks OpenAI, what the caller names it, and on which routes it does."""

    id: str
    lane: Lane
    routes: frozenset[str]

    @property
    def card(self) -> dict[str, Any]:
        """The model as OpenAI's clients read it."""
        endpoint = self.lane.endpoint
        return {
            "id": self.id,
            "object": "model",
            "created": int(endpoint.created_at),
            "owned_by": endpoint.owner,
        }


class ModelRoutes:
    """Handles OpenAI's routes, for `HttpProtocol`."""

    exchange: type[Exchange] = ModelExchange

    def __init__(
        self, resolver: EndpointResolver, lanes: Lanes, schemas: SchemaCache, sync: SyncRoutes
    ) -> None:
        self._resolver = resolver
        self._lanes = lanes
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
            cards = [served.card for served in await self._served(caller)]
            document: dict[str, Any] = {"object": "list", "data": cards}
        else:
            lane, _ = await self._find(caller, model)
            document = Served(model, lane, frozenset()).card
        exchange.respond_as_is(200, JSON, json.dumps(document).encode())

    async def _run(self, exchange: ModelExchange, caller: Principal, route: str) -> None:
        await self._inflater.inflate(exchange, caller.owner)
        asked = await self._schemas.checks.model(caller.owner, exchange.body)
        lane, adapter = await self._find(caller, asked.model)
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
        await self._check_route(lane, route)
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

    async def _check_route(self, lane: Lane, route: str) -> None:
        endpoint = lane.endpoint
        if endpoint.endpoint_type is EndpointType.ASYNC:
            raise BadRequest(
                f"the endpoint {endpoint.name!r} is async: only streaming and sync endpoints answer at once",
                code="wrong_endpoint_type",
            )
        known = (await self._schemas.get(endpoint.serving_bundle_id)).openai
        if route not in known:
            raise BadRequest(
                f"the model {endpoint.name!r} does not serve {route}, it serves {', '.join(sorted(known))}",
                code="unsupported_route",
            )

    async def _find(self, caller: Principal, model: str) -> tuple[Lane, str]:
        """Find the endpoint that a model is, and the adapter that is named behind a colon.

        Raises:
            NotFound: there is none that speaks OpenAI; the message has the names that are near.
            Conflict: several owners have public ones of this name.
        """
        name, _, adapter = model.partition(":")
        *owners, own_name = name.split("/", 1)
        try:
            lane = find_by_name(self._lanes, caller.owner, owners[0] if owners else None, own_name)
        except NotFound:
            raise await self._unknown(caller, model) from None
        if not (await self._schemas.get(lane.endpoint.serving_bundle_id)).openai:
            raise await self._unknown(caller, model, "is an endpoint that does not speak OpenAI")
        return lane, adapter

    async def _unknown(self, caller: Principal, model: str, why: str = "") -> NotFound:
        names = [served.id for served in await self._served(caller)]
        own_name = model[:MAX_NAME].partition(":")[0].rpartition("/")[2]
        if near := get_close_matches(own_name, names, MAX_SHOWN):
            hint = f"near names: {', '.join(near)}"
        elif names:
            hint = f"models of yours: {', '.join(names[:MAX_SHOWN])}"
        else:
            hint = "there is none yet: deploy one with deploy_llm"
        text = f"the model {model[:MAX_NAME]!r} {why or 'does not exist'}"
        return NotFound(f"{text}; {hint}", code="model_not_found")

    async def _served(self, caller: Principal) -> list[Served]:
        """Return the models that the caller may use, by name."""
        found = []
        for lane in self._lanes:
            endpoint = lane.endpoint
            if may_predict(endpoint, caller.owner):
                known = (await self._schemas.get(endpoint.serving_bundle_id)).openai
                if known:
                    found.append(Served(self._id_of(endpoint, caller.owner), lane, known))
        return sorted(found, key=lambda served: served.id)

    def _id_of(self, endpoint: EndpointRecord, caller: str) -> str:
        """Return what the caller names an endpoint: its name, with its owner where that alone is another's."""
        others = [
            owner
            for owner, lane in self._lanes.of_name(endpoint.name).items()
            if owner == caller or lane.endpoint.spec.public_inference
        ]
        is_clear = endpoint.owner == caller or others == [endpoint.owner]
        return endpoint.name if is_clear else f"{endpoint.owner}/{endpoint.name}"

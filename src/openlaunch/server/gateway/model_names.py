"""The endpoints that speak OpenAI, by the names that callers give them as models."""

from difflib import get_close_matches
from typing import Any, NamedTuple

from openlaunch.errors import BadRequest, NotFound
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.endpoints.specs import may_predict
from openlaunch.server.gateway.resolver import find_by_name
from openlaunch.server.prediction.inputs import ModelInput
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointType
from openlaunch_worker.frames import Body

MAX_NAME = 200
"""Characters of an unknown name that are shown and compared."""

MAX_COMPARED = 50
"""Names that an unknown one is compared with, each of which can take 0.7 ms."""

MAX_SHOWN = 10
"""Names of models that an error lists."""


class Served(NamedTuple):
    """An endpoint that speaks OpenAI, and what the caller names it."""

    id: str
    lane: Lane

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


class ModelNames:
    """Finds the endpoint that is meant by a model, among those that a caller may use."""

    def __init__(self, lanes: Lanes, schemas: SchemaCache) -> None:
        self._lanes = lanes
        self._schemas = schemas

    async def find(self, caller: str, model: str) -> tuple[Lane, str]:
        """Find the endpoint that a model is, and the adapter that is named behind a colon.

        Raises:
            NotFound: there is none that speaks OpenAI; the message has the names that are near.
            Conflict: several owners have public ones of this name.
        """
        name, _, adapter = model.partition(":")
        *owners, own_name = name.split("/", 1)
        owner = owners[0] if owners else None
        lane: Lane | None
        try:
            lane = find_by_name(self._lanes, caller, owner, own_name)
        except NotFound:
            lane = await self._find_alias(caller, owner, own_name)
        if lane is None:
            raise await self._unknown(caller, model)
        if not (await self._schemas.get(lane.endpoint.serving_bundle_id)).openai:
            raise await self._unknown(caller, model, "is an endpoint that does not speak OpenAI")
        return lane, adapter

    async def _find_alias(self, caller: str, owner: str | None, name: str) -> Lane | None:
        """Find an endpoint whose bundle says this name of its model: one's own first, and of several the oldest."""
        found = [
            lane
            for lane in self._lanes
            if may_predict(lane.endpoint, caller)
            and owner in (None, lane.endpoint.owner)
            and name in (await self._schemas.get(lane.endpoint.serving_bundle_id)).model_names
        ]
        found.sort(key=lambda lane: (lane.endpoint.owner != caller, lane.endpoint.created_at))
        return found[0] if found else None

    async def _unknown(self, caller: str, model: str, why: str = "") -> NotFound:
        names = [served.id for served in await self.served(caller)]
        own_name = model[:MAX_NAME].partition(":")[0].rpartition("/")[2]
        if near := get_close_matches(own_name, names[:MAX_COMPARED], MAX_SHOWN):
            hint = f"near names: {', '.join(near)}"
        elif names:
            hint = f"models of yours: {', '.join(names[:MAX_SHOWN])}"
        else:
            hint = "there is none yet: deploy one with deploy_llm"
        text = f"the model {model[:MAX_NAME]!r} {why or 'does not exist'}"
        return NotFound(f"{text}; {hint}", code="model_not_found")

    async def served(self, caller: str) -> list[Served]:
        """Return the models that the caller may use, by name."""
        found = []
        for lane in self._lanes:
            endpoint = lane.endpoint
            if may_predict(endpoint, caller):
                schemas = await self._schemas.get(endpoint.serving_bundle_id)
                names = (self._id_of(endpoint, caller), *schemas.model_names) if schemas.openai else ()
                found += [Served(name, lane) for name in names]
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

    async def renamed(self, owner: str, body: Body, model: str) -> bytes:
        """Return a body that was checked with another model in it. Raise BadRequest where it is nested too deep."""
        return await self._schemas.checks.with_value(owner, body, "model", model)

    async def with_usage(self, owner: str, asked: ModelInput) -> Body:
        """Return the body of a stream that asks for its usage. Raise BadRequest where it is nested too deep."""
        return await self._schemas.checks.with_usage(owner, asked)

    async def check_route(self, lane: Lane, route: str) -> None:
        """Raise BadRequest where the model does not serve the route, or does not answer at once."""
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

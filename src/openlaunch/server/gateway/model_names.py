"""The endpoints that speak OpenAI, by the names that callers give them as models."""

from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, NamedTuple

from openlaunch.errors import BadRequest, NotFound
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.endpoints.specs import may_predict
from openlaunch.server.gateway.resolver import the_only_one
from openlaunch.server.prediction.inputs import ModelInput
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.store.records import EndpointRecord
from openlaunch.tasks.model_lines import NOT_STORED
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch_worker.frames import Body

MAX_NAME = 200
"""Characters of an unknown name that are shown and compared."""

MAX_COMPARED = 20
"""Names that an unknown one is compared with, each of which can take 0.7 ms."""

MAX_FACES = 10_000
"""Bundles of which is remembered how they speak OpenAI."""

MAX_SHOWN = 10
"""Names of models that an error lists."""


class Served(NamedTuple):
    """An endpoint that speaks OpenAI, and what the caller names it."""

    id: str
    lane: Lane

    @property
    def card(self) -> dict[str, Any]:
        """The model as OpenAI's clients read it, and Anthropic's."""
        endpoint = self.lane.endpoint
        return {
            "id": self.id,
            "object": "model",
            "created": int(endpoint.created_at),
            "owned_by": endpoint.owner,
            "type": "model",
            "display_name": self.id,
            "created_at": datetime.fromtimestamp(int(endpoint.created_at), UTC).isoformat(),
        }


class Face(NamedTuple):
    """The routes on which a bundle speaks OpenAI, and what its model is named beside the endpoint's name."""

    routes: frozenset[str]
    models: frozenset[str]


class Found(NamedTuple):
    """The endpoint that a model is, the adapter that is named behind a colon, and how the bundle speaks OpenAI."""

    lane: Lane
    adapter: str
    face: Face

    @property
    def known_as(self) -> str:
        """What the engine knows the model by: the endpoint's name, or the adapter's."""
        return self.adapter or self.lane.endpoint.name

    def check_route(self, route: str, *, needs_stored: bool = False) -> None:
        """Raise BadRequest where the model does not serve the route, or not at once, or by what was stored."""
        endpoint, served = self.lane.endpoint, self.face.routes
        if endpoint.endpoint_type is EndpointType.ASYNC:
            raise BadRequest(
                f"the endpoint {endpoint.name!r} is async: only streaming and sync endpoints answer at once",
                code="wrong_endpoint_type",
            )
        if route not in served:
            raise BadRequest(
                f"the model {endpoint.name!r} does not serve {route}, it serves {', '.join(sorted(served))}",
                code="unsupported_route",
            )
        if needs_stored and route == routes.RESPONSES:
            raise BadRequest(NOT_STORED, code="not_stored")


class ModelNames:
    """Finds the endpoint that is meant by a model, among those that a caller may use."""

    def __init__(self, lanes: Lanes, schemas: SchemaCache) -> None:
        self.checks = schemas.checks
        self._lanes = lanes
        self._schemas = schemas
        self._faces: dict[str, Face] = {}
        """By the ids of bundles, which never change."""

    def known(self, caller: str, model: str) -> Found | None:
        """Find a model by the name and the owner of its endpoint, without waiting; None: `find` may know more."""
        owner, name, adapter = _parts(model)
        lane = self._of_owner(caller, owner or caller, name)
        face = None if lane is None else self._faces.get(lane.endpoint.serving_bundle_id)
        return None if lane is None or face is None or not face.routes else Found(lane, adapter, face)

    async def find(self, caller: str, model: str) -> Found:
        """Find the endpoint that a model is.

        Raises:
            NotFound: there is none that speaks OpenAI; the message has the names that are near.
            Conflict: several owners have public ones of this name.
        """
        owner, name, adapter = _parts(model)
        lane = await self._named(caller, owner, name)
        if lane is None:
            raise await self._unknown(caller, model)
        face = await self._face(lane)
        if not face.routes:
            raise await self._unknown(caller, model, "is an endpoint that does not speak OpenAI")
        return Found(lane, adapter, face)

    def _of_owner(self, caller: str, owner: str, name: str) -> Lane | None:
        lane = self._lanes.by_name.get(owner, name)
        return lane if lane is not None and may_predict(lane.endpoint, caller) else None

    async def _named(self, caller: str, owner: str | None, name: str) -> Lane | None:
        """Find the endpoint of this name, or else the oldest whose bundle says this name of its model.

        What is somebody else's comes behind all that is the caller's own, or a public endpoint could be given a name
        so as to get what is meant for the caller's model.
        """
        if (own := self._of_owner(caller, owner or caller, name)) is not None:
            return own
        found: dict[str, Lane] = {}
        for lane in sorted(self._lanes, key=lambda lane: lane.endpoint.created_at):
            if may_predict(lane.endpoint, caller) and name in (await self._face(lane)).models:
                found.setdefault(lane.endpoint.owner, lane)
        if owner is not None or caller in found:
            return found.get(owner or caller)
        found |= {
            each: lane
            for each, lane in self._lanes.by_name.all(name).items()
            if may_predict(lane.endpoint, caller)
        }
        return the_only_one(name, found) if found else None

    async def _face(self, lane: Lane) -> Face:
        """Return how an endpoint speaks OpenAI. It is remembered for all endpoints, and schemas are not."""
        bundle_id = lane.endpoint.serving_bundle_id
        if (known := self._faces.get(bundle_id)) is None:
            schemas = await self._schemas.get(bundle_id)
            if len(self._faces) >= MAX_FACES:
                self._faces.clear()
            known = self._faces[bundle_id] = Face(schemas.openai, schemas.model_names)
        return known

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
                face = await self._face(lane)
                names = (self._id_of(endpoint, caller), *face.models) if face.routes else ()
                found += [Served(name, lane) for name in names]
        return sorted(found, key=lambda served: served.id)

    def _id_of(self, endpoint: EndpointRecord, caller: str) -> str:
        """Return what the caller names an endpoint: its name, with its owner where that alone is another's."""
        others = [
            owner
            for owner, lane in self._lanes.by_name.all(endpoint.name).items()
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


def _parts(model: str) -> tuple[str | None, str, str]:
    """Return the owner, the name and the adapter in `owner/name:adapter`."""
    path, _, adapter = model.partition(":")
    owner, slash, name = path.partition("/")
    return (owner, name, adapter) if slash else (None, path, adapter)

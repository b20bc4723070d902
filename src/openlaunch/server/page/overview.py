"""One endpoint as the page shows it, in one answer that open pages share: so those that are left open cost little."""

import asyncio
from dataclasses import dataclass
from time import monotonic
from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel

from openlaunch.server.access.auth import Principal
from openlaunch.server.control.context import Context
from openlaunch.server.control.endpoint_view import (
    BundleNames,
    bundle_ids,
    bundle_names,
    described_with,
    workers_of,
)
from openlaunch.server.control.metrics_view import FRESH_SECONDS, by_field, shown_troubles, troubles_of
from openlaunch.server.control.routes.callers import User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import no_endpoint
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import ModelEndpointResponse
from openlaunch.wire.events import Trouble
from openlaunch.wire.metrics import MetricsRange, Points
from openlaunch.wire.why import EndpointWhy
from openlaunch.wire.workers import WorkerResponse

MAX_KNOWN = 1000
"""Bundles whose names are kept."""


class Overview(BaseModel):
    """GET /page/endpoints/{id}: an endpoint, why it serves or does not, its workers, and its points after a time.

    `troubles` are those of the list.
    """

    endpoint: ModelEndpointResponse
    why: EndpointWhy | None
    workers: list[WorkerResponse]
    troubles: list[Trouble]
    points: Points


@dataclass(frozen=True, slots=True)
class _Made:
    """An answer, and what it was made of."""

    endpoint: EndpointRecord
    at: float
    answer: asyncio.Task[bytes]

    def holds(self, endpoint: EndpointRecord, now: float) -> bool:
        """Tell whether it may be shown again: a change that somebody has made is seen at once."""
        return self.endpoint is endpoint and now - self.at < FRESH_SECONDS


class Overviews:
    """Makes what the page shows of one endpoint; pages that ask for the same within a second get the same.

    It asks the store for nothing that is in memory, because that costs more than all else.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._names: BundleNames = {}
        self._made: dict[tuple[str, MetricsRange, float], _Made] = {}

    async def of(
        self, endpoint: EndpointRecord, user: Principal, wanted: MetricsRange, after: float
    ) -> bytes:
        """Return the answer for the endpoint's owner, with the points after a time, as JSON."""
        now, key = monotonic(), (endpoint.id, wanted, after)
        made = self._made.get(key)
        if made is None or not made.holds(endpoint, now):
            self._made = {each: one for each, one in self._made.items() if now - one.at < FRESH_SECONDS}
            task = asyncio.create_task(self._make(endpoint, user, wanted, after))
            made = self._made[key] = _Made(endpoint, now, task)
        return await asyncio.shield(made.answer)

    async def _make(
        self, endpoint: EndpointRecord, user: Principal, wanted: MetricsRange, after: float
    ) -> bytes:
        context, names = self._context, self._names
        if not names.keys() >= bundle_ids(endpoint):  # names of bundles never change
            if len(names) > MAX_KNOWN:
                names.clear()
            names.update(await context.store.read(lambda conn: bundle_names(conn, endpoint), user.owner))
        points = await context.history.after(after, endpoint.id, wanted, user.owner)
        lane = context.lanes.get(endpoint.id)
        overview = Overview.model_construct(
            endpoint=described_with(context, endpoint, names, user),
            why=context.controller.view.explain(endpoint.id),
            workers=workers_of(context, endpoint),
            troubles=[] if lane is None else shown_troubles(troubles_of(lane)),
            points=by_field(wanted, points),
        )
        return overview.model_dump_json().encode()


def add_overview(api: ControlRouter, context: Context) -> None:
    """Add the route of the page for one endpoint."""
    overviews = Overviews(context)

    @api.get("/page/endpoints/{model_endpoint_id}", response_model=Overview)
    async def get_overview(
        model_endpoint_id: str,
        user: User,
        wanted: Annotated[MetricsRange, Query(alias="range")] = MetricsRange.HOUR,
        after: float = 0.0,
    ) -> Response:
        lane = context.lanes.get(model_endpoint_id)
        if lane is None or lane.endpoint.owner != user.owner:
            raise no_endpoint(model_endpoint_id)
        answer = await overviews.of(lane.endpoint, user, wanted, after)
        return Response(answer, media_type="application/json")

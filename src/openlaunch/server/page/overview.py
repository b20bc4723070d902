"""One endpoint as the page shows it, in one answer: so pages that are left open cost little."""

from typing import Annotated

from fastapi import Query, Response
from pydantic import BaseModel

from openlaunch.server.control.context import Context
from openlaunch.server.control.endpoint_view import (
    BundleNames,
    bundle_ids,
    bundle_names,
    described_with,
    workers_of,
)
from openlaunch.server.control.metrics_view import by_field
from openlaunch.server.control.routes.context import User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import no_endpoint
from openlaunch.wire.endpoints import ModelEndpointResponse
from openlaunch.wire.metrics import MetricsRange, Points
from openlaunch.wire.why import EndpointWhy
from openlaunch.wire.workers import WorkerResponse

MAX_KNOWN = 1000
"""Bundles whose names are kept."""


class Overview(BaseModel):
    """GET /page/endpoints/{id}: an endpoint, why it serves or does not, its workers, and its points after a time."""

    endpoint: ModelEndpointResponse
    why: EndpointWhy | None
    workers: list[WorkerResponse]
    points: Points


def add_overview(api: ControlRouter, context: Context) -> None:
    """Add the route of the page for one endpoint.

    It asks the store for nothing that is in memory, because that costs more than all else.
    """
    known: BundleNames = {}

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
        endpoint = lane.endpoint
        if not known.keys() >= bundle_ids(endpoint):  # names of bundles never change
            if len(known) > MAX_KNOWN:
                known.clear()
            known.update(await context.store.read(lambda conn: bundle_names(conn, endpoint), user.owner))
        points = await context.history.after(after, endpoint.id, wanted, user.owner)
        overview = Overview.model_construct(
            endpoint=described_with(context, endpoint, known, user),
            why=context.controller.view.explain(endpoint.id),
            workers=workers_of(context, endpoint),
            points=by_field(wanted, points),
        )
        return Response(overview.model_dump_json(), media_type="application/json")

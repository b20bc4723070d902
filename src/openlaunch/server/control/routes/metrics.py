"""Numbers of endpoints (`/v1/metrics`, `/v1/model-endpoints/{id}/metrics`), and all of the server (`/metrics`)."""

from typing import Annotated

from fastapi import Header, Query, Response

from openlaunch.server.control.context import Context
from openlaunch.server.control.metrics_view import Summaries, over_time
from openlaunch.server.control.routes.callers import Scraper, User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.control.scrapes import TYPES, Scrapes
from openlaunch.server.endpoints.lookups import find_endpoint
from openlaunch.wire import routes
from openlaunch.wire.metrics import EndpointMetricsResponse, MetricsRange, MetricsSummaryResponse


def router(context: Context) -> ControlRouter:
    """Show what was counted of endpoints."""
    api = ControlRouter(tags=["endpoints"])
    scrapes, summaries = Scrapes(context), Summaries(context)

    @api.get(
        routes.METRICS, responses={200: {"content": {name: {} for name in TYPES}}}, response_class=Response
    )
    async def scrape_metrics(scraper: Scraper, accept: Annotated[str, Header()] = "") -> Response:
        """Return what the server counts, as text for Prometheus or in the format of OpenMetrics."""
        content, media_type = await scrapes.answer(accept)
        return Response(content, media_type=media_type)

    @api.get(routes.METRICS_SUMMARY, response_model=MetricsSummaryResponse)
    async def list_metrics(user: User) -> Response:
        """List the last minute of the caller's endpoints, those with failures and with trouble first.

        It is as it was a second ago at most.
        """
        return Response(await summaries.of(user.owner), media_type="application/json")

    @api.get("/page/endpoints", include_in_schema=False)
    async def get_page_endpoints(user: User, after: Annotated[str, Query(max_length=40)] = "") -> Response:
        """Return what is new in the same list, for a page that is open and has the rest."""
        return Response(await summaries.changes(user.owner, after), media_type="application/json")

    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}/metrics")
    async def get_model_endpoint_metrics(
        model_endpoint_id: str,
        user: User,
        wanted: Annotated[MetricsRange, Query(alias="range")] = MetricsRange.HOUR,
    ) -> EndpointMetricsResponse:
        """Get how an endpoint's predictions ended and how long they took, over the last hour, day or two weeks.

        `since_start` has all that was counted since the server started.
        """
        endpoint = await find_endpoint(context.store, model_endpoint_id, user.owner)
        points = await context.history.recent(endpoint.id, wanted, user.owner)
        return over_time(wanted, points, context.lanes.numbers(endpoint.id))

    return api

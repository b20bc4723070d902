"""Is the server alive, and can it serve."""

from typing import Annotated

from fastapi import Query, Response

from openlaunch.server.control.context import Context
from openlaunch.server.control.routing import ControlRouter
from openlaunch.wire import routes
from openlaunch.wire.health import CheckStatus, ReadinessResponse


def router(context: Context) -> ControlRouter:
    """Tell how the server stands, without a key and without anything secret."""
    api = ControlRouter(tags=["health"])

    @api.get(routes.HEALTHZ)
    @api.get(routes.HEALTHCHECK)
    async def healthy() -> dict[str, str]:
        """Answer 200 while the server runs, whether or not it can serve."""
        return {"status": "ok"}

    @api.get(routes.READYZ, responses={503: {"model": ReadinessResponse}})
    async def ready(
        response: Response,
        failed_status: Annotated[
            int, Query(ge=400, le=599, description="What to answer in place of 503.")
        ] = 503,
    ) -> ReadinessResponse:
        """Report whether the server can serve, and what is wrong if not: 503 where a check has failed."""
        report = await context.health.report()
        response.status_code = failed_status if report.status is CheckStatus.FAILED else 200
        return report

    return api

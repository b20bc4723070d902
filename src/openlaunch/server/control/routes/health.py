"""Is the server alive, and can it serve."""

from fastapi import Response

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
    async def ready(response: Response) -> ReadinessResponse:
        """Report whether the server can serve, and what is wrong if not: 503 where a check has failed."""
        report = await context.health.report()
        response.status_code = 503 if report.status is CheckStatus.FAILED else 200
        return report

    return api

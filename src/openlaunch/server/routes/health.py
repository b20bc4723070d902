"""Is the server alive, and can it serve."""

from fastapi import APIRouter

from openlaunch.wire import routes


def router() -> APIRouter:
    """The health routes; they need no key."""
    api = APIRouter(tags=["health"])

    @api.get(routes.HEALTHZ)
    @api.get(routes.READYZ)
    @api.get(routes.HEALTHCHECK)
    async def healthy() -> dict[str, str]:
        """Answer while the server lives; it accepts no connection before it can serve."""
        return {"status": "ok"}

    return api

"""Canaries: a second bundle on an endpoint (`/v1/model-endpoints/{id}/canary`)."""

from fastapi import APIRouter

from openlaunch.server.control.endpoint_view import described
from openlaunch.server.control.routes.context import Context, User
from openlaunch.wire import routes
from openlaunch.wire.endpoints import ModelEndpointResponse, StartCanaryRequest, UpdateCanaryRequest

CANARY = routes.ENDPOINTS + "/{model_endpoint_id}/canary"


def router(context: Context) -> APIRouter:
    """Start, change, promote and roll back the canary of an endpoint."""
    api = APIRouter(tags=["endpoints"])

    @api.post(CANARY)
    async def start_canary(
        model_endpoint_id: str, body: StartCanaryRequest, user: User
    ) -> ModelEndpointResponse:
        """Give a second bundle a share of the endpoint's predictions, once it is loaded."""
        return await described(
            context, await context.endpoints.start_canary(user.owner, model_endpoint_id, body)
        )

    @api.put(CANARY)
    async def update_canary(
        model_endpoint_id: str, body: UpdateCanaryRequest, user: User
    ) -> ModelEndpointResponse:
        """Change the canary's share."""
        return await described(
            context, await context.endpoints.set_canary_percent(user.owner, model_endpoint_id, body.percent)
        )

    @api.post(CANARY + "/promote")
    async def promote_canary(model_endpoint_id: str, user: User) -> ModelEndpointResponse:
        """Make the canary's bundle the endpoint's; its workers stay, the others leave as new ones are ready."""
        return await described(context, await context.endpoints.promote_canary(user.owner, model_endpoint_id))

    @api.post(CANARY + "/rollback")
    async def roll_back_canary(model_endpoint_id: str, user: User) -> ModelEndpointResponse:
        """End the canary: its workers finish what they run, and get nothing more."""
        return await described(
            context, await context.endpoints.roll_back_canary(user.owner, model_endpoint_id)
        )

    return api

"""Subscriptions to notifications (`/v1/subscriptions`)."""

from openlaunch.errors import NotFound, Unprocessable
from openlaunch.server import clock
from openlaunch.server.control.answers import shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import Owner, User
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.prediction.inputs import is_http_url
from openlaunch.store import subscriptions
from openlaunch.store.subscriptions import SubscriptionRecord
from openlaunch.wire import routes
from openlaunch.wire.ids import object_id
from openlaunch.wire.subscriptions import (
    CreateSubscriptionRequest,
    ListSubscriptionsResponse,
    SubscriptionResponse,
)


def router(context: Context) -> ControlRouter:
    """Subscribe URLs to notifications, list and delete subscriptions."""
    api = ControlRouter(prefix=routes.SUBSCRIPTIONS, tags=["subscriptions"])

    @api.post("")
    async def create_subscription(body: CreateSubscriptionRequest, user: User) -> SubscriptionResponse:
        """Have notifications sent to a URL, signed as callbacks are, and again until they are taken."""
        if not is_http_url(body.url):
            raise Unprocessable("url is not an http:// or https:// URL")
        kinds = list(dict.fromkeys(kind.value for kind in body.events))
        new = SubscriptionRecord(object_id("sub"), user.owner, body.url, kinds, clock.now())
        await context.store.write(lambda conn: subscriptions.insert(conn, new), user.owner)
        return shown(SubscriptionResponse, new)

    @api.get("")
    async def list_subscriptions(user: User, owner: Owner = None) -> ListSubscriptionsResponse:
        """List where notifications are sent, and of what."""
        found = await context.store.read(
            lambda conn: subscriptions.list_by_owner(conn, user.owner), user.owner
        )
        return ListSubscriptionsResponse(subscriptions=[shown(SubscriptionResponse, each) for each in found])

    @api.delete("/{subscription_id}", status_code=204)
    async def delete_subscription(subscription_id: str, user: User) -> None:
        """Delete a subscription. What was to be sent already is sent."""
        if not await context.store.write(
            lambda conn: subscriptions.remove(conn, user.owner, subscription_id), user.owner
        ):
            raise NotFound(f"no subscription has the id {subscription_id!r}", code="subscription_not_found")

    return api

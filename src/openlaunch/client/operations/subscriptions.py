"""Subscriptions to notifications of what happens to endpoints and jobs."""

from collections.abc import Sequence

from openlaunch.client.effects import Flow, Request, call, json_body, path_to
from openlaunch.client.models import answer, got
from openlaunch.wire import routes
from openlaunch.wire.subscriptions import ListSubscriptionsResponse, NotificationKind, SubscriptionResponse


def create_subscription(
    url: str, events: Sequence[NotificationKind | str] | None = None
) -> Flow[SubscriptionResponse]:
    """Have notifications of your endpoints and jobs sent to a URL, signed as callbacks are.

    Args:
        url: where they are POSTed as JSON with `type`, `timestamp` and `data`; what is not answered with 2xx is sent
            again.
        events: `"endpoint_failed"`, `"endpoint_recovered"`, `"queue_old"`, `"queue_caught_up"`, `"batch_job_ended"`;
            None: all of them.

    Raises:
        Unprocessable: the URL or an event is not valid.
        Conflict: you have 20 already.
    """
    body = {"url": url} if events is None else {"url": url, "events": [str(each) for each in events]}
    return (yield from answer(SubscriptionResponse, Request("POST", routes.SUBSCRIPTIONS, json_body(body))))


def list_subscriptions() -> Flow[list[SubscriptionResponse]]:
    """List your subscriptions, oldest first."""
    return (yield from got(ListSubscriptionsResponse, routes.SUBSCRIPTIONS)).subscriptions


def delete_subscription(subscription_id: str) -> Flow[None]:
    """Delete a subscription.

    Raises:
        NotFound: there is none with this id.
    """
    yield from call(Request("DELETE", path_to(routes.SUBSCRIPTIONS, subscription_id), idempotent=True))

"""A canary: a second bundle that gets a share of an endpoint's predictions."""

import time
from collections.abc import Callable

from openlaunch.client.effects import Flow, Pause, Request, json_body, path_to
from openlaunch.client.models import EndpointLike, ModelEndpoint, answer, checked
from openlaunch.client.operations.bundles import BundleLike, bundle_id
from openlaunch.client.operations.endpoints import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    refreshed,
    resolved,
)
from openlaunch.client.seconds import check_seconds
from openlaunch.errors import EndpointFailed, WaitTimeout
from openlaunch.wire import routes
from openlaunch.wire.endpoints import CanaryStatus, StartCanaryRequest, UpdateCanaryRequest


def start_canary(
    model_endpoint: EndpointLike,
    model_bundle: BundleLike,
    percent: int = 10,
    rollback_after_failures: int | None = None,
    probation_requests: int | None = None,
    first_item_seconds: float | None = None,
) -> Flow[ModelEndpoint]:
    """Give a second bundle a share of an endpoint's predictions. Returns at once; `wait_for_canary` waits.

    Args:
        model_endpoint: one that is READY.
        model_bundle: a bundle, its name (the newest is taken) or its id.
        percent: of the predictions, from 0 to 100.
        rollback_after_failures: failures in the probation window that end it; 0 disables this.
        probation_requests: number of predictions in the probation window.
        first_item_seconds: a stream of the canary whose first item, such as a token, comes later is a failure.

    Raises:
        NotFound: there is no such endpoint or bundle.
        Conflict: the endpoint has a canary, is not READY, or serves this bundle.
        Unprocessable: a setting is not allowed.
    """
    document = {
        "model_bundle_id": "unknown yet",
        "percent": percent,
        "rollback_after_failures": rollback_after_failures,
        "probation_requests": probation_requests,
        "first_item_seconds": first_item_seconds,
    }
    body = checked(StartCanaryRequest, document)
    endpoint = yield from resolved(model_endpoint)
    body["model_bundle_id"] = yield from bundle_id(model_bundle)
    return (yield from answer(ModelEndpoint, Request("POST", _canary_path(endpoint), json_body(body))))


def set_canary_percent(model_endpoint: EndpointLike, percent: int) -> Flow[ModelEndpoint]:
    """Change the share of an endpoint's canary.

    Raises:
        Conflict: the endpoint has no canary.
        Unprocessable: the percent are not from 0 to 100.
    """
    body = checked(UpdateCanaryRequest, {"percent": percent})
    endpoint = yield from resolved(model_endpoint)
    request = Request("PUT", _canary_path(endpoint), json_body(body), idempotent=True)
    return (yield from answer(ModelEndpoint, request))


def promote_canary(model_endpoint: EndpointLike) -> Flow[ModelEndpoint]:
    """Make the canary's bundle the endpoint's. Its workers stay; the old ones leave as new ones are ready.

    Raises:
        Conflict: the endpoint has no canary, or one that is not loaded yet.
    """
    endpoint = yield from resolved(model_endpoint)
    return (yield from answer(ModelEndpoint, Request("POST", _canary_path(endpoint, "promote"), b"{}")))


def roll_back_canary(model_endpoint: EndpointLike) -> Flow[ModelEndpoint]:
    """End an endpoint's canary: its workers finish their running requests, and get no new ones.

    Raises:
        Conflict: the endpoint has no canary.
    """
    endpoint = yield from resolved(model_endpoint)
    return (yield from answer(ModelEndpoint, Request("POST", _canary_path(endpoint, "rollback"), b"{}")))


def _canary_path(endpoint: ModelEndpoint, *segments: str) -> str:
    return path_to(routes.ENDPOINTS, endpoint.id, "canary", *segments)


def wait_for_canary(
    model_endpoint: EndpointLike, timeout: float = 600.0, clock: Callable[[], float] = time.monotonic
) -> Flow[ModelEndpoint]:
    """Wait until an endpoint's canary is SERVING.

    Raises:
        EndpointFailed: it has ended; the message has the reason.
        WaitTimeout: it is not SERVING after `timeout` seconds; it keeps running.
    """
    endpoint = yield from resolved(model_endpoint)
    check_seconds(timeout)
    deadline, pause = clock() + timeout, FIRST_PAUSE_SECONDS
    while True:
        endpoint = yield from refreshed(endpoint)
        canary = endpoint.canary
        if canary is None:
            raise EndpointFailed(f"endpoint {endpoint.name!r} has no canary")
        if canary.status is CanaryStatus.SERVING:
            return endpoint
        because = f": {canary.reason}" if canary.reason else ""
        if canary.status is not CanaryStatus.STARTING:
            raise EndpointFailed(
                f"the canary of endpoint {endpoint.name!r} is {canary.status.value}{because}"
            )
        left = deadline - clock()
        if left <= 0:
            raise WaitTimeout(
                f"the canary of endpoint {endpoint.name!r} is STARTING after {timeout:g} seconds{because}"
            )
        yield Pause(min(pause, left))
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)

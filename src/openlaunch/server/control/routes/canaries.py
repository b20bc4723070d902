"""Canaries: a second bundle on an endpoint (`/v1/model-endpoints/{id}/canary`)."""

import time
from collections.abc import Callable
from dataclasses import replace

from fastapi import APIRouter
from sqlalchemy import Connection

from openlaunch.controller.trial import DEFAULT_CANARY_FAILURES, Rule
from openlaunch.errors import Conflict
from openlaunch.server.control.routes.bundles import find_bundle
from openlaunch.server.control.routes.context import Context, User
from openlaunch.server.control.routes.endpoints import current_endpoint, described, find_endpoint
from openlaunch.server.endpoints.specs import check_rule, check_streams
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store.records import CanaryRecord, EndpointRecord
from openlaunch.wire import routes
from openlaunch.wire.endpoints import (
    CanaryStatus,
    EndpointStatus,
    ModelEndpointResponse,
    StartCanaryRequest,
    UpdateCanaryRequest,
)

CANARY = routes.ENDPOINTS + "/{model_endpoint_id}/canary"
Change = Callable[[EndpointRecord], EndpointRecord]


def router(context: Context) -> APIRouter:
    """Start, change, promote and roll back the canary of an endpoint."""
    api = APIRouter(tags=["endpoints"])

    @api.post(CANARY)
    async def start_canary(
        model_endpoint_id: str, body: StartCanaryRequest, user: User
    ) -> ModelEndpointResponse:
        """Give a second bundle a share of the endpoint's predictions, once it is loaded."""
        endpoint = await find_endpoint(context, model_endpoint_id, user.owner)
        bundle = await find_bundle(context, body.model_bundle_id, user.owner)
        check_streams(endpoint.endpoint_type, bundle)
        return await _changed(context, endpoint, lambda current: _with_canary(current, body))

    @api.put(CANARY)
    async def update_canary(
        model_endpoint_id: str, body: UpdateCanaryRequest, user: User
    ) -> ModelEndpointResponse:
        """Change the canary's share."""
        endpoint = await find_endpoint(context, model_endpoint_id, user.owner)

        def change(current: EndpointRecord) -> EndpointRecord:
            return replace(current, canary=replace(_live(current), percent=body.percent))

        return await _changed(context, endpoint, change)

    @api.post(CANARY + "/promote")
    async def promote_canary(model_endpoint_id: str, user: User) -> ModelEndpointResponse:
        """Make the canary's bundle the endpoint's; its workers stay, the others leave as new ones are ready."""
        endpoint = await find_endpoint(context, model_endpoint_id, user.owner)
        return await _changed(context, endpoint, _promoted)

    @api.post(CANARY + "/rollback")
    async def roll_back_canary(model_endpoint_id: str, user: User) -> ModelEndpointResponse:
        """End the canary: its workers finish what they run, and get nothing more."""
        endpoint = await find_endpoint(context, model_endpoint_id, user.owner)

        def change(current: EndpointRecord) -> EndpointRecord:
            ended = replace(
                _live(current), status=CanaryStatus.ROLLED_BACK, reason="it was rolled back by hand"
            )
            return replace(current, canary=ended)

        return await _changed(context, endpoint, change)

    return api


async def _changed(context: Context, endpoint: EndpointRecord, change: Change) -> ModelEndpointResponse:
    """The endpoint after a change, which is stored, and done from now on."""

    def write(conn: Connection) -> EndpointRecord:
        current = current_endpoint(conn, endpoint.id, endpoint.owner)
        changed = replace(change(current), updated_at=time.time())
        endpoint_store.update(conn, changed)
        return changed

    changed = await context.store.write(write)
    context.controller.apply(changed)
    return await described(context, changed)


def _with_canary(endpoint: EndpointRecord, body: StartCanaryRequest) -> EndpointRecord:
    _check_can_start(endpoint, body.model_bundle_id)
    spec = endpoint.spec
    asked = (body.rollback_after_failures, spec.rollback_after_failures, DEFAULT_CANARY_FAILURES)
    failures = next(each for each in asked if each is not None)
    canary = CanaryRecord(
        bundle_id=body.model_bundle_id,
        generation=endpoint.next_generation,
        percent=body.percent,
        status=CanaryStatus.STARTING,
        reason=None,
        started_at=time.time(),
        rollback_after_failures=failures,
        probation_requests=body.probation_requests or spec.probation_requests,
    )
    check_rule(Rule.of(canary))
    return replace(endpoint, canary=canary)


def _check_can_start(endpoint: EndpointRecord, bundle_id: str) -> None:
    name = endpoint.name
    if endpoint.live_canary is not None:
        raise Conflict(
            f"the endpoint {name!r} has a canary already: promote it or roll it back first",
            code="canary_exists",
        )
    if endpoint.status is not EndpointStatus.READY:
        raise Conflict(
            f"the endpoint {name!r} is {endpoint.status.value}: a canary needs one that is READY to stand beside",
            code="endpoint_not_ready",
        )
    if bundle_id == endpoint.bundle_id:
        raise Conflict(
            f"the bundle {bundle_id} is what the endpoint {name!r} serves: give another one",
            code="same_bundle",
        )


def _live(endpoint: EndpointRecord) -> CanaryRecord:
    canary = endpoint.live_canary
    if canary is not None:
        return canary
    last = endpoint.canary
    ended = f": the last one is {last.status.value} ({last.reason})" if last is not None else ""
    raise Conflict(f"the endpoint {endpoint.name!r} has no canary{ended}", code="no_canary")


def _promoted(endpoint: EndpointRecord) -> EndpointRecord:
    canary = _live(endpoint)
    if canary.status is not CanaryStatus.SERVING:
        because = f": {canary.reason}" if canary.reason else ""
        raise Conflict(
            f"the canary of {endpoint.name!r} is not loaded yet{because}; promote it when it is SERVING",
            code="canary_not_ready",
        )
    return replace(
        endpoint,
        bundle_id=canary.bundle_id,
        generation=canary.generation,
        status=EndpointStatus.UPDATE_PENDING,
        status_reason=None,
        canary=None,
    )

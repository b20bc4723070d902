"""Changes of an endpoint's record and canary as pure functions; Conflict where its state forbids them."""

from dataclasses import replace

from openlaunch.controller.trial import DEFAULT_CANARY_FAILURES, Rule
from openlaunch.errors import Conflict
from openlaunch.server import clock
from openlaunch.server.endpoints.specs import check_rule, needs_new_workers, updated_spec
from openlaunch.store.records import CanaryRecord, EndpointRecord
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import (
    CanaryStatus,
    EndpointStatus,
    EndpointType,
    StartCanaryRequest,
    UpdateModelEndpointRequest,
)
from openlaunch.wire.ids import object_id


def new_endpoint(
    owner: str,
    name: str,
    endpoint_type: EndpointType,
    bundle_id: str,
    spec: EndpointSpec,
    endpoint_id: str | None = None,
) -> EndpointRecord:
    """Return the record of an endpoint that does not exist yet."""
    now = clock.now()
    return EndpointRecord(
        id=endpoint_id or object_id("end"),
        owner=owner,
        name=name,
        endpoint_type=endpoint_type,
        bundle_id=bundle_id,
        generation=1,
        spec=spec,
        status=EndpointStatus.UPDATE_PENDING,
        status_reason=None,
        created_at=now,
        updated_at=now,
    )


def updated(endpoint: EndpointRecord, request: UpdateModelEndpointRequest) -> EndpointRecord:
    """Return the endpoint with what the request gives; naming the bundle of a failed update again retries it."""
    spec = updated_spec(endpoint.spec, request)
    bundle_id = request.model_bundle_id or endpoint.bundle_id
    changed = replace(endpoint, spec=spec, bundle_id=bundle_id)
    failed = endpoint.is_rejected or endpoint.status is EndpointStatus.UPDATE_FAILED
    retried = failed and request.model_bundle_id is not None
    return restarted(changed) if retried or needs_new_workers(endpoint, spec, bundle_id) else changed


def handed_over(endpoint: EndpointRecord, owner: str, bundle_id: str) -> EndpointRecord:
    """Return the endpoint as another owner's, with new workers of that owner's bundle wanted."""
    if endpoint.owner == owner:
        raise Conflict(f"the endpoint {endpoint.name!r} belongs to {owner!r} already", code="same_owner")
    return restarted(replace(endpoint, owner=owner, bundle_id=bundle_id))


def restarted(endpoint: EndpointRecord) -> EndpointRecord:
    """Return the endpoint with a generation of new workers wanted."""
    if endpoint.live_canary is not None:
        raise Conflict(
            f"the endpoint {endpoint.name!r} has a canary: promote it or roll it back first; until then only "
            "changes that need no new workers are taken",
            code="canary_exists",
        )
    return replace(
        endpoint,
        generation=endpoint.next_generation,
        status=EndpointStatus.UPDATE_PENDING,
        status_reason=None,
    )


def deleted(endpoint: EndpointRecord) -> EndpointRecord:
    """Return the endpoint marked for deletion."""
    return replace(endpoint, status=EndpointStatus.DELETE_IN_PROGRESS, status_reason=None)


def with_canary(endpoint: EndpointRecord, request: StartCanaryRequest) -> EndpointRecord:
    """Return the endpoint with a new canary. The roll-back's settings default to the endpoint's."""
    _check_can_start(endpoint, request.model_bundle_id)
    asked = (request.rollback_after_failures, endpoint.spec.rollback_after_failures, DEFAULT_CANARY_FAILURES)
    canary = CanaryRecord(
        bundle_id=request.model_bundle_id,
        generation=endpoint.next_generation,
        percent=request.percent,
        status=CanaryStatus.STARTING,
        reason=None,
        started_at=clock.now(),
        rollback_after_failures=next(each for each in asked if each is not None),
        probation_requests=request.probation_requests or endpoint.spec.probation_requests,
        first_item_seconds=request.first_item_seconds,
    )
    check_rule(Rule.of(canary))
    return replace(endpoint, canary=canary)


def with_percent(endpoint: EndpointRecord, percent: int) -> EndpointRecord:
    """Return the endpoint with another share for its canary."""
    return replace(endpoint, canary=replace(_live(endpoint), percent=percent))


def promoted(endpoint: EndpointRecord) -> EndpointRecord:
    """Return the endpoint with the canary's bundle as its own: the canary's workers stay."""
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


def rolled_back(endpoint: EndpointRecord) -> EndpointRecord:
    """Return the endpoint with its canary ended."""
    ended = replace(_live(endpoint), status=CanaryStatus.ROLLED_BACK, reason="it was rolled back by hand")
    return replace(endpoint, canary=ended)


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

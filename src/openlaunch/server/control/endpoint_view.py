"""How an endpoint is shown: its record, its workers and its queue as one answer."""

import asyncio
from datetime import UTC, datetime
from math import ceil

from sqlalchemy import Connection

from openlaunch.controller.trial import Rule, Trial
from openlaunch.server import clock
from openlaunch.server.access.auth import Principal
from openlaunch.server.control.answers import shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.metrics_view import times_of
from openlaunch.server.metrics.histograms import Histogram
from openlaunch.server.prediction.inputs import without_secrets
from openlaunch.store import bundles as bundle_store
from openlaunch.store.records import CanaryRecord, EndpointRecord
from openlaunch.wire.endpoints import (
    CanaryResponse,
    CanaryStatus,
    DeploymentState,
    EndpointStatus,
    ModelEndpointResponse,
    PredictionWindows,
    ResourceState,
    TrafficSide,
)
from openlaunch.wire.keys import Role
from openlaunch.wire.workers import WorkerPhase, WorkerResponse
from openlaunch_worker.prefetch_urls import masked

BundleNames = dict[str, str]
"""Names by id."""


async def described(context: Context, endpoint: EndpointRecord, caller: Principal) -> ModelEndpointResponse:
    """Return the endpoint as the caller may see it, with its workers and its queue as they are now."""
    names = await context.store.read(lambda conn: bundle_names(conn, endpoint), endpoint.owner)
    return described_with(context, endpoint, names, caller)


def bundle_ids(endpoint: EndpointRecord) -> set[str]:
    """Return the ids of all bundles that the endpoint's description mentions."""
    canary = {endpoint.canary.bundle_id} if endpoint.canary else set()
    return {endpoint.bundle_id, endpoint.serving_bundle_id} | canary


def bundle_names(conn: Connection, endpoint: EndpointRecord) -> BundleNames:
    """Return the names of all bundles that the endpoint's description mentions."""
    return bundle_store.names(conn, bundle_ids(endpoint))


def _canary(context: Context, endpoint: EndpointRecord, names: BundleNames) -> CanaryResponse | None:
    canary = endpoint.canary
    if canary is None:
        return None
    rule = Rule.of(canary)
    return shown(
        CanaryResponse,
        canary,
        reason=_canary_reason(context, endpoint, canary),
        bundle_name=names.get(canary.bundle_id, ""),
        rollback_after_failures=rule.failures if rule else 0,
        probation_requests=rule.among if rule else None,
        canary=_side(context, endpoint.id, canary.generation),
        endpoint=_side(context, endpoint.id, endpoint.generation),
    )


def _side(context: Context, endpoint_id: str, generation: int) -> TrafficSide:
    trial = context.lanes.trials(endpoint_id).get(generation, Trial())
    lane = context.lanes.get(endpoint_id)
    ran = times_of(Histogram() if lane is None else lane.trials.times(generation))
    return shown(
        TrafficSide, trial, workers=context.controller.view.workers_of(endpoint_id, generation), ran=ran
    )


def described_with(
    context: Context, endpoint: EndpointRecord, names: BundleNames, caller: Principal
) -> ModelEndpointResponse:
    """Return the same, with names that were read before."""
    if endpoint.owner != caller.owner and caller.role is not Role.ADMIN:
        return _for_callers(context, endpoint)
    spec = endpoint.spec
    auth = spec.default_callback_auth
    return shown(
        ModelEndpointResponse,
        endpoint,
        **spec.model_dump(
            include=set(ModelEndpointResponse.model_fields) - {"default_callback_auth", "prefetch"},
            exclude_none=True,
        ),
        prefetch=spec.prefetch and [masked(url) for url in spec.prefetch],
        default_callback_auth=auth and without_secrets(auth.model_dump()),
        status_reason=_reason(context, endpoint),
        destination=f"endpoint/{endpoint.id}",
        deployment_name=endpoint.name,
        bundle_name=names.get(endpoint.bundle_id, ""),
        serving_bundle_name=names.get(endpoint.serving_bundle_id, ""),
        canary=_canary(context, endpoint, names),
        created_by=endpoint.owner,
        last_updated_at=endpoint.updated_at,
        deployment_state=_deployment(context, endpoint),
        resource_state=shown(
            ResourceState, spec, gpus=ceil(spec.gpus), gpu_share=spec.gpus if 0 < spec.gpus < 1 else None
        ),
        predictions=_predictions(context, endpoint.id),
        num_queued_items=context.lanes.load(endpoint.id).queued,
    )


def _reason(context: Context, endpoint: EndpointRecord) -> str | None:
    """Return why the status is what it is; while that waits for a build, what is built now."""
    if endpoint.status not in (EndpointStatus.UPDATE_PENDING, EndpointStatus.UPDATE_IN_PROGRESS):
        return endpoint.status_reason
    return context.controller.view.build_progress(endpoint.id, endpoint.generation) or endpoint.status_reason


def _canary_reason(context: Context, endpoint: EndpointRecord, canary: CanaryRecord) -> str | None:
    if canary.status is not CanaryStatus.STARTING:
        return canary.reason
    return context.controller.view.build_progress(endpoint.id, canary.generation) or canary.reason


def _for_callers(context: Context, endpoint: EndpointRecord) -> ModelEndpointResponse:
    """Return what those need to know who call an endpoint that is somebody else's: nothing of what it is made of."""
    spec = endpoint.spec
    return ModelEndpointResponse(
        id=endpoint.id,
        name=endpoint.name,
        endpoint_type=endpoint.endpoint_type,
        destination=f"endpoint/{endpoint.id}",
        bundle_name="",
        status=endpoint.status,
        created_by=endpoint.owner,
        created_at=datetime.fromtimestamp(endpoint.created_at, UTC),
        last_updated_at=datetime.fromtimestamp(endpoint.updated_at, UTC),
        num_queued_items=context.lanes.load(endpoint.id).queued,
        public_inference=spec.public_inference,
        task_expires_seconds=spec.task_expires_seconds,
        queue_message_timeout_seconds=spec.queue_message_timeout_seconds,
        timeout_seconds=spec.timeout_seconds,
        record=spec.record,  # they should know that their requests are kept
    )


def workers_of(context: Context, endpoint: EndpointRecord) -> list[WorkerResponse]:
    """Describe the workers of an endpoint whose processes have not ended; none where another server leads."""
    now = clock.now() - asyncio.get_running_loop().time()
    return [
        WorkerResponse(
            worker=each.short_id,
            generation=each.generation,
            phase=WorkerPhase(each.phase),
            since=datetime.fromtimestamp(now + each.since, UTC),
            started_at=datetime.fromtimestamp(now + each.started_at, UTC),
            running=context.workers.running_in(each.id),
            slots=endpoint.spec_of(each.generation).slots,
            node=node,
            reason=each.reason,
        )
        for each, node in context.controller.view.workers_now(endpoint.id)
    ]


def _predictions(context: Context, endpoint_id: str) -> PredictionWindows | None:
    if (lane := context.lanes.get(endpoint_id)) is None:
        return None
    return PredictionWindows.model_validate(lane.tally.windows(), from_attributes=True)


def _deployment(context: Context, endpoint: EndpointRecord) -> DeploymentState:
    spec, batching = endpoint.spec, endpoint.spec.batching
    available, unavailable = context.controller.view.workers(endpoint.id)
    asked = spec.concurrent_requests_per_worker or spec.per_worker
    return shown(
        DeploymentState,
        spec,
        concurrent_requests_per_worker=asked if batching is None else spec.slots,
        max_batch_size=batching and batching.max_size,
        max_batch_wait=batching and batching.max_wait,
        available_workers=available,
        unavailable_workers=unavailable,
    )

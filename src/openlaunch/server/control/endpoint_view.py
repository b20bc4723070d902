"""How an endpoint is shown: its record, its workers and its queue as one answer."""

from sqlalchemy import Connection

from openlaunch.controller.trial import Rule, Trial
from openlaunch.server.control.answers import shown
from openlaunch.server.control.context import Context
from openlaunch.server.prediction.inputs import without_secrets
from openlaunch.store import bundles as bundle_store
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import (
    CanaryResponse,
    DeploymentState,
    ModelEndpointResponse,
    ResourceState,
    TrafficSide,
)

BundleNames = dict[str, str]
"""Names by id."""


async def described(context: Context, endpoint: EndpointRecord) -> ModelEndpointResponse:
    """Return the endpoint as it is shown, with its workers and its queue as they are now."""
    names = await context.store.read(lambda conn: bundle_names(conn, endpoint), endpoint.owner)
    return described_with(context, endpoint, names)


def bundle_names(conn: Connection, endpoint: EndpointRecord) -> BundleNames:
    """Return the names of all bundles that the endpoint's description mentions."""
    ids = {endpoint.bundle_id, endpoint.serving_bundle_id}
    ids |= {endpoint.canary.bundle_id} if endpoint.canary else set()
    found = [bundle_store.get(conn, bundle_id) for bundle_id in ids]
    return {bundle.id: bundle.name for bundle in found if bundle is not None}


def _canary(context: Context, endpoint: EndpointRecord, names: BundleNames) -> CanaryResponse | None:
    canary = endpoint.canary
    if canary is None:
        return None
    rule = Rule.of(canary)
    return shown(
        CanaryResponse,
        canary,
        bundle_name=names.get(canary.bundle_id, ""),
        rollback_after_failures=rule.failures if rule else 0,
        probation_requests=rule.among if rule else None,
        canary=_side(context, endpoint.id, canary.generation),
        endpoint=_side(context, endpoint.id, endpoint.generation),
    )


def _side(context: Context, endpoint_id: str, generation: int) -> TrafficSide:
    trial = context.lanes.trials(endpoint_id).get(generation, Trial())
    return shown(TrafficSide, trial, workers=context.controller.workers_of(endpoint_id, generation))


def described_with(context: Context, endpoint: EndpointRecord, names: BundleNames) -> ModelEndpointResponse:
    """Return the same, with names that were read before."""
    spec = endpoint.spec
    auth = spec.default_callback_auth
    return shown(
        ModelEndpointResponse,
        endpoint,
        **spec.model_dump(
            include=set(ModelEndpointResponse.model_fields) - {"default_callback_auth"}, exclude_none=True
        ),
        default_callback_auth=auth and without_secrets(auth.model_dump()),
        destination=f"endpoint/{endpoint.id}",
        deployment_name=endpoint.name,
        bundle_name=names.get(endpoint.bundle_id, ""),
        serving_bundle_name=names.get(endpoint.serving_bundle_id, ""),
        canary=_canary(context, endpoint, names),
        created_by=endpoint.owner,
        last_updated_at=endpoint.updated_at,
        deployment_state=_deployment(context, endpoint),
        resource_state=shown(ResourceState, spec),
        num_queued_items=context.lanes.load(endpoint.id).queued,
    )


def _deployment(context: Context, endpoint: EndpointRecord) -> DeploymentState:
    spec, batching = endpoint.spec, endpoint.spec.batching
    available, unavailable = context.controller.workers(endpoint.id)
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

"""How an endpoint is shown: its record, its workers and its queue as one answer."""

from sqlalchemy import Connection

from openlaunch.controller.trial import Rule, Trial
from openlaunch.server.control.context import Context
from openlaunch.store import bundles as bundle_store
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import ModelEndpointResponse

BundleNames = dict[str, str]
"""Names by id."""


async def described(context: Context, endpoint: EndpointRecord) -> ModelEndpointResponse:
    """Return the endpoint as it is shown, with its workers and its queue as they are now."""
    names = await context.store.read(lambda conn: bundle_names(conn, endpoint))
    return described_with(context, endpoint, names)


def bundle_names(conn: Connection, endpoint: EndpointRecord) -> BundleNames:
    """Return the names of all bundles that the endpoint's description mentions."""
    ids = {endpoint.bundle_id, endpoint.serving_bundle_id}
    ids |= {endpoint.canary.bundle_id} if endpoint.canary else set()
    found = [bundle_store.get(conn, bundle_id) for bundle_id in ids]
    return {bundle.id: bundle.name for bundle in found if bundle is not None}


def _canary(context: Context, endpoint: EndpointRecord, names: BundleNames) -> dict[str, object] | None:
    canary = endpoint.canary
    if canary is None:
        return None
    rule = Rule.of(canary)
    return {
        "bundle_id": canary.bundle_id,
        "bundle_name": names.get(canary.bundle_id, ""),
        "percent": canary.percent,
        "status": canary.status,
        "reason": canary.reason,
        "started_at": canary.started_at,
        "rollback_after_failures": rule.failures if rule else 0,
        "probation_requests": rule.among if rule else None,
        "canary": _side(context, endpoint.id, canary.generation),
        "endpoint": _side(context, endpoint.id, endpoint.generation),
    }


def _side(context: Context, endpoint_id: str, generation: int) -> dict[str, int]:
    trial = context.dispatcher.trials(endpoint_id).get(generation, Trial())
    workers = context.controller.workers_of(endpoint_id, generation)
    return {"workers": workers, "requests": trial.requests, "failures": trial.failures}


def without_secrets(auth: dict[str, str] | None) -> dict[str, str] | None:
    """Return how callbacks are authenticated, with secrets masked."""
    shown = ("kind", "username", "cert")
    return auth and {name: value if name in shown else "********" for name, value in auth.items()}


def described_with(context: Context, endpoint: EndpointRecord, names: BundleNames) -> ModelEndpointResponse:
    """Return the same, with names that were read before."""
    spec, batching = endpoint.spec, endpoint.spec.batching
    available, unavailable = context.controller.workers(endpoint.id)
    return ModelEndpointResponse.model_validate(
        {
            **spec.model_dump(include=set(ModelEndpointResponse.model_fields), exclude_none=True),
            "default_callback_auth": spec.default_callback_auth
            and without_secrets(spec.default_callback_auth.model_dump()),
            "id": endpoint.id,
            "name": endpoint.name,
            "endpoint_type": endpoint.endpoint_type,
            "destination": f"endpoint/{endpoint.id}",
            "deployment_name": endpoint.name,
            "bundle_name": names.get(endpoint.bundle_id, ""),
            "bundle_id": endpoint.bundle_id,
            "serving_bundle_name": names.get(endpoint.serving_bundle_id, ""),
            "serving_bundle_id": endpoint.serving_bundle_id,
            "canary": _canary(context, endpoint, names),
            "status": endpoint.status,
            "status_reason": endpoint.status_reason,
            "created_by": endpoint.owner,
            "created_at": endpoint.created_at,
            "last_updated_at": endpoint.updated_at,
            "deployment_state": {
                "min_workers": spec.min_workers,
                "max_workers": spec.max_workers,
                "per_worker": spec.per_worker,
                "concurrent_requests_per_worker": spec.slots
                if batching is not None
                else spec.concurrent_requests_per_worker or spec.per_worker,
                "forwarder_max_concurrency": spec.forwarder_max_concurrency,
                "max_batch_size": batching and batching.max_size,
                "max_batch_wait": batching and batching.max_wait,
                "available_workers": available,
                "unavailable_workers": unavailable,
            },
            "resource_state": {
                "cpus": spec.cpus,
                "gpus": spec.gpus,
                "memory": spec.memory,
                "gpu_type": spec.gpu_type,
                "storage": spec.storage,
                "nodes_per_worker": spec.nodes_per_worker,
                "optimize_costs": spec.optimize_costs,
            },
            "num_queued_items": context.dispatcher.load(endpoint.id).queued,
        }
    )

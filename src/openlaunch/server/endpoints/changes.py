"""Changes of an endpoint's record as pure functions, which raise Conflict where its state forbids them."""

import secrets
from dataclasses import replace

from openlaunch.errors import Conflict
from openlaunch.server import clock
from openlaunch.server.endpoints.specs import changed_spec, needs_new_workers
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import EndpointStatus, EndpointType, UpdateModelEndpointRequest


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
        id=endpoint_id or "end_" + secrets.token_hex(10),
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
    """Return the endpoint with what the request gives; naming a rejected bundle again retries it."""
    spec = changed_spec(endpoint.spec, request)
    bundle_id = request.model_bundle_id or endpoint.bundle_id
    changed = replace(endpoint, spec=spec, bundle_id=bundle_id)
    retried = endpoint.is_rejected and request.model_bundle_id is not None
    return restarted(changed) if retried or needs_new_workers(endpoint, spec, bundle_id) else changed


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

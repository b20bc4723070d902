"""Model endpoints (`/v1/model-endpoints`)."""

import secrets
import time
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from openlaunch.errors import Conflict, NotFound
from openlaunch.server.routes.bundles import find_bundle
from openlaunch.server.routes.context import Context, User
from openlaunch.server.specs import (
    changed_spec,
    check_batching,
    check_streams,
    needs_new_workers,
    new_spec,
)
from openlaunch.store import bundles as bundle_store
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store.records import EndpointRecord
from openlaunch.wire import routes
from openlaunch.wire.endpoints import (
    CreateModelEndpointRequest,
    DeleteModelEndpointResponse,
    EndpointCreationResponse,
    EndpointOrderBy,
    EndpointStatus,
    ListModelEndpointsResponse,
    LogsResponse,
    ModelEndpointResponse,
    RestartModelEndpointResponse,
    UpdateModelEndpointRequest,
)

TailBytes = Annotated[int, Query(ge=1, le=4 * 1024 * 1024)]


def router(context: Context) -> APIRouter:
    """Create, change, restart, delete, list and get endpoints, and read their logs."""
    api = APIRouter(tags=["endpoints"])
    _add_reads(api, context)
    _add_changes(api, context)
    return api


def _add_changes(api: APIRouter, context: Context) -> None:
    @api.post(routes.ENDPOINTS)
    async def create_model_endpoint(body: CreateModelEndpointRequest, user: User) -> EndpointCreationResponse:
        """Create an endpoint; its workers are started afterwards: its status tells how that goes."""
        bundle = await find_bundle(context, body.model_bundle_id, user.owner)
        check_streams(body.endpoint_type, bundle)
        spec = new_spec(body)
        check_batching(spec, body.endpoint_type, bundle)
        context.controller.check_gpus(spec)
        now = time.time()
        endpoint = EndpointRecord(
            id="end_" + secrets.token_hex(10),
            owner=user.owner,
            name=body.name,
            endpoint_type=body.endpoint_type,
            bundle_id=bundle.id,
            generation=1,
            spec=spec,
            status=EndpointStatus.UPDATE_PENDING,
            status_reason=None,
            created_at=now,
            updated_at=now,
        )
        await context.store.write(lambda conn: endpoint_store.insert(conn, endpoint))
        context.controller.apply(endpoint)
        return EndpointCreationResponse(endpoint_creation_task_id=endpoint.id)

    @api.put(routes.ENDPOINTS + "/{model_endpoint_id}")
    async def update_model_endpoint(
        model_endpoint_id: str, body: UpdateModelEndpointRequest, user: User
    ) -> EndpointCreationResponse:
        """Change what is given; new workers replace the old ones only once they are ready."""
        before = await find_endpoint(context, model_endpoint_id, user.owner)
        bundle_id = body.model_bundle_id or before.bundle_id
        bundle = await find_bundle(context, bundle_id, user.owner)
        check_streams(before.endpoint_type, bundle)
        wanted = changed_spec(before.spec, body)
        check_batching(wanted, before.endpoint_type, bundle)
        context.controller.check_gpus(wanted)

        def change(conn: Connection) -> EndpointRecord:
            current = _current(conn, model_endpoint_id, user.owner)
            spec = changed_spec(current.spec, body)
            changed = replace(current, spec=spec, bundle_id=bundle_id, updated_at=time.time())
            if needs_new_workers(current, spec, bundle_id):
                changed = _next_generation(changed)
            endpoint_store.update(conn, changed)
            return changed

        changed = await context.store.write(change)
        context.controller.apply(changed)
        return EndpointCreationResponse(endpoint_creation_task_id=changed.id)

    @api.post(routes.ENDPOINTS + "/{model_endpoint_id}/restart")
    async def restart_model_endpoint(model_endpoint_id: str, user: User) -> RestartModelEndpointResponse:
        """Replace every worker by a new one, without a gap."""

        def restart(conn: Connection) -> EndpointRecord:
            changed = _next_generation(_current(conn, model_endpoint_id, user.owner))
            endpoint_store.update(conn, changed)
            return changed

        context.controller.apply(await context.store.write(restart))
        return RestartModelEndpointResponse(restarted=True)

    @api.delete(routes.ENDPOINTS + "/{model_endpoint_id}")
    async def delete_model_endpoint(model_endpoint_id: str, user: User) -> DeleteModelEndpointResponse:
        """Delete an endpoint: what runs may end, what waits is refused, tasks end as FAILURE."""

        def mark(conn: Connection) -> EndpointRecord:
            changed = replace(
                _current(conn, model_endpoint_id, user.owner),
                status=EndpointStatus.DELETE_IN_PROGRESS,
                status_reason=None,
                updated_at=time.time(),
            )
            endpoint_store.update(conn, changed)
            return changed

        endpoint = await context.store.write(mark)
        context.controller.remove(endpoint)
        await context.tasks.fail_endpoint(endpoint.id, f"the endpoint {endpoint.name!r} was deleted")
        return DeleteModelEndpointResponse(deleted=True)


def _add_reads(api: APIRouter, context: Context) -> None:
    @api.get(routes.ENDPOINTS)
    async def list_model_endpoints(
        user: User, name: str | None = None, order_by: EndpointOrderBy | None = None
    ) -> ListModelEndpointsResponse:
        """List the caller's endpoints, newest first unless asked otherwise."""

        def load(conn: Connection) -> list[tuple[EndpointRecord, str]]:
            order = order_by or EndpointOrderBy.NEWEST
            found = endpoint_store.list_by_owner(conn, user.owner, name, order)
            return [(endpoint, _bundle_name(conn, endpoint)) for endpoint in found]

        rows = await context.store.read(load)
        return ListModelEndpointsResponse(model_endpoints=[_response(context, *row) for row in rows])

    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}")
    async def get_model_endpoint(model_endpoint_id: str, user: User) -> ModelEndpointResponse:
        """Get one endpoint, with its workers and its queue as they are now."""
        endpoint = await find_endpoint(context, model_endpoint_id, user.owner)
        return _response(
            context, endpoint, await context.store.read(lambda conn: _bundle_name(conn, endpoint))
        )

    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}/logs")
    async def get_model_endpoint_logs(
        model_endpoint_id: str, user: User, tail_bytes: TailBytes = 65536
    ) -> LogsResponse:
        """Get the end of the logs of the endpoint's workers: what models print, and the worker's own lines."""
        endpoint = await find_endpoint(context, model_endpoint_id, user.owner)
        return LogsResponse(content=context.controller.worker_logs(endpoint.id, tail_bytes))

    @api.get(routes.CREATION_LOGS + "/{name}")
    async def get_creation_logs(name: str, user: User) -> LogsResponse:
        """Get the log of the builds of an endpoint's environments."""
        endpoint = await context.store.read(lambda conn: endpoint_store.get_by_name(conn, user.owner, name))
        if endpoint is None:
            raise NotFound(f"no endpoint has the name {name!r}", code="endpoint_not_found")
        return LogsResponse(content=context.controller.creation_log(endpoint.id))


async def find_endpoint(context: Context, endpoint_id: str, owner: str) -> EndpointRecord:
    """The owner's endpoint.

    Raises:
        NotFound: the owner has no endpoint of this id.
    """
    endpoint = await context.store.read(lambda conn: endpoint_store.get(conn, endpoint_id, owner))
    if endpoint is None:
        raise _not_found(endpoint_id)
    return endpoint


def _not_found(endpoint_id: str) -> NotFound:
    return NotFound(f"no endpoint has the id {endpoint_id!r}", code="endpoint_not_found")


def _current(conn: Connection, endpoint_id: str, owner: str) -> EndpointRecord:
    """The endpoint as it stands in this transaction, which a change starts from."""
    endpoint = endpoint_store.get(conn, endpoint_id, owner)
    if endpoint is None:
        raise _not_found(endpoint_id)
    if endpoint.status is EndpointStatus.DELETE_IN_PROGRESS:
        raise Conflict(f"the endpoint {endpoint.name!r} is being deleted", code="endpoint_deleted")
    return endpoint


def _next_generation(endpoint: EndpointRecord) -> EndpointRecord:
    return replace(
        endpoint,
        generation=endpoint.generation + 1,
        status=EndpointStatus.UPDATE_PENDING,
        status_reason=None,
        updated_at=time.time(),
    )


def _bundle_name(conn: Connection, endpoint: EndpointRecord) -> str:
    bundle = bundle_store.get(conn, endpoint.bundle_id)
    return bundle.name if bundle is not None else ""


def _without_secrets(auth: dict[str, str] | None) -> dict[str, str] | None:
    """How callbacks are authenticated, as it is shown: what was once given is not told again."""
    shown = ("kind", "username", "cert")
    return auth and {name: value if name in shown else "********" for name, value in auth.items()}


def _response(context: Context, endpoint: EndpointRecord, bundle_name: str) -> ModelEndpointResponse:
    spec, extra = endpoint.spec, endpoint.spec.extra
    batching = spec.batching
    available, unavailable = context.controller.workers(endpoint.id)
    return ModelEndpointResponse.model_validate(
        {
            **{name: extra.get(name) for name in ModelEndpointResponse.model_fields if name in extra},
            "default_callback_auth": _without_secrets(extra.get("default_callback_auth")),
            "id": endpoint.id,
            "name": endpoint.name,
            "endpoint_type": endpoint.endpoint_type,
            "destination": f"endpoint/{endpoint.id}",
            "deployment_name": endpoint.name,
            "bundle_name": bundle_name,
            "bundle_id": endpoint.bundle_id,
            "status": endpoint.status,
            "status_reason": endpoint.status_reason,
            "created_by": endpoint.owner,
            "created_at": endpoint.created_at,
            "last_updated_at": endpoint.updated_at,
            "deployment_state": {
                "min_workers": spec.min_workers,
                "max_workers": spec.max_workers,
                "per_worker": spec.per_worker,
                "concurrent_requests_per_worker": spec.slots,
                "forwarder_max_concurrency": extra.get("forwarder_max_concurrency"),
                "max_batch_size": batching and batching.max_size,
                "max_batch_wait": batching and batching.max_wait,
                "available_workers": available,
                "unavailable_workers": unavailable,
            },
            "resource_state": {
                "cpus": extra["cpus"],
                "gpus": spec.gpus,
                "memory": extra["memory"],
                "gpu_type": spec.gpu_type,
                "storage": extra["storage"],
                "nodes_per_worker": extra["nodes_per_worker"],
                "optimize_costs": extra.get("optimize_costs"),
            },
            "num_queued_items": context.dispatcher.load(endpoint.id).queued,
        }
    )

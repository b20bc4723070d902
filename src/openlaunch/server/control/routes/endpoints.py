"""Model endpoints (`/v1/model-endpoints`)."""

import secrets
import time
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy import Connection

from openlaunch.controller.events import message_of
from openlaunch.controller.trial import Rule, Trial
from openlaunch.errors import Conflict, NotFound
from openlaunch.server.control.routes.bundles import find_bundle
from openlaunch.server.control.routes.context import Caller, Context, User
from openlaunch.server.endpoints.specs import (
    changed_spec,
    check_batching,
    check_streams,
    needs_new_workers,
    new_spec,
)
from openlaunch.store import bundles as bundle_store
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store.events import MAX_EVENTS, EventRecord
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
from openlaunch.wire.events import MAX_EVENTS_WAIT_SECONDS, EndpointEvent, EventKind, ListEventsResponse
from openlaunch.wire.why import EndpointWhy

BundleNames = dict[str, str]
"""Names by id."""

_FOLLOWED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
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
        context.controller.events.add(endpoint.id, EventKind.CREATED)
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
            current = current_endpoint(conn, model_endpoint_id, user.owner)
            spec = changed_spec(current.spec, body)
            changed = replace(current, spec=spec, bundle_id=bundle_id, updated_at=time.time())
            tried_again = current.is_rejected and body.model_bundle_id is not None
            if tried_again or needs_new_workers(current, spec, bundle_id):
                changed = next_generation(changed)
            endpoint_store.update(conn, changed)
            return changed

        changed = await context.store.write(change)
        context.controller.apply(changed)
        detail = f"bundle {bundle_id}" if bundle_id != before.bundle_id else "its settings"
        context.controller.events.add(changed.id, EventKind.UPDATED, detail)
        return EndpointCreationResponse(endpoint_creation_task_id=changed.id)

    @api.post(routes.ENDPOINTS + "/{model_endpoint_id}/restart")
    async def restart_model_endpoint(model_endpoint_id: str, user: User) -> RestartModelEndpointResponse:
        """Replace every worker by a new one, without a gap."""

        def restart(conn: Connection) -> EndpointRecord:
            changed = next_generation(current_endpoint(conn, model_endpoint_id, user.owner))
            endpoint_store.update(conn, changed)
            return changed

        context.controller.apply(await context.store.write(restart))
        context.controller.events.add(model_endpoint_id, EventKind.RESTARTED)
        return RestartModelEndpointResponse(restarted=True)

    @api.delete(routes.ENDPOINTS + "/{model_endpoint_id}")
    async def delete_model_endpoint(model_endpoint_id: str, user: User) -> DeleteModelEndpointResponse:
        """Delete an endpoint: what runs may end, what waits is refused, tasks end as FAILURE."""

        def mark(conn: Connection) -> EndpointRecord:
            changed = replace(
                current_endpoint(conn, model_endpoint_id, user.owner),
                status=EndpointStatus.DELETE_IN_PROGRESS,
                status_reason=None,
                updated_at=time.time(),
            )
            endpoint_store.update(conn, changed)
            return changed

        endpoint = await context.store.write(mark)
        context.controller.remove(endpoint)
        await context.tasks.canceller.fail_endpoint(
            endpoint.id, f"the endpoint {endpoint.name!r} was deleted"
        )
        return DeleteModelEndpointResponse(deleted=True)


def _add_reads(api: APIRouter, context: Context) -> None:
    @api.get(routes.ENDPOINTS)
    async def list_model_endpoints(
        user: Caller, name: str | None = None, order_by: EndpointOrderBy | None = None
    ) -> ListModelEndpointsResponse:
        """List the caller's endpoints, newest first unless asked otherwise."""

        def load(conn: Connection) -> list[tuple[EndpointRecord, BundleNames]]:
            order = order_by or EndpointOrderBy.NEWEST
            found = endpoint_store.list_by_owner(conn, user.owner, name, order)
            return [(endpoint, _bundle_names(conn, endpoint)) for endpoint in found]

        rows = await context.store.read(load)
        return ListModelEndpointsResponse(model_endpoints=[_response(context, *row) for row in rows])

    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}")
    async def get_model_endpoint(model_endpoint_id: str, user: Caller) -> ModelEndpointResponse:
        """Get one endpoint, with its workers and its queue as they are now."""
        return await described(context, await find_endpoint(context, model_endpoint_id, user.owner))

    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}/logs", response_model=LogsResponse, responses=_FOLLOWED)
    async def get_model_endpoint_logs(
        model_endpoint_id: str, user: User, tail_bytes: TailBytes = 65536, follow: bool = False
    ) -> Response:
        """Get the end of the logs of the endpoint's workers: what models print, and the worker's own lines.

        With `follow`, they go on as server-sent events, each `{"worker", "line"}`, until the endpoint is deleted.
        """
        endpoint = await find_endpoint(context, model_endpoint_id, user.owner)
        if follow:
            events = context.log_streams.open(
                context.controller.follow_logs(endpoint.id),
                tail_bytes,
                lambda: context.controller.looks_after(endpoint.id),
            )
            return StreamingResponse(events, media_type="text/event-stream")
        found = LogsResponse(content=await context.controller.worker_logs(endpoint.id, tail_bytes))
        return JSONResponse(found.model_dump())

    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}/events")
    async def list_model_endpoint_events(
        model_endpoint_id: str,
        user: User,
        after: Annotated[str, Query(pattern=r"^\d{1,18}$")] = "0",
        wait: Annotated[float, Query(ge=0, le=MAX_EVENTS_WAIT_SECONDS)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = MAX_EVENTS,
    ) -> ListEventsResponse:
        """List what has happened to an endpoint; with `wait`, the answer is held until there is something new."""
        endpoint = await find_endpoint(context, model_endpoint_id, user.owner)
        found = await context.controller.events.read(endpoint.id, int(after), wait, limit)
        return ListEventsResponse(
            events=[_event(record) for record in found], cursor=str(found[-1].seq) if found else after
        )

    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}/why")
    async def explain_model_endpoint(model_endpoint_id: str, user: User) -> EndpointWhy:
        """Say why an endpoint serves or does not: what it waits for, what fails, and when that is tried again."""
        endpoint = await find_endpoint(context, model_endpoint_id, user.owner)
        why = context.controller.explain(endpoint.id)
        if why is None:
            raise _not_found(model_endpoint_id)
        return why

    @api.get(routes.CREATION_LOGS + "/{name}")
    async def get_creation_logs(name: str, user: User) -> LogsResponse:
        """Get the log of the builds of an endpoint's environments."""
        endpoint = await context.store.read(lambda conn: endpoint_store.get_by_name(conn, user.owner, name))
        if endpoint is None:
            raise NotFound(f"no endpoint has the name {name!r}", code="endpoint_not_found")
        return LogsResponse(content=context.controller.creation_log(endpoint.id))


def _event(record: EventRecord) -> EndpointEvent:
    kind = EventKind(record.kind)
    return EndpointEvent.model_validate(
        {
            "kind": kind,
            "message": message_of(kind, record.detail, record.count),
            "count": record.count,
            "first_at": record.first_at,
            "last_at": record.last_at,
        }
    )


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


def current_endpoint(conn: Connection, endpoint_id: str, owner: str) -> EndpointRecord:
    """The endpoint as it stands in this transaction, which a change starts from.

    Raises:
        NotFound: the owner has no endpoint of this id.
        Conflict: it is being deleted.
    """
    endpoint = endpoint_store.get(conn, endpoint_id, owner)
    if endpoint is None:
        raise _not_found(endpoint_id)
    if endpoint.status is EndpointStatus.DELETE_IN_PROGRESS:
        raise Conflict(f"the endpoint {endpoint.name!r} is being deleted", code="endpoint_deleted")
    return endpoint


def next_generation(endpoint: EndpointRecord) -> EndpointRecord:
    """The endpoint with new workers wanted.

    Raises:
        Conflict: it has a canary, which is held against the workers that are there.
    """
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
        updated_at=time.time(),
    )


async def described(context: Context, endpoint: EndpointRecord) -> ModelEndpointResponse:
    """The endpoint as it is shown, with its workers and its queue as they are now."""
    names = await context.store.read(lambda conn: _bundle_names(conn, endpoint))
    return _response(context, endpoint, names)


def _bundle_names(conn: Connection, endpoint: EndpointRecord) -> BundleNames:
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
    """How callbacks are authenticated, as it is shown: what was once given is not told again."""
    shown = ("kind", "username", "cert")
    return auth and {name: value if name in shown else "********" for name, value in auth.items()}


def _response(context: Context, endpoint: EndpointRecord, names: BundleNames) -> ModelEndpointResponse:
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

"""Model endpoints (`/v1/model-endpoints`)."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from fastapi import Query, Response
from sqlalchemy import Connection

from openlaunch.controller.events import message_of
from openlaunch.engines.documents import LogPart
from openlaunch.errors import BadRequest, NotFound
from openlaunch.server.control.answers import InPages, InPieces, listed, pieces_of, shown, with_text
from openlaunch.server.control.context import Context
from openlaunch.server.control.endpoint_view import (
    BundleNames,
    bundle_names,
    described,
    described_with,
    workers_of,
)
from openlaunch.server.control.metrics_view import shown_troubles, time_of, troubles_of
from openlaunch.server.control.routes.callers import Admin, Caller, User, moment_of, named
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import find_endpoint, may_see, no_endpoint, visible_endpoint
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store.cluster import not_leading
from openlaunch.store.events import MAX_EVENTS
from openlaunch.store.records import EndpointRecord
from openlaunch.wire import routes
from openlaunch.wire.endpoints import (
    CreateModelEndpointRequest,
    DeleteModelEndpointResponse,
    EndpointCreationResponse,
    EndpointOrderBy,
    HandOverRequest,
    ListModelEndpointsResponse,
    LogsResponse,
    ModelEndpointResponse,
    RestartModelEndpointResponse,
    StartCanaryRequest,
    UpdateCanaryRequest,
    UpdateModelEndpointRequest,
)
from openlaunch.wire.events import MAX_EVENTS_WAIT_SECONDS, EndpointEvent, EventKind, ListEventsResponse
from openlaunch.wire.keys import ALL_OWNERS, Role
from openlaunch.wire.times import stamp_of
from openlaunch.wire.why import EndpointWhy
from openlaunch.wire.workers import ListWorkersResponse

_FOLLOWED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
JSON_LINES = "application/x-ndjson"
_RECORDED: dict[int | str, dict[str, Any]] = {200: {"content": {JSON_LINES: {"schema": {"type": "string"}}}}}
CANARY = routes.ENDPOINTS + "/{model_endpoint_id}/canary"
TailLines = Annotated[int | None, Query(ge=0)]
TailBytes = Annotated[int, Query(ge=1, le=4 * 1024 * 1024)]


def router(context: Context) -> ControlRouter:
    """Create, change, restart, delete, list and get endpoints and their canaries, and read their logs."""
    api = ControlRouter(tags=["endpoints"])
    _add_reads(api, context)
    _add_accounts(api, context)
    _add_workers(api, context)
    _add_recordings(api, context)
    _add_changes(api, context)
    _add_canaries(api, context)
    return api


def _time(name: str, given: str) -> str:
    """Return a point in time as logs have it, "" where none is given."""
    found = moment_of(name, given)
    return "" if found is None else stamp_of(found)


def _check_leads(context: Context, what: str) -> None:
    """Raise Unavailable where another server has what is asked for."""
    if not context.controller.leads:
        raise not_leading(what)


def _add_workers(api: ControlRouter, context: Context) -> None:
    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}/workers")
    async def list_model_endpoint_workers(model_endpoint_id: str, user: User) -> ListWorkersResponse:
        """List the endpoint's workers: where each stands and since when, what it runs, and on which node."""
        endpoint = await find_endpoint(context.store, model_endpoint_id, user.owner)
        _check_leads(context, "the workers")
        return ListWorkersResponse(workers=workers_of(context, endpoint))


def _add_recordings(api: ControlRouter, context: Context) -> None:
    @api.get(
        routes.ENDPOINTS + "/{model_endpoint_id}/recordings", response_class=Response, responses=_RECORDED
    )
    async def get_model_endpoint_recordings(
        model_endpoint_id: str, user: User, since: str = "", until: str = ""
    ) -> Response:
        """Get what was recorded of the endpoint's requests and answers, oldest first, as JSON lines.

        Each has `at`, `owner`, `outcome`, `input`, `answer`, and the id of its `request`, `stream` or `task`. `since`
        and `until` are points in time (ISO 8601), or how long ago: `90s`, `10m`, `2h`, `1d`.
        """
        endpoint = await find_endpoint(context.store, model_endpoint_id, user.owner)
        lines = await context.recordings.read(endpoint.id, _time("since", since), _time("until", until))
        return InPieces(lines, media_type=JSON_LINES)


def _add_changes(api: ControlRouter, context: Context) -> None:
    @api.post(routes.ENDPOINTS)
    async def create_model_endpoint(body: CreateModelEndpointRequest, user: User) -> EndpointCreationResponse:
        """Create an endpoint. Its workers start afterwards; its status shows their progress."""
        endpoint = await context.endpoints.create(user.owner, body)
        return EndpointCreationResponse(endpoint_creation_task_id=endpoint.id)

    @api.put(routes.ENDPOINTS + "/{model_endpoint_id}")
    async def update_model_endpoint(
        model_endpoint_id: str, body: UpdateModelEndpointRequest, user: User
    ) -> EndpointCreationResponse:
        """Change the given settings; new workers replace the old ones only once they are ready."""
        await context.endpoints.update(user.owner, model_endpoint_id, body)
        return EndpointCreationResponse(endpoint_creation_task_id=model_endpoint_id)

    @api.post(routes.ENDPOINTS + "/{model_endpoint_id}/restart")
    async def restart_model_endpoint(model_endpoint_id: str, user: User) -> RestartModelEndpointResponse:
        """Replace every worker by a new one, without an interruption."""
        await context.endpoints.restart(user.owner, model_endpoint_id)
        return RestartModelEndpointResponse(restarted=True)

    @api.post(routes.ENDPOINTS + "/{model_endpoint_id}/hand-over")
    async def hand_over_model_endpoint(
        model_endpoint_id: str, body: HandOverRequest, admin: Admin
    ) -> ModelEndpointResponse:
        """Make another owner the endpoint's, with a copy of its bundle; new workers replace the old ones."""
        context.keyring.check_owner(body.owner)
        endpoint = await context.endpoints.hand_over(admin.owner, model_endpoint_id, body.owner)
        return await described(context, endpoint, admin)

    @api.delete(routes.ENDPOINTS + "/{model_endpoint_id}")
    async def delete_model_endpoint(model_endpoint_id: str, user: User) -> DeleteModelEndpointResponse:
        """Delete an endpoint: running requests may finish, waiting ones are refused, and tasks end as FAILURE."""
        await context.endpoints.delete(user.owner, model_endpoint_id)
        return DeleteModelEndpointResponse(deleted=True)


def _add_reads(api: ControlRouter, context: Context) -> None:
    @api.get(routes.ENDPOINTS, response_model=ListModelEndpointsResponse)
    async def list_model_endpoints(
        user: Caller,
        name: str | None = None,
        order_by: EndpointOrderBy | None = None,
        public: bool = False,
    ) -> Response:
        """List the caller's endpoints, newest first unless asked otherwise; or the one of a `name`.

        The name `owner/name` is of another owner's public endpoint, and for admins of any. With `public`, the public
        endpoints of all owners are listed. Of another owner's endpoint is shown what its callers need.
        """
        owner, own_name = named(context, user, name, public=True)
        order = order_by or EndpointOrderBy.NEWEST

        def load(conn: Connection, ids: Sequence[str]) -> Iterator[tuple[EndpointRecord, BundleNames]]:
            for endpoint in endpoint_store.get_many(conn, ids):
                if endpoint.spec.public_inference if public else may_see(endpoint, user):
                    yield endpoint, bundle_names(conn, endpoint)

        whose = ALL_OWNERS if public else owner
        ids = await context.store.read(
            lambda conn: endpoint_store.ids_of_owner(conn, whose, own_name, order), user.owner
        )
        rows = InPages(context.store, ids, load, user.owner)
        return listed("model_endpoints", rows, lambda row: described_with(context, *row, user))

    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}")
    async def get_model_endpoint(model_endpoint_id: str, user: Caller) -> ModelEndpointResponse:
        """Get one endpoint, with its workers and its queue as they are now."""
        return await described(context, await visible_endpoint(context.store, model_endpoint_id, user), user)


def _add_accounts(api: ControlRouter, context: Context) -> None:
    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}/logs", response_model=LogsResponse, responses=_FOLLOWED)
    async def get_model_endpoint_logs(
        model_endpoint_id: str,
        user: User,
        tail_bytes: TailBytes = 65536,
        tail_lines: TailLines = None,
        since: str = "",
        until: str = "",
        timestamps: bool = False,
        follow: bool = False,
    ) -> Response:
        """Get the end of the logs of the endpoint's workers: what models print, and the worker's own lines.

        `since` and `until` are points in time (ISO 8601), or how long ago: `90s`, `10m`, `2h`, `1d`. With `follow`,
        new lines come as server-sent events, each `{"worker", "line", "at", "level"}`, until the endpoint is deleted.
        """
        if follow and until:
            raise BadRequest("until does not go with follow: leave one of them out")
        part = LogPart(tail_bytes, tail_lines, _time("since", since), _time("until", until))
        endpoint = await find_endpoint(context.store, model_endpoint_id, user.owner)
        if context.reach is None:  # else every server reads them from nodes
            _check_leads(context, "the logs")
        if follow:
            events = await context.log_streams.open(
                user.owner,
                context.controller.logs.follow(endpoint.id),
                part,
                lambda: context.controller.looks_after(endpoint.id),
            )
            return InPieces(events, media_type="text/event-stream")
        logs = context.controller.logs
        lines = await context.log_streams.read(user.owner, lambda: logs.read(endpoint.id, part))
        shown = [f"{line.at} {line.worker} " if timestamps else f"{line.worker} " for line in lines]
        text = "".join(f"{head}{line.line}\n" for head, line in zip(shown, lines, strict=True))
        return with_text(pieces_of(text))

    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}/events")
    async def list_model_endpoint_events(
        model_endpoint_id: str,
        user: User,
        after: Annotated[str, Query(pattern=r"^\d{1,18}$")] = "0",
        wait: Annotated[float, Query(ge=0, le=MAX_EVENTS_WAIT_SECONDS)] = 0,
        limit: Annotated[int, Query(ge=1, le=MAX_EVENTS)] = MAX_EVENTS,
    ) -> ListEventsResponse:
        """List what has happened to an endpoint. With `wait`, the answer is held until there is a new event."""
        endpoint = await find_endpoint(context.store, model_endpoint_id, user.owner)
        found = await context.controller.events.read(endpoint.id, int(after), wait, limit, user.owner)
        messages = [message_of(EventKind(e.kind), e.detail, e.count) for e in found]
        events = [shown(EndpointEvent, e, message=text) for e, text in zip(found, messages, strict=True)]
        return ListEventsResponse(events=events, cursor=str(found[-1].seq) if found else after)

    @api.get(routes.ENDPOINTS + "/{model_endpoint_id}/why")
    async def explain_model_endpoint(model_endpoint_id: str, user: User) -> EndpointWhy:
        """Explain why an endpoint serves or does not: what it waits for, what fails, and when the next attempt is."""
        endpoint = await find_endpoint(context.store, model_endpoint_id, user.owner)
        _check_leads(context, "the workers")
        why = context.controller.view.explain(endpoint.id)
        if why is None:
            raise no_endpoint(model_endpoint_id)
        lane = context.lanes.of(endpoint.id)
        oldest = None if lane.oldest is None else time_of(lane.oldest)
        return why.model_copy(
            update={"troubles": shown_troubles(troubles_of(lane)), "oldest_task_at": oldest}
        )

    @api.get(routes.CREATION_LOGS + "/{name:path}", response_model=LogsResponse)
    async def get_creation_logs(name: str, user: User) -> Response:
        """Get the log of the builds of an endpoint's environments."""
        owner, own_name = named(context, user, name, public=True)
        endpoint = await context.store.read(
            lambda conn: endpoint_store.get_by_name(conn, owner, own_name or ""), user.owner
        )
        if endpoint is None or (owner != user.owner and user.role is not Role.ADMIN):
            raise NotFound(f"no endpoint has the name {name!r}", code="endpoint_not_found")
        _check_leads(context, "the logs of builds")
        text = await asyncio.to_thread(context.controller.view.creation_log, endpoint.id)
        return with_text(pieces_of(text))


def _add_canaries(api: ControlRouter, context: Context) -> None:
    @api.post(CANARY)
    async def start_canary(
        model_endpoint_id: str, body: StartCanaryRequest, user: User
    ) -> ModelEndpointResponse:
        """Give a second bundle a share of the endpoint's predictions, once it is loaded."""
        endpoint = await context.endpoints.start_canary(user.owner, model_endpoint_id, body)
        return await described(context, endpoint, user)

    @api.put(CANARY)
    async def update_canary(
        model_endpoint_id: str, body: UpdateCanaryRequest, user: User
    ) -> ModelEndpointResponse:
        """Change the canary's share."""
        endpoint = await context.endpoints.set_canary_percent(user.owner, model_endpoint_id, body.percent)
        return await described(context, endpoint, user)

    @api.post(CANARY + "/promote")
    async def promote_canary(model_endpoint_id: str, user: User) -> ModelEndpointResponse:
        """Make the canary's bundle the endpoint's; its workers stay, the others leave as new ones are ready."""
        endpoint = await context.endpoints.promote_canary(user.owner, model_endpoint_id)
        return await described(context, endpoint, user)

    @api.post(CANARY + "/rollback")
    async def roll_back_canary(model_endpoint_id: str, user: User) -> ModelEndpointResponse:
        """End the canary: its workers finish their running requests, and get no new ones."""
        endpoint = await context.endpoints.roll_back_canary(user.owner, model_endpoint_id)
        return await described(context, endpoint, user)

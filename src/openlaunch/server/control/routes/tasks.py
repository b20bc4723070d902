"""Lists of tasks, looking at one, cancelling it and running it again.

Submitting and asking are in `server.task_routes`, the hot path.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

from fastapi import Header, Query, Request, Response
from pydantic import StringConstraints
from sqlalchemy import Connection

from openlaunch.controller.explain import for_callers, task_message
from openlaunch.errors import Conflict, NotFound
from openlaunch.server import clock
from openlaunch.server.accept import EVENTS, JSON, choose
from openlaunch.server.asgi import STREAM_HEADERS
from openlaunch.server.control.answers import InPieces, shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import Caller, User, moment_of
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import visible_endpoint
from openlaunch.server.queue.answering import no_task
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store.base import Store
from openlaunch.tasks import lookups, outbox
from openlaunch.tasks.lookups import TaskRecord
from openlaunch.tasks.outbox import Delivery
from openlaunch.tasks.position import Position, position
from openlaunch.tasks.states import State
from openlaunch.wire import routes
from openlaunch.wire.sse import LAST_EVENT_ID
from openlaunch.wire.tasks import (
    MAX_WAIT_SECONDS,
    CallbackSecretResponse,
    CancelTaskResponse,
    CreateTaskResponse,
    DeliveryResponse,
    DeliveryStatus,
    ListDeliveriesResponse,
    ListTasksResponse,
    PredictRequest,
    TaskProgressResponse,
    TaskStatus,
    TaskSummary,
)
from openlaunch.wire.why import MAX_AHEAD, EndpointWhy, TaskWhy

TASK = routes.ASYNC_TASKS + "/{task_id}"
_MAX_NUMBER = 10**17
_NUMBER = re.compile(r"[0-9]{1,17}")
_FOLLOWED: dict[int | str, dict[str, Any]] = {200: {"content": {EVENTS: {"schema": {"type": "string"}}}}}
MAX_PARTS = 40
"""The most looks at the store for one page."""

Labels = Annotated[
    Sequence[Annotated[str, StringConstraints(pattern="^[^=]+=", max_length=500)]], Query(max_length=20)
]


def router(context: Context) -> ControlRouter:
    """List tasks, look at one, cancel it, run it again, and send its callback again."""
    api = ControlRouter(tags=["tasks"])
    _add_tasks(api, context)
    _add_progress(api, context)
    _add_callbacks(api, context)
    return api


def _add_tasks(api: ControlRouter, context: Context) -> None:
    @api.get(routes.ASYNC_TASKS)
    async def list_tasks(
        user: Caller,
        model_endpoint_id: str | None = None,
        status: TaskStatus | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, Query(pattern=r"^\d{1,18}$")] = None,
        label: Labels = (),
        since: str = "",
        until: str = "",
    ) -> ListTasksResponse:
        """List the caller's tasks, newest first, without payloads and results.

        With `label`, such as `team=nlp`, they are of those of the caller's endpoints that have all of these labels.
        They were submitted from `since` on and before `until`, which are points in time (ISO 8601), or how long ago:
        `90s`, `10m`, `2h`, `1d`. A page may have fewer tasks than `limit`, and a `next_cursor`, where very many
        others lie between.
        """
        times = _seconds("since", since), _seconds("until", until)
        if model_endpoint_id is not None:
            await visible_endpoint(context.store, model_endpoint_id, user)
        among = None
        if label:
            wanted = dict(each.split("=", 1) for each in label)
            among = await context.store.read(
                lambda conn: endpoint_store.labelled(conn, user.owner, wanted), user.owner
            )
        state = None if status in (None, TaskStatus.UNDEFINED) else State(status)
        list_part = partial(
            lookups.list_page,
            owner=user.owner,
            endpoint_id=model_endpoint_id,
            state=state,
            among=among,
            times=times,
        )
        found, cursor = await _page(context.store, user.owner, list_part, limit, cursor)
        names = await _names(context.store, user.owner, found)
        return ListTasksResponse(tasks=[_summary(record, names) for record in found], next_cursor=cursor)

    @api.post(TASK + "/cancel")
    async def cancel_task(task_id: str, user: Caller) -> CancelTaskResponse:
        """Cancel a task: it is stopped if it runs, and ends as a FAILURE that says so."""
        return CancelTaskResponse(cancelled=await context.tasks.control.cancel(user.owner, task_id))

    @api.get(TASK + "/details")
    async def get_task_details(task_id: str, user: Caller) -> TaskSummary:
        """Get a task's summary, as the list has it: its attempts, why it failed, its times."""
        record = await context.store.read(lambda conn: lookups.get(conn, user.owner, task_id), user.owner)
        if record is None:
            raise no_task(task_id)
        return _summary(record, await _names(context.store, user.owner, [record]))

    @api.get(TASK + "/payload", response_model=PredictRequest)
    async def get_task_payload(task_id: str, user: Caller) -> Response:
        """Get a task's input, which is not kept once the task has succeeded."""
        pieces = await context.tasks.control.payload_of(user.owner, task_id)
        return InPieces(pieces, media_type="application/json")

    @api.post(TASK + "/rerun")
    async def rerun_task(
        task_id: str,
        user: Caller,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> CreateTaskResponse:
        """Run a task that failed or was cancelled once more, as a new task, and return its id."""
        user.spend(1)
        return CreateTaskResponse(
            task_id=await context.tasks.control.rerun(user.owner, task_id, idempotency_key)
        )

    @api.get(TASK + "/why")
    async def explain_task(task_id: str, user: Caller) -> TaskWhy:
        """Explain why a task is pending: its place in the queue, the slots, and what holds its endpoint up."""
        now = clock.now()
        found = await context.store.read(
            lambda conn: position(conn, user.owner, task_id, now, MAX_AHEAD), user.owner
        )
        if found is None:
            raise no_task(task_id)
        endpoint = None if found.state.done else context.controller.view.explain(found.endpoint_id)
        lane = context.lanes.get(found.endpoint_id)
        if endpoint is not None and lane is not None and lane.endpoint.owner != user.owner:
            endpoint = for_callers(endpoint)
        return task_why(task_id, found, endpoint, now, in_worker=context.tasks.runner.is_in_worker(task_id))


def _seconds(name: str, given: str) -> float | None:
    found = moment_of(name, given)
    return None if found is None else found.timestamp()


async def _page(
    store: Store,
    owner: str,
    list_part: Callable[..., tuple[list[TaskRecord], str | None]],
    limit: int,
    cursor: str | None,
) -> tuple[list[TaskRecord], str | None]:
    """Look until the page is full, in parts that are short: other owners have their turns between them."""
    found: list[TaskRecord] = []
    for _ in range(MAX_PARTS):
        rest = partial(list_part, limit=limit - len(found), cursor=cursor)
        part, cursor = await store.read(rest, owner)
        found += part
        if cursor is None or len(found) == limit:
            break
    return found, cursor


def _add_progress(api: ControlRouter, context: Context) -> None:
    @api.get(TASK + "/progress", response_model=TaskProgressResponse, responses=_FOLLOWED)
    async def get_task_progress(
        task_id: str,
        user: Caller,
        request: Request,
        after: Annotated[int, Query(ge=0, le=_MAX_NUMBER)] = 0,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)] = 0,
    ) -> Response:
        """Get a task's progress, and its partial values behind the number `after`, and wait for them.

        With `Accept: text/event-stream`, the events `partial` and `progress` come as they are said, then `end`.
        """
        follower, owner = context.tasks.follower, user.owner
        if choose(request.headers.get("accept", ""), [JSON, EVENTS]) != EVENTS:
            seen = await follower.follow(owner, task_id, after, wait)
            return Response(seen.document(), media_type=JSON)
        last = request.headers.get(LAST_EVENT_ID, "")
        seen = await follower.follow(owner, task_id, int(last) if _NUMBER.fullmatch(last) else after, 0)
        return InPieces(follower.events(owner, task_id, seen), headers=STREAM_HEADERS)


def _add_callbacks(api: ControlRouter, context: Context) -> None:
    @api.get(TASK + "/deliveries")
    async def list_deliveries(task_id: str, user: User) -> ListDeliveriesResponse:
        """Show whether the task's callback was accepted, and every attempt to send it."""

        def load(conn: Connection) -> Delivery | None:
            if lookups.get(conn, user.owner, task_id) is None:
                raise no_task(task_id)
            return outbox.of_task(conn, user.owner, task_id)

        found = await context.store.read(load, user.owner)
        return ListDeliveriesResponse(
            deliveries=[] if found is None else [DeliveryResponse.model_validate(found, from_attributes=True)]
        )

    @api.post(TASK + "/deliveries/resend")
    async def resend_delivery(task_id: str, user: User) -> DeliveryResponse:
        """Send the task's callback once more now, with the same id, so that receivers recognise it."""
        now = clock.now()
        found = await context.store.write(
            lambda conn: outbox.send_again(conn, user.owner, task_id, now), user.owner
        )
        if found is None:
            raise NotFound(f"no task with a callback has the id {task_id!r}", code="delivery_not_found")
        if found.status is DeliveryStatus.WAITING:
            raise Conflict(f"the task {task_id!r} has no result to send yet", code="task_not_done")
        context.callbacks.wake()
        return DeliveryResponse.model_validate(found, from_attributes=True)

    @api.get(routes.CALLBACK_SIGNING)
    async def get_callback_secret(user: User) -> CallbackSecretResponse:
        """Get the secret that verifies the signatures of your callbacks, in the form of Standard Webhooks."""
        return CallbackSecretResponse(secret=context.callbacks.signer.secret_of(user.owner))


def task_why(
    task_id: str, found: Position, endpoint: EndpointWhy | None, now: float, *, in_worker: bool
) -> TaskWhy:
    """Tell how a task stands, in words."""
    ahead = found.ahead
    return TaskWhy.model_validate(
        {
            "task_id": task_id,
            "status": _shown(found.state),
            "message": _explanation(found, endpoint, now, in_worker=in_worker),
            "ahead": None if ahead is None else min(ahead, MAX_AHEAD),
            "ahead_exceeds": ahead is not None and ahead > MAX_AHEAD,
            "attempts": found.attempts,
            "expires_at": None if ahead is None else found.expires_at,
            "endpoint": endpoint,
        }
    )


def _explanation(found: Position, endpoint: EndpointWhy | None, now: float, *, in_worker: bool) -> str:
    if found.state is State.STARTED and not in_worker:
        return "it is claimed for a slot: it runs as soon as the worker has taken it"
    if found.state is State.STARTED:
        return f"it runs in a worker; this is attempt {found.attempts}"
    if found.ahead is None:
        ended = "it was done: its result is there" if found.state is State.SUCCESS else "it ended as FAILURE"
        return f"{ended}: {found.reason}" if found.reason else ended
    if found.expires_at is not None and found.expires_at <= now:
        return "it has waited too long, and is about to end as FAILURE: its endpoint's task_expires_seconds"
    if endpoint is None:
        return "its endpoint is gone, and it is about to end as FAILURE"
    text = task_message(min(found.ahead, MAX_AHEAD), found.ahead > MAX_AHEAD, endpoint)
    return (
        f"{text}; it was tried {found.attempts} times: its worker {found.reason}" if found.attempts else text
    )


def _shown(state: State) -> TaskStatus:
    return TaskStatus.FAILURE if state is State.CANCELLED else TaskStatus(state)


async def _names(store: Store, owner: str, found: Sequence[TaskRecord]) -> dict[str, str]:
    """Return the names of the tasks' endpoints by id."""
    ids = {record.endpoint_id for record in found}
    return await store.read(lambda conn: endpoint_store.names(conn, ids), owner)


def _summary(record: TaskRecord, names: Mapping[str, str]) -> TaskSummary:
    return shown(
        TaskSummary,
        record,
        task_id=record.id,
        model_endpoint_id=record.endpoint_id,
        model_endpoint_name=names.get(record.endpoint_id),
        status=_shown(record.state),
    )

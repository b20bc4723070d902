"""Lists of tasks, and cancelling one. Submitting and asking are in `server.task_routes`, the hot path."""

import time
from typing import Annotated

from fastapi import APIRouter, Query
from sqlalchemy import Connection

from openlaunch.errors import Conflict, NotFound
from openlaunch.server.routes.context import Caller, Context, User
from openlaunch.server.routes.endpoints import find_endpoint
from openlaunch.server.tasks import no_task
from openlaunch.tasks import outbox, queue
from openlaunch.tasks.outbox import Delivery
from openlaunch.tasks.queue import TaskRecord
from openlaunch.tasks.states import State
from openlaunch.wire import routes
from openlaunch.wire.tasks import (
    CallbackSecretResponse,
    CancelTaskResponse,
    DeliveryResponse,
    DeliveryStatus,
    ListDeliveriesResponse,
    ListTasksResponse,
    TaskStatus,
    TaskSummary,
)


def router(context: Context) -> APIRouter:
    """List tasks, and cancel one."""
    api = APIRouter(prefix=routes.ASYNC_TASKS, tags=["tasks"])

    @api.get("")
    async def list_tasks(
        user: Caller,
        model_endpoint_id: str | None = None,
        status: TaskStatus | None = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        cursor: Annotated[str | None, Query(pattern=r"^\d{1,18}$")] = None,
    ) -> ListTasksResponse:
        """List the caller's tasks, newest first, without payloads and results."""
        if model_endpoint_id is not None:
            await find_endpoint(context, model_endpoint_id, user.owner)
        state = None if status in (None, TaskStatus.UNDEFINED) else State(status)
        page, next_cursor = await context.store.read(
            lambda conn: queue.list_page(conn, user.owner, model_endpoint_id, state, limit, cursor)
        )
        return ListTasksResponse(tasks=[_summary(record) for record in page], next_cursor=next_cursor)

    @api.post("/{task_id}/cancel")
    async def cancel_task(task_id: str, user: Caller) -> CancelTaskResponse:
        """Cancel a task; what runs of it is stopped, and its result will be a FAILURE that says so."""
        return CancelTaskResponse(cancelled=await context.tasks.cancel(user.owner, task_id))

    @api.get("/{task_id}/deliveries")
    async def list_deliveries(task_id: str, user: User) -> ListDeliveriesResponse:
        """Show whether the task's callback was taken, and every attempt to send it."""

        def load(conn: Connection) -> Delivery | None:
            if queue.get(conn, user.owner, task_id) is None:
                raise no_task(task_id)
            return outbox.of_task(conn, user.owner, task_id)

        found = await context.store.read(load)
        return ListDeliveriesResponse(deliveries=[] if found is None else [_delivery(found)])

    @api.post("/{task_id}/deliveries/resend")
    async def resend_delivery(task_id: str, user: User) -> DeliveryResponse:
        """Send the task's callback once more, now; with the same id, so that receivers can tell."""
        now = time.time()
        found = await context.store.write(lambda conn: outbox.send_again(conn, user.owner, task_id, now))
        if found is None:
            raise NotFound(f"no task with a callback has the id {task_id!r}", code="delivery_not_found")
        if found.status is DeliveryStatus.WAITING:
            raise Conflict(f"the task {task_id!r} has no result to send yet", code="task_not_done")
        context.callbacks.wake()
        return _delivery(found)

    return api


def secret_router(context: Context) -> APIRouter:
    """The secret that callbacks are signed with."""
    api = APIRouter(tags=["tasks"])

    @api.get(routes.CALLBACK_SIGNING)
    async def get_callback_secret(user: User) -> CallbackSecretResponse:
        """Get what your receivers verify the signature of callbacks with, as Standard Webhooks libraries take it."""
        return CallbackSecretResponse(secret=context.callbacks.signer.secret_of(user.owner))

    return api


def _delivery(record: Delivery) -> DeliveryResponse:
    return DeliveryResponse.model_validate(record, from_attributes=True)


def _summary(record: TaskRecord) -> TaskSummary:
    status = TaskStatus.FAILURE if record.state is State.CANCELLED else TaskStatus(record.state)
    return TaskSummary.model_validate(
        {
            "task_id": record.id,
            "model_endpoint_id": record.endpoint_id,
            "status": status,
            "status_code": record.status_code,
            "reason": record.reason,
            "attempts": record.attempts,
            "created_at": record.created_at,
            "finished_at": record.finished_at,
        }
    )

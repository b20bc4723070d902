"""Lists of tasks, and cancelling one. Submitting and asking are in `server.task_routes`, the hot path."""

from typing import Annotated

from fastapi import APIRouter, Query

from openlaunch.server.routes.context import Context, User
from openlaunch.server.routes.endpoints import find_endpoint
from openlaunch.tasks import queue
from openlaunch.tasks.queue import TaskRecord
from openlaunch.tasks.states import State
from openlaunch.wire import routes
from openlaunch.wire.tasks import CancelTaskResponse, ListTasksResponse, TaskStatus, TaskSummary


def router(context: Context) -> APIRouter:
    """List tasks, and cancel one."""
    api = APIRouter(prefix=routes.ASYNC_TASKS, tags=["tasks"])

    @api.get("")
    async def list_tasks(
        user: User,
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
    async def cancel_task(task_id: str, user: User) -> CancelTaskResponse:
        """Cancel a task; what runs of it is stopped, and its result will be a FAILURE that says so."""
        return CancelTaskResponse(cancelled=await context.tasks.cancel(user.owner, task_id))

    return api


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

"""Async tasks as rows of a list."""

from openlaunch.client.effects import Flow, Request, call, path_to, url_with
from openlaunch.client.operations.endpoints import get_model_endpoint
from openlaunch.wire import routes
from openlaunch.wire.tasks import ListTasksResponse, TaskResponse


def list_tasks(
    endpoint_name: str | None = None, status: str | None = None, limit: int = 100, cursor: str | None = None
) -> Flow[ListTasksResponse]:
    """Your tasks, newest first, of one endpoint or all, with one status or any.

    `next_cursor` of the answer is the `cursor` of the next page.
    """
    endpoint_id = (yield from get_model_endpoint(endpoint_name)).id if endpoint_name is not None else None
    query = {"model_endpoint_id": endpoint_id, "status": status, "limit": limit, "cursor": cursor}
    response = yield from call(Request("GET", url_with(routes.ASYNC_TASKS, query), idempotent=True))
    return ListTasksResponse.model_validate_json(response.body)


def get_task(task_id: str) -> Flow[TaskResponse]:
    """One task, with its result when it is done.

    Raises:
        NotFound: there is none with this id, or its result has been kept long enough.

    """
    response = yield from call(Request("GET", path_to(routes.ASYNC_TASKS, task_id), idempotent=True))
    return TaskResponse.model_validate_json(response.body)

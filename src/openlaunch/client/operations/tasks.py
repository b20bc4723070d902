"""Async tasks as rows of a list."""

from openlaunch.client.effects import Flow, Request, call, path_to, url_with
from openlaunch.client.operations.endpoints import get_model_endpoint
from openlaunch.wire import routes
from openlaunch.wire.tasks import (
    CallbackSecretResponse,
    DeliveryResponse,
    ListDeliveriesResponse,
    ListTasksResponse,
    TaskResponse,
)
from openlaunch.wire.why import TaskWhy


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


def explain_task(task_id: str) -> Flow[TaskWhy]:
    """Why a task is pending: its place in the queue, and what holds its endpoint up.

    Raises:
        NotFound: there is none with this id, or its result has been kept long enough.

    """
    response = yield from call(Request("GET", path_to(routes.ASYNC_TASKS, task_id, "why"), idempotent=True))
    return TaskWhy.model_validate_json(response.body)


def list_deliveries(task_id: str) -> Flow[list[DeliveryResponse]]:
    """A task's callback, with every attempt to send it; empty for a task without one.

    Raises:
        NotFound: there is no task with this id, or its result has been kept long enough.

    """
    path = path_to(routes.ASYNC_TASKS, task_id, "deliveries")
    response = yield from call(Request("GET", path, idempotent=True))
    return ListDeliveriesResponse.model_validate_json(response.body).deliveries


def resend_callback(task_id: str) -> Flow[DeliveryResponse]:
    """Send a task's callback once more, now.

    Raises:
        NotFound: there is no task with this id and a callback.
        Conflict: the task has not ended yet.

    """
    path = path_to(routes.ASYNC_TASKS, task_id, "deliveries", "resend")
    response = yield from call(Request("POST", path, b"{}"))
    return DeliveryResponse.model_validate_json(response.body)


def get_callback_secret() -> Flow[str]:
    """The secret that the signatures of your callbacks are verified with, as Standard Webhooks libraries take it."""
    response = yield from call(Request("GET", routes.CALLBACK_SIGNING, idempotent=True))
    return CallbackSecretResponse.model_validate_json(response.body).secret

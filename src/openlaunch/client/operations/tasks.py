"""Async tasks as rows of a list, one looked at, and run again."""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from openlaunch.client.effects import (
    IDEMPOTENCY_KEY,
    Flow,
    Request,
    asked,
    document_of,
    path_to,
    time_text,
    url_with,
)
from openlaunch.client.models import EndpointLike, answer, got
from openlaunch.client.operations.endpoints import resolved
from openlaunch.wire import routes
from openlaunch.wire.tasks import (
    CallbackSecretResponse,
    CreateTaskResponse,
    DeliveryResponse,
    ListDeliveriesResponse,
    ListTasksResponse,
    TaskResponse,
    TaskSummary,
)
from openlaunch.wire.why import TaskWhy


def list_tasks(
    endpoint_name: EndpointLike | None = None,
    status: str | None = None,
    limit: int = 100,
    cursor: str | None = None,
    owner: str | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
) -> Flow[ListTasksResponse]:
    """List your tasks, newest first.

    `next_cursor` of the answer is the `cursor` of the next page, which may have fewer tasks than `limit`.

    Args:
        endpoint_name: only tasks of this endpoint, or of the one with this name.
        status: only tasks with this status.
        limit: the most tasks in the answer.
        cursor: the `next_cursor` of the page before.
        owner: for admins: whose tasks, `"*"` for everybody's.
        labels: only tasks of endpoints that have all of these labels.
        since: only tasks that were submitted from then on: a point in time, or how long ago, such as "10m" or "2h".
        until: only tasks that were submitted before that.
    """
    endpoint_id = (yield from resolved(endpoint_name)).id if endpoint_name is not None else None
    query: dict[str, Any] = {
        "model_endpoint_id": endpoint_id,
        "status": status,
        "limit": limit,
        "cursor": cursor,
    }
    query |= {"owner": owner, "label": [f"{name}={value}" for name, value in (labels or {}).items()]}
    query |= {"since": time_text(since), "until": time_text(until)}
    return (yield from got(ListTasksResponse, url_with(routes.ASYNC_TASKS, query)))


def get_task(task_id: str) -> Flow[TaskResponse]:
    """Get a task, with its result when it is done.

    Raises:
        NotFound: no task has this id, or its result was deleted after the retention time.
    """
    return (yield from got(TaskResponse, path_to(routes.ASYNC_TASKS, task_id)))


def explain_task(task_id: str) -> Flow[TaskWhy]:
    """Explain why a task is pending: its place in the queue, and what holds its endpoint up.

    Raises:
        NotFound: no task has this id, or its result was deleted after the retention time.
    """
    return (yield from got(TaskWhy, path_to(routes.ASYNC_TASKS, task_id, "why")))


def get_task_details(task_id: str) -> Flow[TaskSummary]:
    """Get a task's summary, as `list_tasks` has it: its attempts, why it failed, its times.

    Raises:
        NotFound: no task has this id, or its result was deleted after the retention time.
    """
    return (yield from got(TaskSummary, path_to(routes.ASYNC_TASKS, task_id, "details")))


def get_task_payload(task_id: str) -> Flow[dict[str, Any]]:
    """Get what was sent with a task, such as `{"args": {…}}`.

    Raises:
        NotFound: no task has this id, or the task succeeded: then its payload is not kept.
    """
    return (
        yield from asked(
            Request("GET", path_to(routes.ASYNC_TASKS, task_id, "payload"), idempotent=True), document_of
        )
    )


def rerun_task(task_id: str) -> Flow[str]:
    """Run a task that failed or was cancelled once more, as a new task, and return its future.

    Raises:
        NotFound: no task has this id, or its endpoint was deleted.
        Conflict: it has not ended, or it has succeeded.
        Unprocessable: its args do not fit the request schema of the bundle that serves now.
    """
    path = path_to(routes.ASYNC_TASKS, task_id, "rerun")
    keyed = {IDEMPOTENCY_KEY: str(uuid.uuid4())}  # the client's own retries make no second task
    request = Request("POST", path, b"{}", keyed, idempotent=True)
    return (yield from answer(CreateTaskResponse, request)).task_id


def list_deliveries(task_id: str) -> Flow[list[DeliveryResponse]]:
    """List a task's callback, with every attempt to send it; empty for a task without one.

    Raises:
        NotFound: no task has this id, or its result was deleted after the retention time.
    """
    path = path_to(routes.ASYNC_TASKS, task_id, "deliveries")
    return (yield from got(ListDeliveriesResponse, path)).deliveries


def resend_callback(task_id: str) -> Flow[DeliveryResponse]:
    """Send a task's callback once more, now.

    Raises:
        NotFound: there is no task with this id and a callback.
        Conflict: the task has not ended yet.
    """
    path = path_to(routes.ASYNC_TASKS, task_id, "deliveries", "resend")
    return (yield from answer(DeliveryResponse, Request("POST", path, b"{}")))


def get_callback_secret() -> Flow[str]:
    """Get the secret that verifies the signatures of your callbacks, in the form of Standard Webhooks."""
    return (yield from got(CallbackSecretResponse, routes.CALLBACK_SIGNING)).secret

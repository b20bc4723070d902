"""Predictions on the wire: sync, async and streaming tasks."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from openlaunch.wire.endpoint_settings import CallbackAuth

MAX_BULK = 1000
"""The most tasks that one bulk submit or one bulk wait takes."""

MAX_PRIORITY = 100
"""The highest priority of a task; the lowest is its negative."""

MAX_WAIT_SECONDS = 60.0
"""The longest that one long poll is held open."""

CANCELLED_STATUS_CODE = 499
"""The `status_code` of a cancelled task, which distinguishes it from one that failed."""


class TaskStatus(StrEnum):
    """The contract's task states. A cancelled task is a FAILURE with the reason."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    UNDEFINED = "UNDEFINED"


class PredictRequest(BaseModel):
    """The body of an async task. Exactly one of `url` and `args` is given."""

    url: str | None = None
    args: Any = None
    cloudpickle: str | None = None
    callback_url: str | None = None
    callback_auth: CallbackAuth | None = None
    callback_progress: bool = Field(
        default=False, description="Whether progress and partial values are sent to `callback_url`, too."
    )
    return_pickled: bool = False
    destination_path: str | None = None
    timeout_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Longest time of the prediction, in seconds, up to the endpoint's; for a task, once it runs.",
    )
    priority: int | None = Field(
        default=None,
        ge=-MAX_PRIORITY,
        le=MAX_PRIORITY,
        description="Priority of an async task: those of the same owner with a higher one run first.",
    )


class SyncPredictRequest(PredictRequest):
    """The body of a sync or streaming task."""

    num_retries: int | None = Field(
        default=None, ge=0, description="Not used: the sender decides whether to send a request again."
    )


class PredictionError(BaseModel):
    """The exception that a model raised. The message has its notes and the first exceptions of a group too."""

    type: str
    message: str


class PredictResponse(BaseModel):
    """The answer to a sync task, and the data of each event of a stream.

    `result` is `{"result": <JSON text>}` (in a stream: `{"result": <item>}`), or `{"result_url": <signed
    URL>}`. `error` is there only where a model raised one, and its caller may see it.
    """

    status: TaskStatus
    result: dict[str, Any] | None = None
    traceback: str | None = None
    status_code: int | None = None
    error: PredictionError | None = None


class CreateTaskResponse(BaseModel):
    """The answer to an async task that is on disk."""

    task_id: str


class Progress(BaseModel):
    """How far a task is, from 0 to 1, and what it does, in its function's own words."""

    fraction: float
    text: str


class TaskResponse(PredictResponse):
    """GET /v1/async-tasks/{id}. `progress` is there while the task runs and has said how far it is."""

    task_id: str
    progress: Progress | None = None


class PartialValue(BaseModel):
    """A value that a task gave before its end; numbers grow."""

    number: int
    value: Any


class TaskProgressResponse(BaseModel):
    """GET /v1/async-tasks/{id}/progress. `next` goes into `after` of the next request."""

    task_id: str
    status: TaskStatus
    progress: Progress | None = None
    partials: list[PartialValue]
    next: int


class BulkCreateRequest(BaseModel):
    """POST /v1/async-tasks/bulk: up to 1,000 tasks, taken all or none."""

    requests: list[PredictRequest] = Field(min_length=1, max_length=MAX_BULK)


class BulkCreateResponse(BaseModel):
    """Ids in the order of the requests."""

    task_ids: list[str]


class BulkWaitRequest(BaseModel):
    """POST /v1/async-tasks/wait: held until at least one of the tasks is done, or `wait` seconds passed."""

    task_ids: list[str] = Field(min_length=1, max_length=MAX_BULK)
    wait: float = Field(default=30.0, ge=0, le=MAX_WAIT_SECONDS)


class BulkWaitResponse(BaseModel):
    """The tasks that are done, with their results; `pending` counts the others."""

    tasks: list[TaskResponse]
    pending: int


class TaskSummary(BaseModel):
    """One row of a list of tasks: no payload and no result."""

    task_id: str
    model_endpoint_id: str
    model_endpoint_name: str | None = Field(default=None, description="None: the endpoint is deleted.")
    owner: str | None = None
    status: TaskStatus
    status_code: int | None = None
    reason: str | None = Field(
        default=None, description="Why a task is pending again, failed or was cancelled."
    )
    attempts: int
    created_at: datetime
    finished_at: datetime | None = None


class ListTasksResponse(BaseModel):
    """GET /v1/async-tasks, newest first. `next_cursor` goes into `cursor` for the next page."""

    tasks: list[TaskSummary]
    next_cursor: str | None = None


class DeliveryStatus(StrEnum):
    """Status of a callback. WAITING: for the task's result. PENDING: to be sent. FAILED: given up."""

    WAITING = "WAITING"
    PENDING = "PENDING"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"


class DeliveryAttempt(BaseModel):
    """One POST: the receiver's status, or why there was none."""

    at: datetime
    seconds: float
    status_code: int | None = None
    error: str | None = None


class DeliveryResponse(BaseModel):
    """A task's callback; `id` is its `webhook-id` header."""

    id: str
    task_id: str
    url: str
    status: DeliveryStatus
    created_at: datetime
    next_at: datetime | None = None
    finished_at: datetime | None = None
    attempts: list[DeliveryAttempt]


class ListDeliveriesResponse(BaseModel):
    """GET /v1/async-tasks/{id}/deliveries: none for a task without a callback."""

    deliveries: list[DeliveryResponse]


class CallbackSecretResponse(BaseModel):
    """GET /v1/callback-secret: what your receivers verify the `webhook-signature` of callbacks with."""

    secret: str = Field(repr=False)


class CancelTaskResponse(BaseModel):
    """`cancelled` is False when the task, or the stream, was already done."""

    cancelled: bool

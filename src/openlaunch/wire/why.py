"""Why something is pending (`/v1/model-endpoints/{id}/why`, `/v1/async-tasks/{id}/why`)."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel

from openlaunch.wire.events import Trouble
from openlaunch.wire.tasks import TaskStatus


class ReasonCode(StrEnum):
    """Code of what holds an endpoint or a task up."""

    SERVING = "serving"
    BUSY = "busy"
    IDLE = "idle"
    MAX_WORKERS_ZERO = "max_workers_zero"
    BUILD_QUEUED = "build_queued"
    BUILDING_ENVIRONMENT = "building_environment"
    STARTING = "starting"
    WAITS_FOR_GPUS = "waits_for_gpus"
    WAITS_FOR_ROOM = "waits_for_room"
    DOES_NOT_FIT = "does_not_fit"
    CAN_NOT_LOAD = "can_not_load"
    CRASH_LOOP = "crash_loop"
    DELETING = "deleting"


class Reason(BaseModel):
    """One reason; `next_try_in` is in seconds, where something is retried automatically."""

    code: ReasonCode
    message: str
    next_try_in: float | None = None


class EndpointWhy(BaseModel):
    """Why an endpoint serves or does not. `pending`: no worker takes requests. The first reason matters most.

    `troubles` say what is wrong and since when; callers who do not own the endpoint do not see them.
    `oldest_task_at` is when the oldest task that waits was submitted, as it was up to 15 s ago.
    """

    pending: bool
    reasons: list[Reason]
    ready_workers: int
    starting_workers: int
    slots: int
    in_flight: int
    queued: int
    troubles: list[Trouble] = []
    oldest_task_at: datetime | None = None


class TaskWhy(BaseModel):
    """Why a task is pending; `message` is for people, the other fields are for programs.

    `ahead` counts the tasks that come before it, up to `MAX_AHEAD`; `ahead_exceeds` where there are more.
    `endpoint` is None once the task is done or its endpoint is gone.
    """

    task_id: str
    status: TaskStatus
    message: str
    ahead: int | None = None
    ahead_exceeds: bool = False
    attempts: int
    expires_at: datetime | None = None
    endpoint: EndpointWhy | None = None


MAX_AHEAD = 10_000

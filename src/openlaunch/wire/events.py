"""What has happened to an endpoint (`/v1/model-endpoints/{id}/events`)."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel

MAX_EVENTS_WAIT_SECONDS = 60.0
"""The longest that one long poll is held open."""


class EventKind(StrEnum):
    """Kind of an event."""

    CREATED = "created"
    UPDATED = "updated"
    RESTARTED = "restarted"
    PREFETCHING = "prefetching"
    ENVIRONMENT_BUILDING = "environment_building"
    ENVIRONMENT_BUILT = "environment_built"
    ENVIRONMENT_FAILED = "environment_failed"
    WORKER_STARTED = "worker_started"
    WORKER_ADOPTED = "worker_adopted"
    WORKER_READY = "worker_ready"
    WORKER_DRAINED = "worker_drained"
    WORKER_STOPPED = "worker_stopped"
    WORKER_ASLEEP = "worker_asleep"
    WORKER_WOKEN = "worker_woken"
    WORKER_CRASHED = "worker_crashed"
    WORKER_FAILED = "worker_failed"
    WORKER_REPLACED = "worker_replaced"
    WORKER_UNHEALTHY = "worker_unhealthy"
    SCALED_UP = "scaled_up"
    SCALED_DOWN = "scaled_down"
    ROLLED_OUT = "rolled_out"
    UPDATE_FAILED = "update_failed"
    CANARY = "canary"
    RECORDING_STOPPED = "recording_stopped"
    FAILURES_BEGAN = "failures_began"
    FAILURES_ENDED = "failures_ended"
    WAITS_BEGAN = "waits_began"
    WAITS_ENDED = "waits_ended"
    REFUSALS_BEGAN = "refusals_began"
    REFUSALS_ENDED = "refusals_ended"
    CALLBACKS_FAIL = "callbacks_fail"
    CALLBACKS_TAKEN = "callbacks_taken"
    RECOVERED = "recovered"
    QUEUE_OLD = "queue_old"
    QUEUE_CAUGHT_UP = "queue_caught_up"


class EndpointEvent(BaseModel):
    """An event, which happened `count` times from `first_at` to `last_at`; `message` is for people."""

    kind: EventKind
    message: str
    count: int
    first_at: datetime
    last_at: datetime


class Trouble(BaseModel):
    """What is wrong with an endpoint, since when, and the kind of event that says so; `message` is for people."""

    kind: EventKind
    message: str
    since: datetime


class ListEventsResponse(BaseModel):
    """Oldest first. `cursor` goes into `after` for what comes later."""

    events: list[EndpointEvent]
    cursor: str

"""Workers of an endpoint on the wire (`/v1/model-endpoints/{id}/workers`); ours, not the contract's."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field


class WorkerPhase(StrEnum):
    """Where a worker stands.

    DRAINING: it finishes what it runs. ASLEEP: its GPUs are others'. LOST: its connection ended before its process.
    """

    STARTING = "starting"
    READY = "ready"
    LOST = "lost"
    DRAINING = "draining"
    ASLEEP = "asleep"
    STOPPING = "stopping"


class WorkerEnd(StrEnum):
    """Why a worker ended.

    DRAINED: it had finished what it ran. STOPPED: it was not needed, or did not finish in time. LOAD_FAILED: it could
    not load its bundle. STUCK: something in it did not stop. LOST: its connection ended, or it broke the protocol.
    NODE_AWAY: its node is away. OUT_OF_MEMORY: the kernel killed it for want of memory. KILLED: by a SIGKILL of
    somebody else's. SIGNAL: by another signal. EXITED: nobody stopped it.
    """

    DRAINED = "drained"
    STOPPED = "stopped"
    LOAD_FAILED = "load_failed"
    STUCK = "stuck"
    LOST = "lost"
    NODE_AWAY = "node_away"
    OUT_OF_MEMORY = "out_of_memory"
    KILLED = "killed"
    SIGNAL = "signal"
    EXITED = "exited"


class WorkerResponse(BaseModel):
    """A worker whose process has not ended."""

    worker: str = Field(description="Its id, as logs have it.")
    generation: int
    phase: WorkerPhase
    since: datetime = Field(description="When it came into this phase.")
    started_at: datetime
    running: int = Field(description="Requests and tasks that it runs.")
    slots: int = Field(description="How many it may run at once.")
    node: str = Field(description="The address of its node; empty for the server's own machine.")
    reason: str | None = Field(description="Why it ends or is to be replaced, where that is known.")


class ListWorkersResponse(BaseModel):
    """GET /v1/model-endpoints/{id}/workers, oldest first."""

    workers: list[WorkerResponse]

"""Workers of an endpoint on the wire (`/v1/model-endpoints/{id}/workers`); ours, not the contract's."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field


class WorkerPhase(StrEnum):
    """Where a worker stands. DRAINING: it finishes what it runs. LOST: its connection ended before its process."""

    STARTING = "starting"
    READY = "ready"
    LOST = "lost"
    DRAINING = "draining"
    STOPPING = "stopping"


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

"""Batch jobs: one bundle over many inputs."""

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import BaseModel, Field

from openlaunch.wire.endpoint_settings import (
    MAX_PER_WORKER,
    MAX_WORKERS,
    BatchSize,
    BatchWait,
    GpuCount,
    GpuType,
)
from openlaunch.wire.prefetch import Prefetch
from openlaunch.wire.quantities import Cores, Size
from openlaunch.wire.secrets import SecretNames
from openlaunch.wire.variables import Variables

DEFAULT_TIMEOUT_SECONDS = 43200.0
DEFAULT_RESOURCES = {
    "cpus": 1,
    "memory": "2Gi",
    "storage": "4Gi",
    "gpus": 0,
    "max_workers": 10,
    "per_worker": 1,
}
MAX_TIMEOUT_SECONDS = 30 * 24 * 3600.0


class BatchJobStatus(StrEnum):
    """Status of a job. PENDING: it waits for its turn, or its inputs are being counted."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    CANCELLED = "CANCELLED"
    UNDEFINED = "UNDEFINED"
    TIMEOUT = "TIMEOUT"

    @property
    def done(self) -> bool:
        """Tell whether the status is final."""
        return self not in (BatchJobStatus.PENDING, BatchJobStatus.RUNNING)


class SerializationFormat(StrEnum):
    """Format of the file of results."""

    JSON = "JSON"
    PICKLE = "PICKLE"


class BatchJobResources(BaseModel):
    """The resources of each of the job's workers, and how its workers share the inputs.

    An omitted or null field has its default.
    """

    cpus: Cores | None = None
    memory: Size | None = None
    storage: Size | None = None
    gpus: GpuCount | None = None
    gpu_type: GpuType | None = None
    max_workers: int | None = Field(default=None, ge=1, le=MAX_WORKERS)
    per_worker: int | None = Field(default=None, gt=0, le=MAX_PER_WORKER)
    concurrent_requests_per_worker: int | None = Field(default=None, gt=0, le=MAX_PER_WORKER)
    max_batch_size: BatchSize | None = None
    max_batch_wait: BatchWait | None = None
    env: Variables | None = Field(default=None, repr=False)
    secrets: SecretNames | None = None
    prefetch: Prefetch | None = Field(default=None, repr=False)


class CreateBatchJobRequest(BaseModel):
    """POST /v1/batch-jobs."""

    model_bundle_id: str
    input_path: str
    serialization_format: SerializationFormat
    labels: dict[str, str]
    resource_requests: BatchJobResources
    timeout_seconds: float = Field(default=DEFAULT_TIMEOUT_SECONDS, gt=0, le=MAX_TIMEOUT_SECONDS)


class CreateBatchJobResponse(BaseModel):
    """The id of the new job."""

    job_id: str


class BatchJobResponse(BaseModel):
    """GET /v1/batch-jobs/{id}. `result` is a URL of the results; `duration` grows until the job has ended."""

    job_id: str
    status: BatchJobStatus
    status_reason: str | None = None
    result: str | None = None
    serialization_format: SerializationFormat
    labels: dict[str, str]
    created_at: datetime
    duration: timedelta
    num_tasks_pending: int | None = None
    num_tasks_completed: int | None = None
    owner: str | None = None


class ListBatchJobsResponse(BaseModel):
    """GET /v1/batch-jobs."""

    batch_jobs: list[BatchJobResponse]


class UpdateBatchJobRequest(BaseModel):
    """PUT /v1/batch-jobs/{id}."""

    cancel: bool


class UpdateBatchJobResponse(BaseModel):
    """Whether the job was cancelled."""

    success: bool

"""Model endpoints on the wire (`/v1/model-endpoints`)."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from openlaunch.wire.endpoint_settings import (
    MAX_PER_WORKER,
    MAX_WORKERS,
    CallbackAuth,
    EndpointSettings,
    GpuCount,
    GpuType,
    ProbationRequests,
    RecordSettings,
    RollbackAfterFailures,
    check_rule,
)
from openlaunch.wire.keys import OWNER_PATTERN
from openlaunch.wire.keywords import Quantity
from openlaunch.wire.metrics import Times
from openlaunch.wire.quantities import Cores, Size

ENDPOINT_NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
"""As Kubernetes has values of labels: letters, digits, `.`, `_` and `-`, at most 63, no sign first or last."""


class EndpointType(StrEnum):
    """How an endpoint's predictions are answered."""

    ASYNC = "async"
    SYNC = "sync"
    STREAMING = "streaming"


class EndpointStatus(StrEnum):
    """Status of an endpoint's roll-out."""

    READY = "READY"
    UPDATE_PENDING = "UPDATE_PENDING"
    UPDATE_IN_PROGRESS = "UPDATE_IN_PROGRESS"
    UPDATE_FAILED = "UPDATE_FAILED"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"


class CanaryStatus(StrEnum):
    """Status of a canary. The last two have no workers; a promoted one is the endpoint's bundle."""

    STARTING = "STARTING"
    SERVING = "SERVING"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"


class EndpointOrderBy(StrEnum):
    """How a list of endpoints is ordered."""

    NEWEST = "newest"
    OLDEST = "oldest"
    ALPHABETICAL = "alphabetical"


class CreateModelEndpointRequest(EndpointSettings):
    """POST /v1/model-endpoints."""

    name: str = Field(max_length=63, pattern=ENDPOINT_NAME_PATTERN)
    model_bundle_id: str
    endpoint_type: EndpointType
    metadata: dict[str, Any] = Field(repr=False)
    cpus: Cores
    gpus: GpuCount
    memory: Size
    storage: Size
    nodes_per_worker: int = Field(default=1, gt=0)
    min_workers: int = Field(ge=0, le=MAX_WORKERS)
    max_workers: int = Field(ge=0, le=MAX_WORKERS)
    per_worker: int = Field(gt=0, le=MAX_PER_WORKER)
    labels: dict[str, str] = Field(repr=False)
    public_inference: bool | None = False


class UpdateModelEndpointRequest(EndpointSettings):
    """PUT /v1/model-endpoints/{id}. Omitted fields stay unchanged."""

    model_bundle_id: str | None = None
    reset: bool | None = Field(
        default=None, description="Set every setting that is omitted to its default, instead of keeping it."
    )


Percent = Annotated[int, Field(ge=0, le=100)]


class HandOverRequest(BaseModel):
    """POST /v1/model-endpoints/{id}/hand-over (admin)."""

    owner: str = Field(pattern=OWNER_PATTERN, description="The new owner, who has or had a key.")


class StartCanaryRequest(BaseModel):
    """POST /v1/model-endpoints/{id}/canary. The roll-back's settings are the endpoint's where they are not given."""

    model_bundle_id: str
    percent: Percent = 10
    rollback_after_failures: RollbackAfterFailures | None = None
    probation_requests: ProbationRequests | None = None
    first_item_seconds: float | None = Field(
        default=None,
        gt=0,
        le=3600,
        description="A stream of the canary whose first item, such as a token, comes later is a failure.",
    )

    @model_validator(mode="after")
    def _rule_makes_sense(self) -> Self:
        check_rule(self.rollback_after_failures, self.probation_requests)
        return self


class UpdateCanaryRequest(BaseModel):
    """PUT /v1/model-endpoints/{id}/canary."""

    percent: Percent


class TrafficSide(BaseModel):
    """One side of a canary: its ready workers, and how its predictions have ended since the server runs.

    `ran` has the times in their workers of those that were answered.
    """

    workers: int
    requests: int
    failures: int
    ran: Times


class CanaryResponse(BaseModel):
    """An endpoint's canary, or how its last one ended.

    `percent` of the predictions go to `canary`, the others to `endpoint`.
    """

    bundle_id: str
    bundle_name: str
    percent: int
    status: CanaryStatus
    reason: str | None = None
    started_at: datetime
    rollback_after_failures: int
    probation_requests: int | None = None
    first_item_seconds: float | None = None
    canary: TrafficSide
    endpoint: TrafficSide


class EndpointCreationResponse(BaseModel):
    """The answer to creating and to updating an endpoint."""

    endpoint_creation_task_id: str


class DeleteModelEndpointResponse(BaseModel):
    """The answer to deleting an endpoint."""

    deleted: bool


class RestartModelEndpointResponse(BaseModel):
    """The answer to restarting an endpoint."""

    restarted: bool


class _State(BaseModel):
    """A model that can also be read as the dictionary which Launch's client has in its place."""

    def __getitem__(self, name: str) -> Any:
        if name not in type(self).model_fields:
            raise KeyError(name)
        return getattr(self, name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in type(self).model_fields else default

    def keys(self) -> Iterable[str]:
        """Return the names of the fields, so that `dict(state)` and `{**state}` are those of a dictionary."""
        return type(self).model_fields.keys()


class DeploymentState(_State):
    """Workers that are wanted and that run. `max_batch_*` are ours, and null where requests are not batched."""

    min_workers: int
    max_workers: int
    per_worker: int
    concurrent_requests_per_worker: int
    forwarder_max_concurrency: int | None = None
    max_batch_size: int | None = None
    max_batch_wait: float | None = None
    max_requests_per_worker: int | None = None
    max_worker_age: float | None = None
    health_interval: float | None = None
    health_timeout: float | None = None
    shutdown_timeout: float | None = None
    available_workers: int | None = None
    unavailable_workers: int | None = None


class ResourceState(_State):
    """Resources of one worker."""

    cpus: Quantity
    gpus: int = Field(description="GPUs that a worker sees; one where it shares that.")
    gpu_share: float | None = Field(
        default=None, description="The part of the GPU that is a worker's; null: all."
    )
    memory: Quantity
    gpu_type: GpuType | None = None
    storage: Quantity | None = None
    nodes_per_worker: int
    optimize_costs: bool | None = None


class PredictionCounts(BaseModel):
    """Predictions that have ended in workers, and those of them that failed.

    A prediction fails by an error of the model, a deadline that passes in the worker, or the worker's death.
    """

    predictions: int
    failures: int


class PredictionWindows(BaseModel):
    """Counts over the last times. `since` is the last deploy, or the server's start where that was later."""

    last_5_minutes: PredictionCounts
    last_hour: PredictionCounts
    since_deploy: PredictionCounts
    since: datetime


class ModelEndpointResponse(BaseModel):
    """One endpoint.

    `status_reason`, `bundle_id`, `serving_*`, `rollback_after_failures`, `probation_requests`, `canary`,
    `predictions`, `env`, `secrets`, `prefetch`, `cors_origins` and `record` are ours; the rest is the contract's.
    `bundle_*` is the newest bundle, `serving_*` the one that gets the traffic.
    """

    id: str
    name: str
    endpoint_type: EndpointType
    destination: str
    deployment_name: str | None = None
    metadata: dict[str, Any] | None = None
    bundle_name: str
    bundle_id: str | None = None
    status: EndpointStatus
    status_reason: str | None = None
    post_inference_hooks: list[str] | None = None
    default_callback_url: str | None = None
    default_callback_auth: CallbackAuth | None = None
    env: dict[str, str] | None = Field(default=None, repr=False)
    secrets: list[str] | None = None
    prefetch: list[str] | None = Field(default=None, repr=False)
    cors_origins: list[str] | None = None
    labels: dict[str, str] | None = None
    aws_role: str | None = None
    results_s3_bucket: str | None = None
    created_by: str
    created_at: datetime
    last_updated_at: datetime
    deployment_state: DeploymentState | None = None
    resource_state: ResourceState | None = None
    num_queued_items: int | None = None
    public_inference: bool | None = None
    task_expires_seconds: int | None = None
    queue_message_timeout_seconds: int | None = None
    timeout_seconds: float | None = None
    serving_bundle_id: str | None = None
    serving_bundle_name: str | None = None
    rollback_after_failures: int | None = None
    probation_requests: int | None = None
    canary: CanaryResponse | None = None
    predictions: PredictionWindows | None = None
    record: RecordSettings | None = None


class ListModelEndpointsResponse(BaseModel):
    """GET /v1/model-endpoints."""

    model_endpoints: list[ModelEndpointResponse]


class LogsResponse(BaseModel):
    """Text of an endpoint's creation log or of its workers' logs, newest lines last."""

    content: str

"""Model endpoints on the wire (`/v1/model-endpoints`)."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, model_validator

ENDPOINT_NAME_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
"""As Kubernetes has values of labels: letters, digits, `.`, `_` and `-`, at most 63, no sign first or last."""

MAX_WORKERS = 1000
MAX_PER_WORKER = 10_000
MAX_TIMEOUT_SECONDS = 7 * 24 * 3600
MAX_BATCH_SIZE = MAX_PER_WORKER // 2
"""A worker holds two batches: the one that runs, and the next."""
MAX_BATCH_WAIT_SECONDS = 10.0
DEFAULT_BATCH_WAIT_SECONDS = 0.005


class EndpointType(StrEnum):
    """How an endpoint's predictions are answered."""

    ASYNC = "async"
    SYNC = "sync"
    STREAMING = "streaming"


class EndpointStatus(StrEnum):
    """Where an endpoint's roll-out stands."""

    READY = "READY"
    UPDATE_PENDING = "UPDATE_PENDING"
    UPDATE_IN_PROGRESS = "UPDATE_IN_PROGRESS"
    UPDATE_FAILED = "UPDATE_FAILED"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"


class CanaryStatus(StrEnum):
    """Where a canary stands. The last two have no workers; one that was promoted is the endpoint's bundle."""

    STARTING = "STARTING"
    SERVING = "SERVING"
    FAILED = "FAILED"
    ROLLED_BACK = "ROLLED_BACK"


class EndpointOrderBy(StrEnum):
    """How a list of endpoints is ordered."""

    NEWEST = "newest"
    OLDEST = "oldest"
    ALPHABETICAL = "alphabetical"


class GpuType(StrEnum):
    """The contract's GPU types."""

    NVIDIA_TESLA_T4 = "nvidia-tesla-t4"
    NVIDIA_AMPERE_A10 = "nvidia-ampere-a10"
    NVIDIA_AMPERE_A100 = "nvidia-ampere-a100"
    NVIDIA_AMPERE_A100E = "nvidia-ampere-a100e"
    NVIDIA_HOPPER_H100 = "nvidia-hopper-h100"
    NVIDIA_HOPPER_H100_1G20GB = "nvidia-hopper-h100-1g20gb"
    NVIDIA_HOPPER_H100_3G40GB = "nvidia-hopper-h100-3g40gb"


class CallbackBasicAuth(BaseModel):
    """User name and password for a callback."""

    kind: Literal["basic"]
    username: str
    password: str = Field(repr=False)


class CallbackMTLSAuth(BaseModel):
    """Client certificate and key, as PEM text, for a callback."""

    kind: Literal["mtls"]
    cert: str
    key: str = Field(repr=False)


CallbackAuth = Annotated[CallbackBasicAuth | CallbackMTLSAuth, Field(discriminator="kind")]
Quantity = str | int | float
"""A Kubernetes-style quantity: 2, 0.5, "500m", "8Gi"."""
BatchSize = Annotated[int, Field(ge=0, le=MAX_BATCH_SIZE)]
"""Requests that the predict function gets at a time, as a list; 0: it gets each by itself."""
BatchWait = Annotated[float, Field(ge=0, le=MAX_BATCH_WAIT_SECONDS)]
"""Seconds that the first request of a batch waits for others."""


RollbackAfterFailures = Annotated[int, Field(ge=0, le=100)]
ProbationRequests = Annotated[int, Field(ge=1, le=1_000_000)]


def _check_rule(failures: int | None, among: int | None) -> None:
    if failures is not None and among is not None and failures > among:
        raise ValueError(
            f"rollback_after_failures is {failures}, more than probation_requests, which is {among}"
        )


class EndpointSettings(BaseModel):
    """The settings that creating and updating share; None leaves a setting as it is, or at its default."""

    metadata: dict[str, Any] | None = None
    post_inference_hooks: list[str] | None = None
    cpus: Quantity | None = None
    gpus: int | None = Field(default=None, ge=0)
    memory: Quantity | None = None
    gpu_type: GpuType | None = None
    storage: Quantity | None = None
    optimize_costs: bool | None = None
    min_workers: int | None = Field(default=None, ge=0, le=MAX_WORKERS)
    max_workers: int | None = Field(default=None, ge=0, le=MAX_WORKERS)
    per_worker: int | None = Field(default=None, gt=0, le=MAX_PER_WORKER)
    concurrent_requests_per_worker: int | None = Field(default=None, gt=0, le=MAX_PER_WORKER)
    forwarder_max_concurrency: int | None = Field(default=None, gt=0, le=20)
    labels: dict[str, str] | None = None
    prewarm: bool | None = None
    high_priority: bool | None = None
    billing_tags: dict[str, Any] | None = None
    default_callback_url: str | None = None
    default_callback_auth: CallbackAuth | None = None
    public_inference: bool | None = None
    queue_message_timeout_seconds: int | None = Field(default=None, ge=1, le=43200)
    timeout_seconds: float | None = Field(
        default=None, gt=0, le=MAX_TIMEOUT_SECONDS, description="how long one request may take"
    )
    task_expires_seconds: int | None = Field(default=None, ge=1, le=10**9)
    rollback_after_failures: RollbackAfterFailures | None = None
    probation_requests: ProbationRequests | None = None
    max_batch_size: BatchSize | None = None
    max_batch_wait: BatchWait | None = None

    @model_validator(mode="after")
    def _min_within_max(self) -> Self:
        low, high = self.min_workers, self.max_workers
        if low is not None and high is not None and high < low:
            raise ValueError(f"max_workers is {high}, less than min_workers, which is {low}")
        _check_rule(self.rollback_after_failures, self.probation_requests)
        return self


class CreateModelEndpointRequest(EndpointSettings):
    """POST /v1/model-endpoints."""

    name: str = Field(max_length=63, pattern=ENDPOINT_NAME_PATTERN)
    model_bundle_id: str
    endpoint_type: EndpointType
    metadata: dict[str, Any]
    cpus: Quantity
    gpus: int = Field(ge=0)
    memory: Quantity
    storage: Quantity
    nodes_per_worker: int = Field(default=1, gt=0)
    min_workers: int = Field(ge=0, le=MAX_WORKERS)
    max_workers: int = Field(ge=0, le=MAX_WORKERS)
    per_worker: int = Field(gt=0, le=MAX_PER_WORKER)
    labels: dict[str, str]
    public_inference: bool | None = False


class UpdateModelEndpointRequest(EndpointSettings):
    """PUT /v1/model-endpoints/{id}: only what is given changes."""

    model_bundle_id: str | None = None


Percent = Annotated[int, Field(ge=0, le=100)]


class StartCanaryRequest(BaseModel):
    """POST /v1/model-endpoints/{id}/canary. The roll-back's settings are the endpoint's where they are not given."""

    model_bundle_id: str
    percent: Percent = 10
    rollback_after_failures: RollbackAfterFailures | None = None
    probation_requests: ProbationRequests | None = None

    @model_validator(mode="after")
    def _rule_makes_sense(self) -> Self:
        _check_rule(self.rollback_after_failures, self.probation_requests)
        return self


class UpdateCanaryRequest(BaseModel):
    """PUT /v1/model-endpoints/{id}/canary."""

    percent: Percent


class TrafficSide(BaseModel):
    """One side of a canary: its ready workers, and how its predictions have ended since the server runs."""

    workers: int
    requests: int
    failures: int


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
        """The field's value, or the default when there is no such field."""
        return self[name] if name in type(self).model_fields else default

    def keys(self) -> Iterable[str]:
        """The names of the fields, so that `dict(state)` and `{**state}` are those of a dictionary."""
        return type(self).model_fields.keys()


class DeploymentState(_State):
    """Workers wanted and there. `max_batch_*` are ours, and null where requests are not batched."""

    min_workers: int
    max_workers: int
    per_worker: int
    concurrent_requests_per_worker: int
    forwarder_max_concurrency: int | None = None
    max_batch_size: int | None = None
    max_batch_wait: float | None = None
    available_workers: int | None = None
    unavailable_workers: int | None = None


class ResourceState(_State):
    """Resources of one worker."""

    cpus: Quantity
    gpus: int
    memory: Quantity
    gpu_type: GpuType | None = None
    storage: Quantity | None = None
    nodes_per_worker: int
    optimize_costs: bool | None = None


class ModelEndpointResponse(BaseModel):
    """One endpoint.

    `status_reason`, `bundle_id`, `serving_*`, `rollback_after_failures`, `probation_requests` and `canary` are
    ours; the rest is the contract's. `bundle_*` is what is wanted, `serving_*` what gets the traffic.
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


class ListModelEndpointsResponse(BaseModel):
    """GET /v1/model-endpoints."""

    model_endpoints: list[ModelEndpointResponse]


class LogsResponse(BaseModel):
    """Text of an endpoint's creation log or of its workers' logs, newest lines last."""

    content: str

"""The settings of an endpoint: what a request gives, and what the store keeps. A setting is declared here, once."""

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, model_validator

from openlaunch.wire.keywords import KEYWORD_HELP, Quantity
from openlaunch.wire.prefetch import Prefetch
from openlaunch.wire.quantities import Bytes, Cores, Size, parse_cores, parse_size
from openlaunch.wire.secrets import SecretNames
from openlaunch.wire.variables import Variables

MAX_WORKERS = 1000
MAX_PER_WORKER = 10_000
MAX_TIMEOUT_SECONDS = 7 * 24 * 3600
MAX_BATCH_SIZE = MAX_PER_WORKER // 2
"""A worker holds two batches: the one that runs, and the next."""
MAX_BATCH_WAIT_SECONDS = 10.0
DEFAULT_BATCH_WAIT_SECONDS = 0.005


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


class RecordSettings(BaseModel):
    """Which requests and answers of an endpoint are recorded, and how long they stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: float = Field(default=1.0, ge=0, le=1, description="The share of predictions; 0 ends recording.")
    max_bytes: Bytes = Field(
        default=1024**3, ge=1024**2, description="Most bytes that are kept: the oldest are deleted first."
    )
    days: float = Field(default=30, gt=0, le=3650, description="Days after which recordings are deleted.")


MAX_GPUS = 10_000


def _gpus(value: float) -> float:
    """Return whole numbers as such, and parts of one GPU; raise ValueError for anything between."""
    if value >= 1 or value == 0:
        if value != int(value):
            raise ValueError("give a whole number, or a part of one GPU such as 0.25")
        return int(value)
    if abs(value * 100 - round(value * 100)) > 1e-9:
        raise ValueError("a part of a GPU is in hundredths, such as 0.25 or 0.33")
    return value


GpuCount = Annotated[float, Field(ge=0, le=MAX_GPUS), AfterValidator(_gpus)]
"""A number of GPUs, or a part of one, from 0.01 on."""

Origin = Annotated[str, Field(pattern=r"^(\*|https?://[A-Za-z0-9.\[\]:_-]{1,250})$")]
CorsOrigins = Annotated[list[Origin], Field(max_length=50)]
BatchSize = Annotated[int, Field(ge=0, le=MAX_BATCH_SIZE)]
BatchWait = Annotated[float, Field(ge=0, le=MAX_BATCH_WAIT_SECONDS)]
RollbackAfterFailures = Annotated[int, Field(ge=0, le=100)]
ProbationRequests = Annotated[int, Field(ge=1, le=1_000_000)]


def check_rule(failures: int | None, among: int | None) -> None:
    """Refuse a roll-back that could never happen.

    Raises:
        ValueError: it takes more failures than there are predictions in the window.
    """
    if failures is not None and among is not None and failures > among:
        raise ValueError(
            f"rollback_after_failures is {failures}, more than probation_requests, which is {among}"
        )


def _describe(schema: dict[str, JsonValue]) -> None:
    """Add the keywords' texts to the JSON schema."""
    properties = schema["properties"]
    assert isinstance(properties, dict)
    for name, text in KEYWORD_HELP.items():
        if isinstance(field := properties.get(name), dict):
            field["description"] = text


class EndpointSettings(BaseModel):
    """The settings that creating and updating share; None leaves a setting as it is, or at its default.

    `wire.keywords` describes those that have a keyword.
    """

    model_config = ConfigDict(json_schema_extra=_describe)

    # Users put what they like into free-form settings and into the URL's query: no log and no traceback shows them.
    metadata: dict[str, Any] | None = Field(default=None, repr=False)
    post_inference_hooks: list[str] | None = None
    cpus: Cores | None = None
    gpus: GpuCount | None = None
    memory: Size | None = None
    gpu_type: GpuType | None = None
    storage: Size | None = None
    optimize_costs: bool | None = Field(default=None, description="Not supported: true is refused.")
    min_workers: int | None = Field(default=None, ge=0, le=MAX_WORKERS)
    max_workers: int | None = Field(default=None, ge=0, le=MAX_WORKERS)
    per_worker: int | None = Field(default=None, gt=0, le=MAX_PER_WORKER)
    concurrent_requests_per_worker: int | None = Field(default=None, gt=0, le=MAX_PER_WORKER)
    forwarder_max_concurrency: int | None = Field(
        default=None,
        gt=0,
        le=20,
        description="Upper bound of the requests that one worker runs at the same time.",
    )
    env: Variables | None = Field(default=None, repr=False)
    secrets: SecretNames | None = None
    prefetch: Prefetch | None = Field(default=None, repr=False)
    labels: dict[str, str] | None = Field(default=None, repr=False)
    prewarm: bool | None = Field(
        default=None, description="Start one worker for a new bundle even where min_workers is 0."
    )
    high_priority: bool | None = None
    billing_tags: dict[str, Any] | None = Field(
        default=None, repr=False, description="Labels for accounting; recorded, and not shown."
    )
    default_callback_url: str | None = Field(default=None, repr=False)
    default_callback_auth: CallbackAuth | None = None
    public_inference: bool | None = None
    cors_origins: CorsOrigins | None = None
    queue_message_timeout_seconds: int | None = Field(default=None, ge=1, le=43200)
    timeout_seconds: float | None = Field(default=None, gt=0, le=MAX_TIMEOUT_SECONDS)
    task_expires_seconds: int | None = Field(default=None, ge=1, le=10**9)
    rollback_after_failures: RollbackAfterFailures | None = None
    probation_requests: ProbationRequests | None = None
    max_batch_size: BatchSize | None = None
    max_batch_wait: BatchWait | None = None
    max_requests_per_worker: int | None = Field(default=None, ge=0, le=10**9)
    max_worker_age: float | None = Field(default=None, ge=0, le=10**9)
    health_interval: float | None = Field(default=None, ge=0.1, le=86400)
    health_timeout: float | None = Field(default=None, gt=0, le=600)
    shutdown_timeout: float | None = Field(default=None, gt=0, le=600)
    record: RecordSettings | None = None

    @model_validator(mode="after")
    def _min_within_max(self) -> Self:
        low, high = self.min_workers, self.max_workers
        if low is not None and high is not None and high < low:
            raise ValueError(f"max_workers is {high}, less than min_workers, which is {low}")
        check_rule(self.rollback_after_failures, self.probation_requests)
        return self


class Batching(NamedTuple):
    """How a worker gathers requests for one call: `max_size` of them, of which the first waits `max_wait` seconds."""

    max_size: int
    max_wait: float


class EndpointSpec(EndpointSettings):
    """All settings of one endpoint, as the store keeps them. Quantities keep their spelling."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_workers: int
    max_workers: int
    per_worker: int
    cpus: Quantity
    memory: Quantity
    storage: Quantity
    gpus: GpuCount = 0
    nodes_per_worker: int = 1

    def changed(self, settings: EndpointSettings) -> Self:
        """Return the spec with what `settings` gives; the values were checked when `settings` was made."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        given = {name: value for name in values if (value := getattr(settings, name, None)) is not None}
        values |= given
        if settings.max_workers is None:
            values["max_workers"] = max(values["max_workers"], values["min_workers"])
        if not values["max_batch_size"]:
            values |= {"max_batch_size": None, "max_batch_wait": None}
        return self.model_construct(**values)

    @cached_property
    def cores(self) -> float:
        return parse_cores(self.cpus)

    @cached_property
    def memory_bytes(self) -> int:
        return parse_size(self.memory)

    @property
    def slots(self) -> int:
        """How many requests one worker has at a time: with batching the batch that runs and the next, at least.

        `per_worker` is how many it should have before another worker is started: the same, unless another number
        was asked for.
        """
        slots = self.concurrent_requests_per_worker or self.per_worker
        slots = min(slots, self.forwarder_max_concurrency or slots)
        return slots if not self.max_batch_size else max(slots, 2 * self.max_batch_size)

    @property
    def full(self) -> int:
        """How many requests keep one worker busy, before another is started: `per_worker`, or a whole batch."""
        return max(self.per_worker, self.max_batch_size or 0)

    @property
    def hook_seconds(self) -> dict[str, float]:
        """The times of the bundle's hooks that were given."""
        names = ("health_interval", "health_timeout", "shutdown_timeout")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    @property
    def batching(self) -> Batching | None:
        if not self.max_batch_size:
            return None
        wait = DEFAULT_BATCH_WAIT_SECONDS if self.max_batch_wait is None else self.max_batch_wait
        return Batching(self.max_batch_size, wait)

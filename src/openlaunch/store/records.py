"""The durable records as plain values. Times are seconds since the epoch."""

from dataclasses import dataclass, field
from typing import Any

from openlaunch.wire.batch_jobs import BatchJobStatus, SerializationFormat
from openlaunch.wire.bundles import Flavor
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import CanaryStatus, EndpointStatus, EndpointType
from openlaunch.wire.keys import Role

LIVE_CANARY = (CanaryStatus.STARTING, CanaryStatus.SERVING)


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key; `digest` is the SHA-256 of the key, which itself is stored nowhere.

    From `expires_at` on it is refused. The last five are its limits on predictions; None: unlimited.
    """

    id: str
    owner: str
    role: Role
    prefix: str
    digest: bytes = field(repr=False)
    created_at: float
    revoked_at: float | None = None
    expires_at: float | None = None
    requests_per_second: float | None = None
    burst: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """A secret of an owner, encrypted."""

    owner: str
    name: str
    sealed: bytes = field(repr=False)
    updated_at: float


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """A change that somebody made or tried to make: who, from where, what, and the status it was answered with.

    `action` is the name of the operation, as in the OpenAPI document. `key_id` is None for what was done with a
    signed URL, and both it and `address` for what the server did without a request.
    """

    at: float
    key_id: str | None
    owner: str | None
    address: str | None
    action: str
    method: str
    path: str
    object_id: str | None
    summary: dict[str, Any]
    status: int
    times: int = 1
    """How often the same was refused, the last time at `at`; 1 for a change."""
    object_owner: str | None = None
    """Whose the object is, where an admin acted for another owner."""


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """A model bundle. `schemas` is the JSON that `schema_location` held.

    `version` counts the owner's bundles of the name; storing a bundle sets it.
    """

    id: str
    owner: str
    name: str
    flavor: Flavor = field(repr=False)
    metadata: dict[str, Any] = field(repr=False)
    schema_location: str | None
    schemas: dict[str, Any]
    created_at: float
    version: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """An uploaded file; its bytes are the artifact `key`."""

    id: str
    owner: str
    filename: str
    size: int
    key: str
    created_at: float
    purpose: str | None = None
    """What it is for, as clients of OpenAI's API say."""


@dataclass(frozen=True, slots=True)
class CanaryRecord:
    """A second bundle that gets `percent` of an endpoint's predictions, or how the last one ended.

    Its workers are a generation of their own, whose number is above the endpoint's. The last three are the rule of
    its roll-back.
    """

    bundle_id: str
    generation: int
    percent: int
    status: CanaryStatus
    reason: str | None
    started_at: float
    rollback_after_failures: int = 0
    probation_requests: int | None = None
    first_item_seconds: float | None = None
    """A stream whose first item takes longer in its worker is a failure."""


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """A model endpoint.

    `generation` grows with every change that needs new workers (bundle, resources, `per_worker`, restart).
    `ready_*` name the last generation whose workers became ready, its bundle and its spec: it keeps serving when a
    newer one can't load. `rejected_generation` is a newest one that was rolled back because its first predictions
    failed: no further worker of it is started.
    """

    id: str
    owner: str
    name: str
    endpoint_type: EndpointType
    bundle_id: str
    generation: int
    spec: EndpointSpec
    status: EndpointStatus
    status_reason: str | None
    created_at: float
    updated_at: float
    ready_generation: int | None = None
    ready_bundle_id: str | None = None
    rejected_generation: int | None = None
    canary: CanaryRecord | None = None
    ready_spec: EndpointSpec | None = None

    def spec_of(self, generation: int) -> EndpointSpec:
        """Return the spec of a generation's workers: for an old one, the spec with which it became ready."""
        old = generation == self.ready_generation != self.generation
        return self.ready_spec if old and self.ready_spec is not None else self.spec

    def bundle_of(self, generation: int) -> str | None:
        """Return the bundle of a generation that may serve; None for any other generation."""
        if generation == self.generation:
            return self.bundle_id
        if generation == self.ready_generation:
            return self.ready_bundle_id
        live = self.live_canary
        return live.bundle_id if live is not None and generation == live.generation else None

    @property
    def serving_bundle_id(self) -> str:
        """Name the bundle that gets the traffic: the old one until a newer one is ready."""
        if self.status is EndpointStatus.READY or self.ready_bundle_id is None:
            return self.bundle_id
        return self.ready_bundle_id

    @property
    def replaces_another(self) -> bool:
        """Whether the newest generation has one before it that it could be rolled back to."""
        return self.ready_generation not in (None, self.generation)

    @property
    def is_rejected(self) -> bool:
        """Whether the newest generation was rolled back because its first predictions failed."""
        return self.rejected_generation == self.generation

    @property
    def live_canary(self) -> CanaryRecord | None:
        """Return the canary, if there is one that has not ended."""
        live = self.canary is not None and self.canary.status in LIVE_CANARY
        return self.canary if live else None

    @property
    def next_generation(self) -> int:
        """Return a number that no generation of this endpoint has had."""
        return max(self.generation, self.canary.generation if self.canary else 0) + 1


@dataclass(frozen=True, slots=True)
class ImageJobBundleRecord:
    """What docker-image batch jobs run. `resources` are those given, as JSON of the wire."""

    id: str
    owner: str
    name: str
    image_repository: str
    image_tag: str
    command: list[str]
    env: dict[str, str] = field(repr=False)
    mount_location: str | None
    resources: dict[str, Any]
    public: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class ImageJobRecord:
    """A docker-image batch job. Of a trigger's jobs, there is one for each `due_at`.

    `held` is what it holds of the engine's machine while it runs, in the engine's own words. `max_runtime` is in
    seconds.
    """

    id: str
    owner: str
    bundle_id: str
    status: BatchJobStatus
    status_reason: str | None
    job_config: dict[str, Any] | None = field(repr=False)
    labels: dict[str, str] = field(repr=False)
    spec: EndpointSpec
    max_runtime: float
    override_max_runtime: int | None
    created_at: float
    trigger_id: str | None = None
    due_at: float | None = None
    held: str = ""
    started_at: float | None = None
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class TriggerRecord:
    """A cron trigger. `next_at` is when it fires next.

    It starts image jobs of the bundle, or submits tasks with `args` to its owner's async endpoint of that name, and
    then has what came of the last time.
    """

    id: str
    owner: str
    name: str
    cron_schedule: str
    bundle_id: str | None
    default_job_config: dict[str, Any] | None = field(repr=False)
    default_job_metadata: dict[str, str] | None = field(repr=False)
    suspended: bool
    next_at: float
    created_at: float
    endpoint_name: str | None = None
    args: dict[str, Any] | None = field(default=None, repr=False)
    last_at: float | None = None
    last_task_id: str | None = None
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class JobEnd:
    """How a job of either kind ended; only a batch job has a number of inputs and a file of results."""

    status: BatchJobStatus
    reason: str | None = None
    completed: int | None = None
    result_key: str | None = None


@dataclass(frozen=True, slots=True)
class ModelBatchRecord:
    """A batch of requests to models. `total` is the number of lines, once they were counted.

    `completed` and `failed` are set with the files of answers and errors, once it has ended; `cleared` once no task
    is left of it.
    """

    id: str
    owner: str
    status: BatchJobStatus
    endpoint: str
    """The route of all its requests."""

    input_file_id: str
    input_key: str
    completion_window: str
    key_id: str
    """The key that pays for its tokens."""

    created_at: float
    expires_at: float
    metadata: dict[str, str] = field(default_factory=dict, repr=False)
    status_reason: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    completions: dict[str, Any] | None = field(default=None, repr=False)
    """What was asked of a batch that llm-engine's client made: its answers are written as that client reads them."""

    usage: dict[str, int] | None = None
    """The tokens of its answers, as their engines said, once the files are written."""

    cleared: bool = False


@dataclass(frozen=True, slots=True)
class BatchJobRecord:
    """A batch job. `total` is the number of inputs, once they were counted; `completed` is set when it ends.

    `cleared` once it has ended and its endpoint and tasks are gone.
    """

    id: str
    owner: str
    bundle_id: str
    status: BatchJobStatus
    status_reason: str | None
    input_key: str
    serialization_format: SerializationFormat
    labels: dict[str, str] = field(repr=False)
    spec: EndpointSpec
    timeout_seconds: float
    created_at: float
    finished_at: float | None = None
    total: int | None = None
    completed: int | None = None
    result_key: str | None = None
    cleared: bool = False

"""The durable records as plain values. Times are seconds since the epoch."""

from dataclasses import dataclass, field
from typing import Any

from openlaunch.wire.batch_jobs import BatchJobStatus, SerializationFormat
from openlaunch.wire.endpoints import DEFAULT_BATCH_WAIT_SECONDS, EndpointStatus, EndpointType
from openlaunch.wire.keys import Role


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key; `digest` is the SHA-256 of the key, which itself is stored nowhere."""

    id: str
    owner: str
    role: Role
    prefix: str
    digest: bytes = field(repr=False)
    created_at: float
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """A model bundle. `flavor` is the wire's flavour as JSON; `schemas` the JSON that `schema_location` held."""

    id: str
    owner: str
    name: str
    flavor: dict[str, Any]
    metadata: dict[str, Any]
    schema_location: str | None
    schemas: dict[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class FileRecord:
    """An uploaded file; its bytes are the artifact `key`."""

    id: str
    owner: str
    filename: str
    size: int
    key: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Batching:
    """How a worker gathers requests for one call: `max_size` of them, of which the first waits `max_wait` seconds."""

    max_size: int
    max_wait: float


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """What a user asked for, all values normalised: `cpus` in cores, `memory` and `storage` in bytes."""

    min_workers: int
    max_workers: int
    per_worker: int
    cpus: float
    memory: int
    storage: int
    gpus: int = 0
    gpu_type: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """The contract's other fields as they came: labels, metadata, hooks, callback, the quantities' spelling."""

    @property
    def slots(self) -> int:
        """How many requests one worker has at a time: with batching the batch that runs and the next, at least.

        `per_worker` is how many it should have before another worker is started: the same, unless it was asked
        for otherwise.
        """
        slots: int = self.extra.get("concurrent_requests_per_worker") or self.per_worker
        slots = min(slots, self.extra.get("forwarder_max_concurrency") or slots)
        return slots if self.batching is None else max(slots, 2 * self.batching.max_size)

    @property
    def full(self) -> int:
        """How many requests keep one worker busy, before another is started: `per_worker`, or a whole batch."""
        return self.per_worker if self.batching is None else max(self.per_worker, self.batching.max_size)

    @property
    def batching(self) -> Batching | None:
        """None where each request runs by itself."""
        size = self.extra.get("max_batch_size")
        if not size:
            return None
        return Batching(size, self.extra.get("max_batch_wait", DEFAULT_BATCH_WAIT_SECONDS))


@dataclass(frozen=True, slots=True)
class EndpointRecord:
    """A model endpoint.

    `generation` grows with every change that needs new workers (bundle, resources, `per_worker`, restart).
    `ready_*` name the last generation whose workers became ready, and its bundle: what goes on serving when a
    newer one can't load.
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


@dataclass(frozen=True, slots=True)
class DockerImageBundleRecord:
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
class DockerImageJobRecord:
    """A docker-image batch job. Of a trigger's jobs, there is one for each `due_at`.

    `gpu_indices` are those that it holds while it runs. `max_runtime` is in seconds.
    """

    id: str
    owner: str
    bundle_id: str
    status: BatchJobStatus
    status_reason: str | None
    job_config: dict[str, Any] | None = field(repr=False)
    labels: dict[str, str]
    spec: EndpointSpec
    max_runtime: float
    override_max_runtime: int | None
    created_at: float
    trigger_id: str | None = None
    due_at: float | None = None
    gpu_indices: list[int] = field(default_factory=list)
    started_at: float | None = None
    finished_at: float | None = None


@dataclass(frozen=True, slots=True)
class TriggerRecord:
    """A cron trigger. `next_at` is when it fires next."""

    id: str
    owner: str
    name: str
    cron_schedule: str
    bundle_id: str
    default_job_config: dict[str, Any] | None = field(repr=False)
    default_job_metadata: dict[str, str] | None
    suspended: bool
    next_at: float
    created_at: float


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
    labels: dict[str, str]
    spec: EndpointSpec
    timeout_seconds: float
    created_at: float
    finished_at: float | None = None
    total: int | None = None
    completed: int | None = None
    result_key: str | None = None
    cleared: bool = False

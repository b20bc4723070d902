"""The server's settings: command-line options, else `OPENLAUNCH_*` environment variables, else the defaults.

Each part of the server takes the class that holds what it needs. `Settings` is all of them together. Sizes are in
bytes, and may be given with a unit; times are in seconds, and a name that ends in `_seconds` or `_bytes` says which.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from openlaunch.wire.keywords import QUOTA_HELP
from openlaunch.wire.quantities import Bytes

MIB = 1024 * 1024
DAY = 24 * 3600


class _Part(BaseModel):
    model_config = ConfigDict(defer_build=True)  # a start of the server needs the schema of the whole alone


class BodySettings(_Part):
    """The size of request bodies."""

    max_body_bytes: Bytes = Field(
        default=64 * MIB,
        ge=1024,
        le=1000 * MIB,
        description="Largest request body; a larger one is refused with 413.",
    )


class UrlSettings(_Part):
    """The URLs under which clients reach the server."""

    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#]+(/[^?#]*)?$",
        description="URL under which clients and receivers of callbacks reach this server, with the path that a "
        "proxy adds; default: what the request and trusted proxies say, and for callbacks the server's own address.",
    )
    trusted_proxies: str = Field(
        default="127.0.0.1,::1",
        description="Addresses and networks, with `,` between them, of proxies whose `Forwarded` and `X-Forwarded-*` "
        "headers are believed; `*` believes everybody.",
    )


class AnswerSettings(_Part):
    """The memory of answers."""

    max_answers_bytes: Bytes = Field(
        default=256 * MIB,
        ge=0,
        description="Memory for large answers: one half for those on their way from workers, which wait past it; the "
        "other for those over 64 KiB whose clients read slowly, which past it wait in files.",
    )


class HttpSettings(BodySettings, AnswerSettings, UrlSettings):
    """The HTTP server."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 picks a free one.")
    tls_cert: Path | None = Field(
        default=None,
        description="PEM file with the certificate and its chain; with it the server speaks HTTPS.",
    )
    tls_key: Path | None = Field(
        default=None, description="PEM file with the certificate's key; by default the key is in `tls_cert`."
    )
    access_log: str = Field(
        default="off",
        pattern=r"^(errors:)?[^:\n]",
        description="Lines for requests on stderr: `off`, `errors` (what failed) or `all`. The name of a file "
        "has all lines written there, and `errors:FILE` those of what failed.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text",
        description="How the log and the access log are written: as text, or each line as JSON.",
    )
    cors_origins: str = Field(
        default="",
        description="Origins, with `,` between them, whose pages may call the server from a browser, such as "
        "`https://app.example`; `*` allows all, the default none.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port of 127.0.0.1 on which `/metrics` is open without a key; 0 picks a free one; default: none.",
    )
    grpc_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port of `host` on which the Open Inference Protocol is served over gRPC, with the server's "
        "certificate where it has one; 0 picks a free one; default: none. It needs the extra `grpc`.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#]+(/[^?#]*)?$",
        description="Receiver of OpenTelemetry's spans by OTLP over HTTP, such as `http://localhost:4318`; "
        "default: none. It needs the extra `otel`.",
    )
    trace_ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the requests that are traced where they name no parent; with one, the parent decides.",
    )
    max_connections: int = Field(
        default=10_000,
        ge=1,
        description="Open HTTP connections; past the limit, idle ones are closed, or further ones get 503. "
        "Where gRPC is served, an eighth of them is for it.",
    )
    max_bodies_bytes: Bytes = Field(
        default=1024 * MIB,
        ge=1024,
        description="Memory for the bodies over 4 KiB of all requests under way; past it they get 503.",
    )
    write_timeout_seconds: float = Field(
        default=60,
        gt=0,
        description="Time in which a client has to read something of what it is sent; then its connection is closed.",
    )
    read_timeout_seconds: float = Field(
        default=30, gt=0, description="Time a client has to send a request's head, and each KiB of its body."
    )


class StreamSettings(_Part):
    """Streams that can be resumed."""

    stream_resume_seconds: float = Field(
        default=10,
        ge=0,
        description="How long a resumable stream waits for a client that lost its connection; 0 turns resuming off.",
    )
    stream_replay_bytes: Bytes = Field(
        default=4 * MIB,
        ge=0,
        description="Latest events of one resumable stream that are kept for its client.",
    )
    max_replay_bytes: Bytes = Field(
        default=128 * MIB, ge=0, description="Latest events that are kept for all resumable streams together."
    )


class ResultSettings(_Part):
    """What happens to results."""

    check_responses: bool = Field(
        default=False, description="Check sync and async results against the bundle's response schema."
    )
    inline_bytes: Bytes = Field(
        default=256 * 1024,
        ge=0,
        description="Payloads and results up to this size are stored in the database, larger ones as artifacts.",
    )
    result_retention_seconds: float = Field(
        default=DAY,
        gt=0,
        description="How long results of tasks and answers to an `Idempotency-Key` are kept.",
    )


class GatewaySettings(StreamSettings, ResultSettings):
    """Sync and streaming predictions."""

    request_timeout_seconds: float = Field(default=300, gt=0, description="Deadline of a sync request.")
    stream_timeout_seconds: float = Field(
        default=3600, gt=0, description="Deadline for the whole of a stream."
    )


class QueueSettings(ResultSettings):
    """The durable queue of tasks."""

    max_queued_tasks: int = Field(
        default=1_000_000, ge=1, description="Tasks that may wait for one endpoint; further ones get 429."
    )
    task_timeout_seconds: float = Field(default=DAY, gt=0, description="How long a task may run.")
    task_expires_seconds: float = Field(
        default=DAY, gt=0, description="How long a task may wait for a worker."
    )
    task_max_attempts: int = Field(
        default=3, ge=1, description="Attempts at a task whose worker dies; then the task fails."
    )
    queue_old_seconds: float = Field(
        default=600,
        gt=0,
        description="How long an endpoint's oldest task may wait before an event and a notification say so.",
    )
    lease_seconds: float = Field(
        default=15, gt=1, description="How long a claimed task stays leased to this server without renewal."
    )

    @property
    def max_queued_tasks_of_one(self) -> int:
        """Limit of one owner's tasks at an endpoint; the last tenth is for owners with few tasks there."""
        return self.max_queued_tasks - self.max_queued_tasks // 10


class JobSettings(BodySettings):
    """Batch jobs and docker-image batch jobs."""

    max_running_batch_jobs: int = Field(
        default=16,
        ge=1,
        description="Batch jobs that run at once, up to half of them of one owner; further ones wait.",
    )
    max_batch_inputs: int = Field(
        default=10_000_000, ge=1, description="Inputs of one batch job; a larger job fails."
    )
    image_job_timeout_seconds: float = Field(
        default=DAY, gt=0, description="How long a docker-image batch job may run."
    )
    batch_retention_seconds: float = Field(
        default=7 * DAY, gt=0, description="How long an ended batch job and its results are kept."
    )


class OutboundSettings(_Part):
    """Connections that a user's input asks for."""

    url_timeout_seconds: float = Field(
        default=60, gt=0, description="Time for fetching an input that a request names by `url`."
    )
    private_addresses: bool = Field(
        default=True,
        description="Allow inputs by `url`, and callbacks, to use private addresses, including this machine's own.",
    )


class CallbackSettings(OutboundSettings, UrlSettings):
    """Callbacks."""

    callback_timeout_seconds: float = Field(
        default=15, gt=0, description="Time for one attempt to send a callback."
    )
    callback_ca_file: Path | None = Field(
        default=None,
        description="PEM file with the certificates that callbacks trust; default: the system's.",
    )


class WorkerSettings(BodySettings, AnswerSettings, OutboundSettings):
    """Workers, and what waits for them."""

    max_queued_requests: int = Field(
        default=1000,
        ge=1,
        description="Sync and streaming requests that may wait for one endpoint; then 429.",
    )
    max_result_bytes: Bytes = Field(
        default=64 * MIB, ge=1024, le=500 * MIB, description="Largest result; a larger one is a FAILURE."
    )
    interrupt_grace_seconds: float = Field(
        default=5, gt=0, description="Time a cancelled prediction has to stop before its worker is replaced."
    )


class ContainerSettings(_Part):
    """Container images."""

    container_engine: str = Field(
        default="", description="podman or docker with its global options; default: the one found in PATH."
    )
    container_run_options: str = Field(default="", description="Further options for each container's `run`.")
    triton_image: str = Field(
        default="nvcr.io/nvidia/tritonserver", min_length=1, description="Repository of Triton's image."
    )
    model_repositories: Path | None = Field(
        default=None,
        description="Folder whose subfolders `triton_model_repository` may name; by default no folder may be named.",
    )
    image_pull_seconds: float = Field(default=1800, gt=0, description="Time for fetching a container image.")


def _lists_packages(given: SecretStr) -> SecretStr:
    if not all(re.match(r" *(https?://|file:///|/)\S+ *$", place) for place in _items(given)):
        raise ValueError("URLs, or folders from / on, are needed, with , between them")
    return given


def _items(given: SecretStr) -> list[str]:
    return [place for place in given.get_secret_value().split(",") if place]


PackagePlaces = Annotated[SecretStr, AfterValidator(_lists_packages)]
"""URLs and folders, with `,` between them; secret, because a URL may hold a password."""


class EnvironmentSettings(_Part):
    """Where builds of environments find packages; in place of uv's own variables of the server."""

    torch_backend: str = Field(
        default="",
        pattern=r"^[a-z0-9.]*$",
        description="Build of PyTorch that environments get, as `uv pip install --torch-backend` takes it: `cpu`, "
        "`auto` for what the machine's GPUs need, or such as `cu128`; default: the index's own.",
    )
    extra_index_urls: PackagePlaces = Field(
        default=SecretStr(""),
        description="Indexes, with `,` between them, that are looked at before the default one. Builds can read "
        "their passwords.",
    )
    find_links: PackagePlaces = Field(
        default=SecretStr(""),
        description="Folders of wheels, and pages that link to some, with `,` between them, looked at beside the "
        "indexes.",
    )


class BundleSettings(_Part):
    """Model bundles."""

    kept_bundle_versions: int | None = Field(
        default=None,
        ge=1,
        description="Newest bundles of each name that are kept, beside all that are in use; older ones are deleted a "
        "day after they were made; default: all are kept.",
    )


class AuditSettings(_Part):
    """The audit log."""

    audit_retention_seconds: float = Field(
        default=90 * DAY, gt=0, description="How long entries of the audit log are kept."
    )
    max_audit_entries: int = Field(
        default=1_000_000,
        ge=1,
        description="Changes in the audit log; past the limit the oldest of the owner with the most are removed.",
    )


def _quota(name: str) -> Any:
    return Field(
        default=None,
        ge=0,
        description=f"{QUOTA_HELP[name]} Holds where no admin has set it; default: no limit.",
    )


class QuotaSettings(_Part):
    """How much an owner may have for whom admins have set nothing else; None: unlimited."""

    quota_endpoints: int | None = _quota("endpoints")
    quota_workers: int | None = _quota("workers")
    quota_cpus: float | None = _quota("cpus")
    quota_memory: Bytes | None = _quota("memory")
    quota_gpus: int | None = _quota("gpus")
    quota_queued_tasks: int | None = _quota("queued_tasks")
    quota_stored_bytes: Bytes | None = _quota("stored_bytes")
    quota_tokens_per_minute: int | None = _quota("tokens_per_minute")
    quota_tokens_per_day: int | None = _quota("tokens_per_day")


class Settings(
    HttpSettings,
    GatewaySettings,
    QueueSettings,
    JobSettings,
    CallbackSettings,
    WorkerSettings,
    ContainerSettings,
    EnvironmentSettings,
    BundleSettings,
    AuditSettings,
    QuotaSettings,
    BaseSettings,
):
    """All settings. Each field `x` is read from the environment variable `OPENLAUNCH_X`."""

    model_config = SettingsConfigDict(env_prefix="OPENLAUNCH_", extra="ignore", defer_build=False)

    data_dir: Path = Field(
        default_factory=lambda: Path.home() / ".openlaunch", description="Folder for everything durable."
    )
    artifacts: str = Field(
        default="",
        description="Bucket for bundles, files, large payloads and results, `s3://BUCKET/PREFIX`, `gs://…` or "
        "`az://…`, with credentials from the environment; default: a folder of the data directory.",
    )
    artifact_urls: Literal["bucket", "server"] = Field(
        default="bucket",
        description="Where uploads and downloads go whose bytes are in a bucket: `bucket` to it, by signed URLs, "
        "`server` through the server, for buckets that clients can't reach.",
    )
    store: SecretStr | None = Field(
        default=None,
        description="PostgreSQL database for the records, such as `postgresql://USER@HOST:5432/NAME`; by default "
        "they are in a file of the data directory. Its password may be in PGPASSWORD or ~/.pgpass.",
    )
    engine: Literal["local", "agents", "ray"] = Field(
        default="local",
        description="Where workers run: `local`, on the server's machine; `agents`, on the nodes of "
        "OPENLAUNCH_AGENTS; or `ray`, on those of the Ray cluster that this machine is a node of, or that is at "
        "RAY_ADDRESS.",
    )
    agents: str = Field(
        default="",
        description="The agents of the nodes, `HOST:PORT` with `,` between them, for the engine `agents`.",
    )
    cluster_token: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="The secret that servers and agents of a cluster share, such as what `openssl rand -hex 32` "
        "prints. Servers that have the same may use one database of PostgreSQL.",
    )
    keep_workers_seconds: float = Field(
        default=300,
        ge=0,
        description="How long an agent keeps workers and builds of a server that is away, for the next one; 0 ends "
        "them at once.",
    )
    secrets_key: SecretStr | None = Field(
        default=None,
        description="Key that encrypts secrets, 64 hexadecimal digits, such as what `openssl rand -hex 32` prints; "
        "several with `,` between them decrypt, and the first encrypts. Default: a file of the data directory has "
        "it. The servers of a cluster need the same.",
    )
    api_key: SecretStr | None = Field(
        default=None, min_length=16, description="The first admin key; default: a new one is generated."
    )
    max_bundle_bytes: Bytes = Field(
        default=20 * 1024 * MIB, ge=MIB, description="Largest upload; a larger one is refused."
    )
    url_lifetime_seconds: float = Field(
        default=3600, gt=0, description="How long signed URLs of uploads and results are valid."
    )
    drain_seconds: float = Field(
        default=30,
        ge=0,
        description="Time that running predictions have to finish at SIGTERM, or when their worker is replaced.",
    )
    scale_down_seconds: float = Field(
        default=30, ge=0, description="Quiet time before workers that are not needed are stopped."
    )
    gpu_min_stay_seconds: float = Field(
        default=30, ge=0, description="Time for which a worker keeps its GPUs though others wait for some."
    )
    gpu_sleep_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Memory that models may have which sleep while others have their GPUs, by what their endpoints "
        "ask for as `memory`; the default is what the workers that are awake leave. `0`: none sleeps.",
    )
    gpu_max_wait_seconds: float = Field(
        default=120,
        ge=0,
        description="Time after which an endpoint without a worker gets the GPUs of one that is busy.",
    )
    isolation: Literal["auto", "required", "off"] = Field(
        default="auto",
        description="Isolation of workers: `auto` as far as the kernel allows, `required` starts no worker "
        "without all of it, `off` none.",
    )
    shared_folders: str = Field(
        default="",
        description="Folders, with `:` between them, that the code of all owners may write to. Workers and builds "
        "see everything else read-only, and temporary folders, homes and the data directory empty. Where the server "
        "runs as root, they run as user 64321, who needs the rights to what is in them.",
    )
    limit_memory: bool = Field(
        default=True, description="Enforce an endpoint's `memory` as the limit of each of its workers."
    )
    worker_event_loop: Literal["uvloop", "asyncio"] = Field(
        default="uvloop",
        description="Event loop of workers; uvloop is used where a worker's Python is the server's.",
    )
    worker_processes: int = Field(
        default=1024,
        ge=0,
        description="Processes and threads of one worker; 0: no limit.",
    )
    cache_bytes: Bytes = Field(
        default=200 * 1024 * MIB,
        ge=0,
        description="Disk that the cache of one owner may take on a machine; 0: no limit. What was used least "
        "recently is deleted first, and what running workers have prefetched stays.",
    )
    worker_disk_bytes: Bytes = Field(
        default=100 * 1024 * MIB,
        ge=0,
        description="Disk that one worker's folder, temporary folder and home may take; 0: no limit. A worker over "
        "it is killed.",
    )

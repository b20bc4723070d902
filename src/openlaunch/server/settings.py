"""The server's settings: command-line options, else `OPENLAUNCH_*` environment variables, else the defaults."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024


class Settings(BaseSettings):
    """Each field `x` is read from the environment variable `OPENLAUNCH_X`. Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="OPENLAUNCH_", extra="ignore")

    host: str = Field(default="127.0.0.1", description="the address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="0 picks a free port")
    tls_cert: Path | None = Field(
        default=None, description="certificate and those that signed it, as PEM: HTTPS instead of HTTP"
    )
    tls_key: Path | None = Field(
        default=None, description="the certificate's key, as PEM; else it is in the same file"
    )
    data_dir: Path = Field(
        default_factory=lambda: Path.home() / ".openlaunch", description="everything durable"
    )
    api_key: SecretStr | None = Field(
        default=None, min_length=16, description="the first admin key; else one is made"
    )

    max_body_bytes: int = Field(
        default=64 * MIB, ge=1024, description="a larger request body is refused: 413"
    )
    max_bodies_bytes: int = Field(
        default=1024 * MIB, ge=1024, description="of all predictions under way, those over 64 KiB; then 503"
    )
    max_result_bytes: int = Field(default=64 * MIB, ge=1024, description="a larger result is a FAILURE")
    max_bundle_bytes: int = Field(default=20 * 1024 * MIB, ge=MIB, description="a larger upload is refused")
    inline_bytes: int = Field(
        default=256 * 1024, ge=0, description="larger payloads of tasks go to artifacts"
    )
    max_queued_requests: int = Field(
        default=1000, ge=1, description="sync and streaming, per endpoint; then 429"
    )
    max_queued_tasks: int = Field(default=1_000_000, ge=1, description="async, per endpoint; then 429")
    max_connections: int = Field(default=10_000, ge=1, description="open HTTP connections; then 503")
    read_timeout_seconds: float = Field(
        default=30, gt=0, description="a client's time for a request's head, and for each KiB of its body"
    )

    request_timeout_seconds: float = Field(default=300, gt=0, description="a sync request's deadline")
    stream_timeout_seconds: float = Field(default=3600, gt=0, description="a stream's deadline, to its end")
    stream_resume_seconds: float = Field(
        default=10, ge=0, description="a resumable stream waits so long for a client that lost its connection"
    )
    stream_replay_bytes: int = Field(
        default=4 * MIB, ge=0, description="the last events of a resumable stream, held for its client"
    )
    max_replay_bytes: int = Field(default=128 * MIB, ge=0, description="the same for all streams together")
    task_timeout_seconds: float = Field(default=24 * 3600, gt=0, description="an async task's, once it runs")
    task_expires_seconds: float = Field(default=24 * 3600, gt=0, description="how long a task may wait")
    task_max_attempts: int = Field(default=3, ge=1, description="workers that a task may take down with it")
    result_retention_seconds: float = Field(
        default=24 * 3600,
        gt=0,
        description="a task's result, and an answer under an `Idempotency-Key`, is kept",
    )
    max_running_batch_jobs: int = Field(default=8, ge=1, description="further batch jobs wait their turn")
    max_batch_inputs: int = Field(default=10_000_000, ge=1, description="of one batch job; more is refused")
    image_job_timeout_seconds: float = Field(
        default=24 * 3600, gt=0, description="a docker-image batch job's, once it runs"
    )
    batch_retention_seconds: float = Field(
        default=7 * 24 * 3600, gt=0, description="a batch job's results are kept, once it has ended"
    )
    container_engine: str = Field(
        default="", description="podman or docker with its global options; else the one that is in PATH"
    )
    container_run_options: str = Field(default="", description="further options for each container's `run`")
    triton_image: str = Field(
        default="nvcr.io/nvidia/tritonserver", min_length=1, description="repository of Triton's image"
    )
    model_repositories: Path | None = Field(
        default=None, description="the folder below which triton_model_repository may name others"
    )
    image_pull_seconds: float = Field(default=1800, gt=0, description="for fetching a container image")
    lease_seconds: float = Field(default=15, gt=1, description="a task is this server's own, unless renewed")
    url_lifetime_seconds: float = Field(default=3600, gt=0, description="of signed upload and result URLs")
    url_timeout_seconds: float = Field(default=60, gt=0, description="for fetching the input named by `url`")
    private_addresses: bool = Field(
        default=True,
        description="inputs by `url` and callbacks may use private addresses, this machine's too",
    )
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="where receivers of callbacks reach this server; its own",
    )
    callback_ca_file: Path | None = Field(
        default=None, description="certificates that callbacks trust; else the system's"
    )
    isolation: Literal["auto", "required", "off"] = Field(
        default="auto", description="of workers, as far as the kernel allows, or else no worker starts"
    )
    limit_memory: bool = Field(
        default=True, description="workers may use their endpoint's `memory`, and no more"
    )
    worker_event_loop: Literal["uvloop", "asyncio"] = Field(
        default="uvloop", description="of workers, where their Python is the server's; or asyncio's own"
    )
    worker_processes: int = Field(
        default=1024, ge=0, description="and threads of one worker, unless the server is root's; 0: no bound"
    )
    callback_timeout_seconds: float = Field(
        default=15, gt=0, description="one attempt to send a callback may take this long"
    )
    interrupt_grace_seconds: float = Field(
        default=5, gt=0, description="what is cancelled has to stop, else its worker is replaced"
    )
    drain_seconds: float = Field(
        default=30,
        ge=0,
        description="what runs at SIGTERM, or in a worker to be replaced, may take this long to end",
    )
    audit_retention_seconds: float = Field(
        default=90 * 24 * 3600, gt=0, description="entries of the audit log are kept"
    )
    max_audit_entries: int = Field(
        default=1_000_000, ge=1, description="of the audit log; the oldest go first"
    )
    scale_down_seconds: float = Field(default=30, ge=0, description="quiet time before workers are stopped")
    check_responses: bool = Field(default=False, description="hold sync and async results against the schema")

    @property
    def max_queued_tasks_of_one(self) -> int:
        """Up to so many, an owner of many fills an endpoint's queue: the last tenth is for owners with fewer."""
        return self.max_queued_tasks - self.max_queued_tasks // 10

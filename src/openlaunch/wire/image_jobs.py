"""Docker-image batch jobs: a container image that is run to its end; and their bundles, which say what is run."""

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from openlaunch.wire.batch_jobs import MAX_TIMEOUT_SECONDS, BatchJobStatus
from openlaunch.wire.bundles import BUNDLE_NAME_PATTERN, ImageRepository, ImageTag
from openlaunch.wire.endpoint_settings import MAX_GPUS, GpuType
from openlaunch.wire.quantities import Cores, Size
from openlaunch.wire.variables import check_start

DEFAULT_RESOURCES = {"cpus": 1, "memory": "2Gi", "storage": "4Gi", "gpus": 0}

MountLocation = Annotated[str, Field(pattern=r"^/[^:\x00]{1,500}$")]


class DockerImageBatchJobResources(BaseModel):
    """The resources of a job. An omitted or null field is the bundle's, else its default."""

    cpus: Cores | None = None
    memory: Size | None = None
    gpus: int | None = Field(default=None, ge=0, le=MAX_GPUS)
    gpu_type: GpuType | None = None
    storage: Size | None = None
    nodes_per_worker: int | None = Field(default=None, ge=1)


class CreateDockerImageBatchJobBundleRequest(BaseModel):
    """POST /v1/docker-image-batch-job-bundles."""

    name: str = Field(pattern=BUNDLE_NAME_PATTERN)
    image_repository: ImageRepository
    image_tag: ImageTag
    command: list[str] = Field(
        max_length=1000, description="Replaces the image's entry point. Empty: the image's own."
    )
    env: dict[str, str] = Field(default={}, repr=False)
    mount_location: MountLocation | None = Field(
        default=None, description="File inside the container that has the job's config as JSON."
    )
    resource_requests: DockerImageBatchJobResources = DockerImageBatchJobResources()
    public: bool | None = Field(default=False, description="Recorded, without effect.")

    @model_validator(mode="after")
    def _can_start(self) -> Self:
        check_start(self.command, self.env)
        return self


class CreateDockerImageBatchJobBundleResponse(BaseModel):
    """The id of the new bundle."""

    docker_image_batch_job_bundle_id: str


class DockerImageBatchJobBundleResponse(BaseModel):
    """One bundle."""

    id: str
    name: str
    created_at: datetime
    image_repository: str
    image_tag: str
    command: list[str]
    env: dict[str, str] = Field(repr=False)
    mount_location: str | None = None
    cpus: str | None = None
    memory: str | None = None
    storage: str | None = None
    gpus: int | None = None
    gpu_type: str | None = None
    public: bool | None = None
    owner: str | None = None


class ListDockerImageBatchJobBundlesResponse(BaseModel):
    """GET /v1/docker-image-batch-job-bundles."""

    docker_image_batch_job_bundles: list[DockerImageBatchJobBundleResponse]


class CreateDockerImageBatchJobRequest(BaseModel):
    """POST /v1/docker-image-batch-jobs. The bundle is given by id, or by name: then it is the newest."""

    docker_image_batch_job_bundle_name: str | None = None
    docker_image_batch_job_bundle_id: str | None = None
    job_config: dict[str, Any] | None = Field(default=None, repr=False)
    labels: dict[str, str]
    resource_requests: DockerImageBatchJobResources = DockerImageBatchJobResources()
    override_job_max_runtime_s: int | None = Field(default=None, ge=1, le=int(MAX_TIMEOUT_SECONDS))


class CreateDockerImageBatchJobResponse(BaseModel):
    """The id of the new job."""

    job_id: str


class DockerImageBatchJobResponse(BaseModel):
    """One job. `annotations` are its labels; the last four fields are ours."""

    id: str
    created_by: str
    owner: str
    created_at: datetime
    completed_at: datetime | None = None
    status: BatchJobStatus
    annotations: dict[str, str] | None = None
    override_job_max_runtime_s: int | None = None
    num_workers: int | None = 1
    status_reason: str | None = None
    started_at: datetime | None = None
    docker_image_batch_job_bundle_id: str
    trigger_id: str | None = None


class ListDockerImageBatchJobsResponse(BaseModel):
    """GET /v1/docker-image-batch-jobs."""

    jobs: list[DockerImageBatchJobResponse]


class UpdateDockerImageBatchJobRequest(BaseModel):
    """PUT /v1/docker-image-batch-jobs/{id}."""

    cancel: bool


class UpdateDockerImageBatchJobResponse(BaseModel):
    """Whether the job was cancelled."""

    success: bool

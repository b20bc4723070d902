"""Docker-image batch jobs (`/v1/docker-image-batch-jobs`) and their bundles."""

from fastapi import Response
from fastapi.responses import PlainTextResponse

from openlaunch.errors import Unprocessable
from openlaunch.server import clock
from openlaunch.server.access.auth import Principal
from openlaunch.server.control.answers import InPages, listed, shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.callers import User, Wait, named
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.lookups import found
from openlaunch.server.jobs.image_jobs import job_spec
from openlaunch.store import image_jobs as job_store
from openlaunch.store.records import ImageJobBundleRecord, ImageJobRecord
from openlaunch.wire import routes
from openlaunch.wire.bundles import BundleOrderBy
from openlaunch.wire.ids import object_id
from openlaunch.wire.image_jobs import (
    CreateDockerImageBatchJobBundleRequest,
    CreateDockerImageBatchJobBundleResponse,
    CreateDockerImageBatchJobRequest,
    CreateDockerImageBatchJobResponse,
    DockerImageBatchJobBundleResponse,
    DockerImageBatchJobResponse,
    ListDockerImageBatchJobBundlesResponse,
    ListDockerImageBatchJobsResponse,
    UpdateDockerImageBatchJobRequest,
    UpdateDockerImageBatchJobResponse,
)

JOBS, BUNDLES = routes.DOCKER_IMAGE_BATCH_JOBS, routes.DOCKER_IMAGE_BATCH_JOB_BUNDLES


def router(context: Context) -> ControlRouter:
    """Create, list, get and cancel jobs, and read their logs; create, list and get their bundles."""
    api = ControlRouter(tags=["docker-image batch jobs"])
    _add_jobs(api, context)
    _add_bundles(api, context)
    return api


def _add_jobs(api: ControlRouter, context: Context) -> None:
    @api.post(JOBS)
    async def create_docker_image_batch_job(
        body: CreateDockerImageBatchJobRequest, user: User
    ) -> CreateDockerImageBatchJobResponse:
        """Run a bundle's image to its end."""
        bundle = await _named_bundle(context, body, user)
        job = context.image_jobs.new_job(
            bundle,
            body.job_config,
            body.labels,
            body.resource_requests.model_dump(mode="json", exclude_none=True),
            body.override_job_max_runtime_s,
        )
        await context.image_jobs.runner.create(job)
        return CreateDockerImageBatchJobResponse(job_id=job.id)

    @api.get(JOBS, response_model=ListDockerImageBatchJobsResponse)
    async def list_docker_image_batch_jobs(user: User, trigger_id: str | None = None) -> Response:
        """List the caller's last jobs, newest first: all, or those of a trigger."""
        ids = await context.store.read(
            lambda conn: job_store.ids_of_owner(conn, user.owner, trigger_id), user.owner
        )
        return listed("jobs", InPages(context.store, ids, job_store.get_many, user.owner), _job)

    @api.get(JOBS + "/{batch_job_id}")
    async def get_docker_image_batch_job(
        batch_job_id: str, user: User, wait: Wait = 0.0
    ) -> DockerImageBatchJobResponse:
        """Get a job. With `wait`, the answer is held until it has ended, for at most that many seconds."""
        return _job(await context.image_jobs.runner.get(user.owner, batch_job_id, wait))

    @api.get(JOBS + "/{batch_job_id}/logs", response_class=PlainTextResponse)
    async def get_docker_image_batch_job_logs(batch_job_id: str, user: User) -> str:
        """Get the last lines that a job's container has printed."""
        return await context.image_jobs.read_log(user.owner, batch_job_id)

    @api.put(JOBS + "/{batch_job_id}")
    async def update_docker_image_batch_job(
        batch_job_id: str, body: UpdateDockerImageBatchJobRequest, user: User
    ) -> UpdateDockerImageBatchJobResponse:
        """Cancel a job: its container is stopped and removed."""
        cancelled = body.cancel and await context.image_jobs.runner.cancel(user.owner, batch_job_id)
        return UpdateDockerImageBatchJobResponse(success=cancelled)


def _add_bundles(api: ControlRouter, context: Context) -> None:
    @api.post(BUNDLES)
    async def create_docker_image_batch_job_bundle(
        body: CreateDockerImageBatchJobBundleRequest, user: User
    ) -> CreateDockerImageBatchJobBundleResponse:
        """Define what jobs run: an image, its command and environment, and the resources of each job."""
        resources = body.resource_requests.model_dump(mode="json", exclude_none=True)
        context.image_jobs.check_gpus(job_spec(resources))
        record = ImageJobBundleRecord(
            id=object_id("dib"),
            owner=user.owner,
            name=body.name,
            image_repository=body.image_repository,
            image_tag=body.image_tag,
            command=body.command,
            env=body.env,
            mount_location=body.mount_location,
            resources=resources,
            public=bool(body.public),
            created_at=clock.now(),
        )
        await context.store.write(lambda conn: job_store.insert_bundle(conn, record), user.owner)
        return CreateDockerImageBatchJobBundleResponse(docker_image_batch_job_bundle_id=record.id)

    @api.get(BUNDLES, response_model=ListDockerImageBatchJobBundlesResponse)
    async def list_docker_image_batch_job_bundles(
        user: User, bundle_name: str | None = None, order_by: BundleOrderBy | None = None
    ) -> Response:
        """List the caller's bundles, newest first unless asked otherwise."""
        newest_first = order_by is not BundleOrderBy.OLDEST
        owner, name = named(context, user, bundle_name)
        ids = await context.store.read(
            lambda conn: job_store.bundle_ids_of_owner(conn, owner, name, newest_first), user.owner
        )
        records = InPages(context.store, ids, job_store.get_bundles, user.owner)
        return listed("docker_image_batch_job_bundles", records, _bundle)

    @api.get(BUNDLES + "/latest")
    async def get_latest_docker_image_batch_job_bundle(
        bundle_name: str, user: User
    ) -> DockerImageBatchJobBundleResponse:
        """Get the newest bundle of a name."""
        return _bundle(await _latest(context, bundle_name, user))

    @api.get(BUNDLES + "/{docker_image_batch_job_bundle_id}")
    async def get_docker_image_batch_job_bundle(
        docker_image_batch_job_bundle_id: str, user: User
    ) -> DockerImageBatchJobBundleResponse:
        """Get one bundle."""
        return _bundle(await find_image_bundle(context, docker_image_batch_job_bundle_id, user.owner))


async def find_image_bundle(context: Context, bundle_id: str, owner: str) -> ImageJobBundleRecord:
    """Return the owner's bundle, or raise NotFound."""
    record = await context.store.read(lambda conn: job_store.get_bundle(conn, bundle_id, owner), owner)
    return found(record, f"no docker-image batch job bundle has the id {bundle_id!r}", "bundle_not_found")


async def _latest(context: Context, full_name: str, caller: Principal) -> ImageJobBundleRecord:
    owner, name = named(context, caller, full_name)
    record = await context.store.read(lambda conn: job_store.latest_bundle(conn, owner, name or ""), owner)
    return found(record, f"no docker-image batch job bundle has the name {name!r}", "bundle_not_found")


async def _named_bundle(
    context: Context, body: CreateDockerImageBatchJobRequest, caller: Principal
) -> ImageJobBundleRecord:
    bundle_id, name = body.docker_image_batch_job_bundle_id, body.docker_image_batch_job_bundle_name
    if bundle_id is not None and name is None:
        return await find_image_bundle(context, bundle_id, caller.owner)
    if name is not None and bundle_id is None:
        return await _latest(context, name, caller)
    raise Unprocessable(
        "exactly one of docker_image_batch_job_bundle_id and docker_image_batch_job_bundle_name is needed"
    )


def _bundle(record: ImageJobBundleRecord) -> DockerImageBatchJobBundleResponse:
    given = record.resources
    quantities = {name: str(given[name]) for name in ("cpus", "memory", "storage") if name in given}
    gpus = {name: given.get(name) for name in ("gpus", "gpu_type")}
    return shown(DockerImageBatchJobBundleResponse, record, **quantities, **gpus)


def _job(job: ImageJobRecord) -> DockerImageBatchJobResponse:
    return shown(
        DockerImageBatchJobResponse,
        job,
        created_by=job.owner,
        completed_at=job.finished_at,
        annotations=job.labels,
        override_job_max_runtime_s=job.override_max_runtime,
        docker_image_batch_job_bundle_id=job.bundle_id,
    )

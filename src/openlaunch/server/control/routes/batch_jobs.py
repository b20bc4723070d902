"""Batch jobs (`/v1/batch-jobs`): one bundle over a file of inputs."""

import math
from datetime import timedelta
from functools import partial

from fastapi import Request, Response

from openlaunch.artifacts.locations import INPUTS_FOLDER
from openlaunch.server import clock
from openlaunch.server.control.answers import InPages, listed, shown
from openlaunch.server.control.context import Context
from openlaunch.server.control.routes.artifacts import check_uploaded
from openlaunch.server.control.routes.callers import User, Wait
from openlaunch.server.control.routing import ControlRouter
from openlaunch.server.endpoints.specs import spec_of_job
from openlaunch.store import batch_jobs as job_store
from openlaunch.store.records import BatchJobRecord
from openlaunch.wire import routes
from openlaunch.wire.batch_jobs import (
    DEFAULT_RESOURCES,
    BatchJobResponse,
    BatchJobStatus,
    CreateBatchJobRequest,
    CreateBatchJobResponse,
    ListBatchJobsResponse,
    UpdateBatchJobRequest,
    UpdateBatchJobResponse,
)
from openlaunch.wire.endpoint_settings import EndpointSettings, EndpointSpec
from openlaunch.wire.endpoints import EndpointType
from openlaunch.wire.ids import object_id


def router(context: Context) -> ControlRouter:
    """Create, list, get and cancel batch jobs."""
    api = ControlRouter(prefix=routes.BATCH_JOBS, tags=["batch jobs"])

    @api.post("")
    async def create_batch_job(body: CreateBatchJobRequest, user: User) -> CreateBatchJobResponse:
        """Start a batch job over inputs that were uploaded before."""
        spec = _spec(body)
        await context.endpoints.check(user.owner, EndpointType.ASYNC, body.model_bundle_id, spec)
        job = BatchJobRecord(
            id=object_id("job"),
            owner=user.owner,
            bundle_id=body.model_bundle_id,
            status=BatchJobStatus.PENDING,
            status_reason=None,
            input_key=await check_uploaded(context, INPUTS_FOLDER, body.input_path, user.owner),
            serialization_format=body.serialization_format,
            labels=body.labels,
            spec=spec,
            timeout_seconds=body.timeout_seconds,
            created_at=clock.now(),
        )
        await context.batch_jobs.runner.create(job)
        return CreateBatchJobResponse(job_id=job.id)

    @api.get("", response_model=ListBatchJobsResponse)
    async def list_batch_jobs(request: Request, user: User) -> Response:
        """List the caller's last batch jobs, newest first."""
        ids = await context.store.read(lambda conn: job_store.ids_of_owner(conn, user.owner), user.owner)
        found = InPages(context.store, ids, job_store.get_many, user.owner)
        return listed("batch_jobs", found, partial(_response, context, request))

    @api.get("/{batch_job_id}")
    async def get_batch_job(
        batch_job_id: str, request: Request, user: User, wait: Wait = 0.0
    ) -> BatchJobResponse:
        """Get a batch job's status and progress, and once it has ended a URL of its results.

        With `wait`, the answer is held until the job has ended, for at most that many seconds.
        """
        job = await context.batch_jobs.runner.get(user.owner, batch_job_id, wait)
        return _response(context, request, job)

    @api.put("/{batch_job_id}")
    async def update_batch_job(
        batch_job_id: str, body: UpdateBatchJobRequest, user: User
    ) -> UpdateBatchJobResponse:
        """Cancel a batch job: running inputs are stopped, and existing results are kept."""
        cancelled = body.cancel and await context.batch_jobs.runner.cancel(user.owner, batch_job_id)
        return UpdateBatchJobResponse(success=cancelled)

    return api


def _spec(body: CreateBatchJobRequest) -> EndpointSpec:
    """Return the specification of the endpoint that the job runs on."""
    given = body.resource_requests.model_dump(exclude_none=True)
    spec = spec_of_job({**DEFAULT_RESOURCES, **given, "labels": body.labels, "min_workers": 0})
    # It is the job's own limit that ends inputs which wait too long.
    longest = math.ceil(body.timeout_seconds) + 60
    return spec.changed(EndpointSettings(task_expires_seconds=longest))


def _response(context: Context, request: Request, job: BatchJobRecord) -> BatchJobResponse:
    completed = context.batch_jobs.completed(job)
    key = job.result_key
    return shown(
        BatchJobResponse,
        job,
        job_id=job.id,
        result=None if key is None else context.urls.make(context.urls.base_url(request.scope), "GET", key),
        duration=timedelta(seconds=round((job.finished_at or clock.now()) - job.created_at)),
        num_tasks_pending=None if job.total is None else job.total - completed,
        num_tasks_completed=None if job.total is None else completed,
    )

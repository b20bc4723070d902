"""Batch jobs: inputs go from a file into the queue, results from the queue into a file.

A job runs on an endpoint of its own, with up to as many workers as it asks for. No more than a few hundred of its
inputs and results are in memory at a time.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from sqlalchemy import Connection

from openlaunch.artifacts.base import Artifacts
from openlaunch.server import clock
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.endpoints.changes import new_endpoint
from openlaunch.server.endpoints.service import Endpoints
from openlaunch.server.jobs.batch_files import BatchFiles
from openlaunch.server.jobs.batch_orders import Chunk
from openlaunch.server.jobs.runner import JobRunner
from openlaunch.server.prediction.file_ids import FilesById
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import JobSettings
from openlaunch.store import batch_jobs as job_store
from openlaunch.store.base import Store
from openlaunch.store.records import BatchJobRecord, JobEnd
from openlaunch.tasks import batch, notifications
from openlaunch.tasks.batch_input import InputError
from openlaunch.turns import Turns
from openlaunch.wire.batch_jobs import BatchJobStatus
from openlaunch.wire.endpoints import EndpointStatus, EndpointType

POLL_SECONDS = 0.05
WINDOW = 2048
"""No more inputs are read while the queue has this number of inputs."""
CHUNK_INPUTS = 256


class _JobFailed(Exception):
    """The job can't be done; the text is its reason."""


class BatchJobs:
    """Takes batch jobs from their first input to their last result; `runner` is what starts and ends them."""

    def __init__(
        self,
        settings: JobSettings,
        store: Store,
        artifacts: Artifacts,
        schemas: SchemaCache,
        lanes: Lanes,
        endpoints: Endpoints,
        tasks: TaskService,
        quotas: Quotas | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._schemas = schemas
        self._lanes = lanes
        self._endpoints = endpoints
        self._tasks = tasks
        self._files = BatchFiles(
            store,
            artifacts,
            FilesById(store, artifacts, schemas.checks),
            settings.max_running_batch_jobs,
            settings.max_body_bytes,
        )
        self._turns = Turns(settings.max_running_batch_jobs)
        self._submitted: dict[str, int] = {}
        self.runner = JobRunner(
            store,
            job_store,
            "batch job",
            work=self._work,
            clear=self._clear,
            discard=self._files.delete,
            retention_seconds=settings.batch_retention_seconds,
            quotas=quotas,
            on_end=notifications.of_batch_job,
        )

    async def start(self, epoch: int) -> None:
        """Resume what an earlier server left. The controller and the task service have started."""
        self.runner.start(await self._store.read(job_store.list_uncleared), epoch)

    async def refresh(self) -> None:
        """Look at what other servers have done with jobs."""
        await self.runner.refresh(job_store.list_uncleared)

    def completed(self, job: BatchJobRecord) -> int:
        if job.completed is not None:
            return job.completed
        submitted = self._submitted.get(job.id)
        if submitted is None or self._lanes.get(job.id) is None:
            return 0
        load = self._lanes.load(job.id)
        return max(0, submitted - load.queued - load.in_flight)

    async def _work(self, job: BatchJobRecord) -> JobEnd:
        left = job.created_at + job.timeout_seconds - clock.now()
        try:
            # The job's limit covers the wait for its turn, too.
            async with asyncio.timeout(left) as limit, self._turns.of(job.owner):
                return await self._process(job)
        except TimeoutError:
            if not limit.expired():
                raise
            text = f"the job was not done after {job.timeout_seconds:g} s, its limit"
            return JobEnd(BatchJobStatus.TIMEOUT, text)
        except (InputError, _JobFailed) as error:
            return JobEnd(BatchJobStatus.FAILURE, str(error))

    async def _process(self, job: BatchJobRecord) -> JobEnd:
        if job.total is None:
            total = await self._files.count(job, self._settings.max_batch_inputs)
            await self._store.write(lambda conn: job_store.counted(conn, job.id, total))
            job = replace(job, total=total)
        if job.total:
            lane = await self._lane(job)
            await self._feed(job, lane)
            await self._until_done(job, lane)
        key = await self._files.write_results(job)
        return JobEnd(BatchJobStatus.SUCCESS, completed=job.total, result_key=key)

    async def _lane(self, job: BatchJobRecord) -> Lane:
        """Return the lane of the job's endpoint, which is created where there is none yet."""
        lane = self._lanes.get(job.id)
        if lane is None:
            name = f"batch job {job.id}"
            await self._endpoints.add(
                new_endpoint(job.id, name, EndpointType.ASYNC, job.bundle_id, job.spec, job.id)
            )
            lane = self._lanes.get(job.id)
        assert lane is not None
        return lane

    async def _feed(self, job: BatchJobRecord, lane: Lane) -> None:
        """Put the inputs that are not tasks yet into the queue, as fast as it has room for them."""
        done = await self._store.read(lambda conn: batch.submitted(conn, job.id), job.owner)
        self._submitted[job.id] = done
        if done == job.total:
            return
        schemas = await self._schemas.get(job.bundle_id)
        most = min(CHUNK_INPUTS, self._tasks.submitter.max_queued_of_one)
        async with aclosing(self._files.chunks(job, schemas, skip=done, most=most)) as chunks:
            async for read in chunks:
                async for chunk in self._files.with_uploads(job.owner, read):
                    await self._submit(job, lane, chunk)

    async def _submit(self, job: BatchJobRecord, lane: Lane, chunk: Chunk) -> None:
        await self._until_room(lane, len(chunk))
        inputs = [predict_input for predict_input, _ in chunk]
        refused = {index: result for index, (_, result) in enumerate(chunk) if result is not None}
        # Where another server leads by now, it has counted the tasks of the job, and stores these inputs.
        await self._tasks.submitter.submit(lane, job.id, inputs, refused=refused, check=self.runner.leads())
        self._submitted[job.id] += len(chunk)

    async def _until_room(self, lane: Lane, count: int) -> None:
        window = min(WINDOW, self._tasks.submitter.max_queued_of_one - count)
        await self._until(lane, lambda: lane.backlog.size <= window)

    async def _until_done(self, job: BatchJobRecord, lane: Lane) -> None:
        while True:
            await self._until(lane, lambda: lane.backlog.size == 0 and lane.load().in_flight == 0)
            # A result reaches the store some time after the worker has answered, and a lost task is there alone.
            if not await self._store.read(lambda conn: batch.unfinished(conn, job.id), job.owner):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _until(self, lane: Lane, condition: Callable[[], bool]) -> None:
        while not condition():
            if lane.endpoint.status is EndpointStatus.UPDATE_FAILED:
                raise _JobFailed(lane.endpoint.status_reason or "the bundle can't be served")
            await asyncio.sleep(POLL_SECONDS)

    async def _clear(self, job: BatchJobRecord) -> None:
        """Remove the endpoint and the tasks of a job that has ended; what was done before is kept."""
        if job.result_key is None and job.total:
            await self._keep_what_was_done(job)
        await self._endpoints.discard(job.id, "the job has ended")
        while True:
            count, keys = await self._store.write(lambda conn: batch.delete_some(conn, job.id), job.owner)
            await self._files.delete(keys)
            if not count:
                break
        await self._store.write(lambda conn: job_store.set_cleared(conn, job.id))
        self._submitted.pop(job.id, None)

    async def _keep_what_was_done(self, job: BatchJobRecord) -> None:
        def done(conn: Connection) -> int:
            return batch.submitted(conn, job.id) - batch.unfinished(conn, job.id)

        completed = await self._store.read(done, job.owner)
        await self._tasks.control.fail_endpoint(job.id, job.status_reason or "the job has ended")
        if completed:
            key = await self._files.write_results(job)
            await self._store.write(lambda conn: job_store.set_result(conn, job.id, key, completed))

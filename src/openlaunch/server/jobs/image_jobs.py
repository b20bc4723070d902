"""Docker-image batch jobs at work: each is a container in the background, which outlives the server.

A server that starts finds the containers of its jobs again. Every step can be repeated.
"""

import asyncio
import json
import logging
from functools import partial
from typing import Any

from sqlalchemy import Connection

from openlaunch.artifacts.base import Artifacts
from openlaunch.controller.gpus import gpu_problem
from openlaunch.engines.base import ContainerError, Engine, NoRoom
from openlaunch.engines.documents import ContainerState, JobSpec, Resources
from openlaunch.errors import Forbidden, NotFound, Unavailable, Unprocessable
from openlaunch.server import clock
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.endpoints.specs import spec_of_job
from openlaunch.server.jobs.runner import RETRY_SECONDS, JobRunner
from openlaunch.server.settings import JobSettings
from openlaunch.store import image_jobs as job_store
from openlaunch.store.base import Store
from openlaunch.store.records import ImageJobBundleRecord, ImageJobRecord, JobEnd
from openlaunch.turns import Turns
from openlaunch.wire.batch_jobs import BatchJobStatus
from openlaunch.wire.bundles import full_image_name
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.ids import object_id
from openlaunch.wire.image_jobs import DEFAULT_RESOURCES

log = logging.getLogger(__name__)

GPU_SECONDS = 0.5
LOG_LINES = 10_000
LOG_SECONDS = 10.0
"""Limit on the time in which the log of a job that runs has to be read."""
REASON_LINES = 5
MAX_REASON = 2000
KILLED = 137


def new_job(
    settings: JobSettings,
    bundle: ImageJobBundleRecord,
    *,
    job_config: dict[str, Any] | None,
    labels: dict[str, str],
    resources: dict[str, Any] | None = None,
    max_runtime: int | None = None,
    trigger_id: str | None = None,
    due_at: float | None = None,
) -> ImageJobRecord:
    """Return a job of the bundle's owner; `resources` go before the bundle's."""
    if job_config is not None and bundle.mount_location is None:
        raise Unprocessable(
            f"job_config is given, and the bundle {bundle.name!r} has no mount_location, the file that would "
            "have it: make the bundle with one"
        )
    return ImageJobRecord(
        id=object_id("imj"),
        owner=bundle.owner,
        bundle_id=bundle.id,
        status=BatchJobStatus.PENDING,
        status_reason=None,
        job_config=job_config,
        labels=labels,
        spec=job_spec(bundle.resources | (resources or {})),
        max_runtime=max_runtime or settings.image_job_timeout_seconds,
        override_max_runtime=max_runtime,
        created_at=clock.now(),
        trigger_id=trigger_id,
        due_at=due_at,
    )


def job_spec(resources: dict[str, Any]) -> EndpointSpec:
    """Return what a job has, as an endpoint's one worker would."""
    workers = {"min_workers": 1, "max_workers": 1, "per_worker": 1}
    return spec_of_job(workers | DEFAULT_RESOURCES | resources)


class ImageJobs:
    """Runs the containers of docker-image batch jobs; `runner` is what starts and ends the jobs.

    `artifacts` have what the containers of ended jobs printed.
    """

    def __init__(
        self,
        settings: JobSettings,
        store: Store,
        engine: Engine,
        artifacts: Artifacts,
        quotas: Quotas | None = None,
    ) -> None:
        self._store = store
        self._quotas = quotas or Quotas()
        self._engine = engine
        self._jobs = engine.jobs
        self._settings = settings
        self._artifacts = artifacts
        self._turns = Turns(settings.max_running_batch_jobs)
        self.runner = JobRunner(
            store,
            job_store,
            "docker-image batch job",
            work=self._work,
            clear=self._clear,
            discard=self._delete_logs,
            retention_seconds=settings.batch_retention_seconds,
            quotas=quotas,
        )

    def new_job(
        self,
        bundle: ImageJobBundleRecord,
        job_config: dict[str, Any] | None,
        labels: dict[str, str],
        resources: dict[str, Any] | None = None,
        max_runtime: int | None = None,
    ) -> ImageJobRecord:
        """Make a job of the bundle; raise Unprocessable where no job here could ever have what it asks for."""
        job = new_job(
            self._settings,
            bundle,
            job_config=job_config,
            labels=labels,
            resources=resources,
            max_runtime=max_runtime,
        )
        self.check_gpus(job.spec)
        return job

    def insert_due(self, conn: Connection, job: ImageJobRecord) -> bool:
        """Store a trigger's job; return False where the owner's quotas refuse it, which is then how it has ended."""
        try:
            self._quotas.within(job.owner, lambda conn: job_store.insert(conn, job))(conn)
        except Forbidden as refusal:
            job_store.end(conn, job.id, JobEnd(BatchJobStatus.FAILURE, str(refusal)), job.created_at)
            return False
        return True

    def check_gpus(self, spec: EndpointSpec) -> None:
        """Raise Unprocessable if a job asks for more GPUs than the machine has."""
        if (problem := gpu_problem(spec, self._engine.capacity())) is not None:
            raise Unprocessable(f"the job {problem}", code="not_enough_gpus")

    async def resume(self) -> None:
        """Have the jobs that run hold what they have. To be called before the controller starts workers."""
        for job in await self._store.read(job_store.list_unfinished):
            self._jobs.resume(job.id, job.held, _resources(job))

    async def start(self, epoch: int) -> None:
        """Resume what an earlier server left, and remove the containers of jobs that it did not clear."""
        unfinished = await self._store.read(job_store.list_unfinished)
        self.runner.start(sorted(unfinished, key=lambda job: job.status is BatchJobStatus.PENDING), epoch)
        if await self._store.read(job_store.has_any):
            self.runner.background.spawn(self._sweep())

    async def refresh(self) -> None:
        """Look at what other servers have done with jobs."""
        await self.runner.refresh(job_store.list_unfinished)

    async def read_log(self, owner: str, job_id: str) -> str:
        """Return the last lines that the job's container has printed."""
        await self.runner.get(owner, job_id)
        lines: list[str] = []
        if self.runner.has(job_id) and not await self._has_log(job_id):
            try:
                async with asyncio.timeout(LOG_SECONDS):
                    lines = await self._jobs.logs(job_id, LOG_LINES)
            except (ContainerError, TimeoutError) as error:
                text = (
                    f"the log of the job {job_id} can't be read now: {error or 'its machine does not answer'}"
                )
                raise Unavailable(text, code="log_not_readable", retry_after=1) from None
        if not lines and await self._has_log(job_id):  # also where the container was removed meanwhile
            return (await self._artifacts.get(_log_key(job_id))).decode(errors="replace")
        return "".join(f"{line}\n" for line in lines)

    async def _work(self, job: ImageJobRecord) -> JobEnd:
        async with self._turns.of(job.owner):
            try:
                started_at = job.started_at or await self._started(job)
                async with asyncio.timeout(started_at + job.max_runtime - clock.now()):
                    state = await self._exited(job.id)
                # Before the end is recorded: a client that sees the end finds the log.
                lines = await self._keep_log(job.id)
            except TimeoutError:
                return JobEnd(BatchJobStatus.TIMEOUT, f"the job ran for {job.max_runtime:g} s, its limit")
            except ContainerError as error:
                return JobEnd(BatchJobStatus.FAILURE, str(error)[:MAX_REASON])
            if state.exit_code == 0:
                return JobEnd(BatchJobStatus.SUCCESS)
            return JobEnd(BatchJobStatus.FAILURE, _reason(state, lines[-REASON_LINES:]))

    async def _started(self, job: ImageJobRecord) -> float:
        """Start the job's container, unless an earlier server did and could not record it; return when."""
        state = await self._jobs.state(job.id)
        if state is not None and not state.started:
            await self._jobs.remove(job.id)
            state = None
        if state is None:
            await self._start(job)
        now = clock.now()
        await self._store.write(lambda conn: job_store.set_running(conn, job.id, now))
        return now

    async def _start(self, job: ImageJobRecord) -> None:
        """Start the job's container once its GPUs are free. What it holds is recorded before, for the next server."""
        bundle = await self._store.read(lambda conn: job_store.get_bundle(conn, job.bundle_id))
        assert bundle is not None
        spec = _order(job, bundle)
        await self._jobs.fetch(spec.image)
        held = job.held or await self._hold(spec)
        check = self.runner.leads()

        def hold(conn: Connection) -> None:
            # A server that was held up starts no container beside that of the server that leads now.
            check(conn)
            if held != job.held:
                job_store.set_held(conn, job.id, held)

        await self._store.write(hold)
        await self._jobs.start(spec, held)

    async def _hold(self, spec: JobSpec) -> str:
        said = ""
        while True:
            try:
                return await self._jobs.hold(spec.id, spec.resources)
            except NoRoom as error:
                if (reason := str(error)[:MAX_REASON]) != said:
                    said = reason
                    await self._store.write(partial(job_store.set_waiting, job_id=spec.id, reason=said))
                await asyncio.sleep(GPU_SECONDS)

    async def _exited(self, job_id: str) -> ContainerState:
        while True:
            await self._jobs.wait(job_id)
            state = await self._jobs.state(job_id)
            if state is None:
                raise ContainerError(
                    "the job's container is gone: something other than this server removed it"
                )
            if not state.running:
                return state
            await asyncio.sleep(RETRY_SECONDS)

    async def _clear(self, job: ImageJobRecord) -> None:
        """Keep the log of a job that has ended, and remove everything else of it."""
        try:
            state = await self._jobs.state(job.id)
            if state is not None:
                if state.running:
                    await self._jobs.stop(job.id)
                if not await self._has_log(job.id):
                    await self._keep_log(job.id)
                await self._jobs.remove(job.id)
        except ContainerError as error:
            log.warning("the container of the job %s could not be removed: %s", job.id, error)
        await self._jobs.release(job.id)

    async def _keep_log(self, job_id: str) -> list[str]:
        """Store the last lines of the container as the job's log, and return them."""
        lines = await self._jobs.logs(job_id, LOG_LINES)
        text = "".join(f"{line}\n" for line in lines)
        await self._artifacts.put(_log_key(job_id), text.encode(errors="replace"))
        return lines

    async def _has_log(self, job_id: str) -> bool:
        try:
            await self._artifacts.size(_log_key(job_id))
        except NotFound:
            return False
        return True

    async def _delete_logs(self, job_ids: list[str]) -> None:
        if job_ids:
            await self._artifacts.delete(*map(_log_key, job_ids))

    async def _sweep(self) -> None:
        """Remove the containers of jobs that ended just before an earlier server did."""
        try:
            left = [job_id for job_id in await self._jobs.ids() if not self.runner.has(job_id)]
            if left:
                await self._jobs.remove(*left)
        except ContainerError as error:
            log.warning("containers of ended jobs could not be looked for: %s", error)


def _order(job: ImageJobRecord, bundle: ImageJobBundleRecord) -> JobSpec:
    config = bundle.mount_location and {bundle.mount_location: json.dumps(job.job_config or {})}
    return JobSpec(
        job.id,
        full_image_name(bundle.image_repository, bundle.image_tag),
        tuple(bundle.command),
        bundle.env,
        _resources(job),
        config or {},
    )


def _resources(job: ImageJobRecord) -> Resources:
    return Resources(job.spec.cores, job.spec.memory_bytes, job.spec.gpus, job.spec.gpu_type or "")


def _log_key(job_id: str) -> str:
    return f"job-logs/{job_id}.log"


def _reason(state: ContainerState, last_lines: list[str]) -> str:
    memory = ", out of memory perhaps" if state.out_of_memory or state.exit_code == KILLED else ""
    last = "; its log ends with:\n" + "\n".join(last_lines) if last_lines else ""
    return f"the container exited with code {state.exit_code}{memory}{last}"[:MAX_REASON]

"""Docker-image batch jobs at work: each is a container in the background, which outlives the server.

A server that starts finds the containers of its jobs again. Every step can be taken again.
"""

import asyncio
import json
import logging
import secrets
import shutil
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openlaunch.controller.controller import Controller
from openlaunch.engines.containers import ContainerEngine, ContainerError, ContainerState
from openlaunch.errors import NotFound, Unprocessable
from openlaunch.server import clock
from openlaunch.server.settings import JobSettings
from openlaunch.server.specs import new_spec
from openlaunch.store import image_jobs as job_store
from openlaunch.store.base import Store
from openlaunch.store.records import EndpointSpec, ImageJobBundleRecord, ImageJobRecord
from openlaunch.wire.batch_jobs import BatchJobStatus
from openlaunch.wire.bundles import full_image_name
from openlaunch.wire.endpoints import CreateModelEndpointRequest, EndpointType
from openlaunch.wire.image_jobs import DEFAULT_RESOURCES
from openlaunch_worker.containers import Container

log = logging.getLogger(__name__)

KIND = "job"
AGAIN_SECONDS = 1.0
GPU_SECONDS = 0.5
HOUSEKEEPING_SECONDS = 600.0
STOP_SECONDS = 5
LOG_LINES = 10_000
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
    """A job of the bundle's owner. `resources` go before the bundle's.

    Raises:
        Unprocessable: a resource is not served, or there is a configuration and the bundle has no place for it.
    """
    if job_config is not None and bundle.mount_location is None:
        raise Unprocessable(
            f"job_config is given, and the bundle {bundle.name!r} has no mount_location, the file that would "
            "have it: make the bundle with one"
        )
    return ImageJobRecord(
        id="imj_" + secrets.token_hex(10),
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
    """What a job has, as an endpoint's one worker would.

    Raises:
        Unprocessable: a quantity is none, or is not served.
    """
    endpoint = {
        "name": "job",
        "model_bundle_id": "",
        "endpoint_type": EndpointType.ASYNC,
        "metadata": {},
        "labels": {},
        "min_workers": 1,
        "max_workers": 1,
        "per_worker": 1,
        **DEFAULT_RESOURCES,
        **resources,
    }
    return new_spec(CreateModelEndpointRequest.model_validate(endpoint))


@dataclass(slots=True)
class _Run:
    """A job in memory; `ended` is set once its end is recorded."""

    job: ImageJobRecord
    work: asyncio.Task[tuple[BatchJobStatus, str | None]] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class ImageJobs:
    """Runs docker-image batch jobs. Used in the event loop's thread.

    `folder` has the jobs' configurations while they live, `logs` what their containers printed.
    """

    def __init__(
        self,
        settings: JobSettings,
        store: Store,
        engine: ContainerEngine,
        controller: Controller,
        folder: Path,
        logs: Path,
    ) -> None:
        self._settings = settings
        self._store = store
        self._engine = engine
        self._controller = controller
        self._folder = folder
        self._logs = logs
        self._turns = asyncio.Semaphore(settings.max_running_batch_jobs)
        self._runs: dict[str, _Run] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def hold_gpus(self) -> None:
        """Hold the GPUs of the jobs that run already. To be called before the controller starts workers."""
        for job in await self._store.read(job_store.list_unfinished):
            self._controller.hold_gpus(job.id, tuple(job.gpu_indices))

    async def start(self) -> None:
        """Go on with what an earlier server left."""
        unfinished = await self._store.read(job_store.list_unfinished)
        for job in sorted(unfinished, key=lambda job: job.status is BatchJobStatus.PENDING):
            self.begin(job)
        if await self._store.read(job_store.has_any):
            self._spawn(self._sweep({_name(job.id) for job in unfinished}))
        self._spawn(self._housekeeping())

    async def stop(self) -> None:
        """Leave all jobs as they are: their containers go on."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    # What the routes and triggers call.

    async def create(self, job: ImageJobRecord) -> None:
        """Store a new job and begin with it."""
        await self._store.write(lambda conn: job_store.insert(conn, job))
        self.begin(job)

    def begin(self, job: ImageJobRecord) -> None:
        """Run a job that is stored."""
        run = self._runs[job.id] = _Run(job)
        self._spawn(self._live(run))

    async def get(self, owner: str, job_id: str, wait: float = 0.0) -> ImageJobRecord:
        """The job, after waiting up to `wait` seconds for it to end.

        Raises:
            NotFound: the owner has no such job.
        """
        job = await self._get(owner, job_id)
        if wait > 0 and not job.status.done and (run := self._runs.get(job_id)) is not None:
            try:
                async with asyncio.timeout(wait):
                    await run.ended.wait()
            except TimeoutError:
                return job
            return await self._get(owner, job_id)
        return job

    async def _get(self, owner: str, job_id: str) -> ImageJobRecord:
        job = await self._store.read(lambda conn: job_store.get(conn, owner, job_id))
        if job is None:
            raise NotFound(f"no docker-image batch job has the id {job_id!r}", code="batch_job_not_found")
        return job

    async def cancel(self, owner: str, job_id: str) -> bool:
        """End a job; its container is stopped and removed. False when it had ended.

        Raises:
            NotFound: the owner has no such job.
        """
        await self._get(owner, job_id)
        ended = await self._end(job_id, BatchJobStatus.CANCELLED, "the job was cancelled")
        run = self._runs.get(job_id)
        if ended and run is not None and run.work is not None:
            run.work.cancel()
        return ended

    async def read_log(self, owner: str, job_id: str) -> str:
        """The last lines that the job's container has printed.

        Raises:
            NotFound: the owner has no such job.
        """
        await self._get(owner, job_id)
        path = self._log_path(job_id)
        if not path.exists() and job_id in self._runs:
            lines = await self._engine.logs(_name(job_id), LOG_LINES)
            if lines or not path.exists():  # else the container was removed meanwhile
                return "".join(f"{line}\n" for line in lines)
        return await asyncio.to_thread(path.read_text, errors="replace") if path.exists() else ""

    # A job's life.

    async def _live(self, run: _Run) -> None:
        while True:
            try:
                job = await self._get(run.job.owner, run.job.id)
                if not job.status.done:
                    await self._to_the_end(run)
                await self._clear(run)
                return
            except Exception:
                log.exception("the job %s could not be ended; trying again", run.job.id)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _to_the_end(self, run: _Run) -> None:
        run.work = work = asyncio.create_task(self._in_turn(run.job))
        try:
            await asyncio.wait({work})
        finally:
            work.cancel()
            await asyncio.wait({work})
        if not work.cancelled():
            status, reason = work.result()
            await self._end(run.job.id, status, reason)

    async def _end(self, job_id: str, status: BatchJobStatus, reason: str | None) -> bool:
        changed = await self._store.write(
            lambda conn: job_store.end(conn, job_id, status, reason, clock.now())
        )
        if changed:
            log.info("job %s: %s", job_id, status)
        if (run := self._runs.get(job_id)) is not None:
            run.ended.set()
        return changed

    async def _in_turn(self, job: ImageJobRecord) -> tuple[BatchJobStatus, str | None]:
        """Run the job, and say how it has ended."""
        async with self._turns:
            try:
                started_at = job.started_at or await self._started(job)
                async with asyncio.timeout(started_at + job.max_runtime - clock.now()):
                    state = await self._ended(_name(job.id))
                # Before the end is told: who hears of it finds the log.
                lines = await self._engine.logs(_name(job.id), LOG_LINES)
                await asyncio.to_thread(self._keep_log, job.id, lines)
            except TimeoutError:
                return BatchJobStatus.TIMEOUT, f"the job ran for {job.max_runtime:g} s, its limit"
            except ContainerError as error:
                return BatchJobStatus.FAILURE, str(error)[:MAX_REASON]
            if state.exit_code == 0:
                return BatchJobStatus.SUCCESS, None
            return BatchJobStatus.FAILURE, _reason(state, lines[-REASON_LINES:])

    async def _started(self, job: ImageJobRecord) -> float:
        """Start the job's container, unless an earlier server has and could not record it; returns when."""
        name = _name(job.id)
        state = await self._engine.state(name)
        if state is not None and not state.started:
            await self._engine.remove(name)
            state = None
        gpus: tuple[int, ...] = ()
        if state is None:
            bundle = await self._store.read(lambda conn: job_store.get_bundle(conn, job.bundle_id))
            assert bundle is not None
            image = full_image_name(bundle.image_repository, bundle.image_tag)
            await self._engine.ensure_image(image)
            gpus = await self._gpus(job)
            mounts = await asyncio.to_thread(self._config, job, bundle)
            await self._engine.start(
                Container(
                    name,
                    image,
                    tuple(bundle.command),
                    bundle.env,
                    job.spec.cpus,
                    job.spec.memory,
                    gpus,
                    self._engine.labels(KIND),
                    mounts=mounts,
                )
            )
        now = clock.now()
        await self._store.write(lambda conn: job_store.set_running(conn, job.id, now, gpus))
        return now

    async def _gpus(self, job: ImageJobRecord) -> tuple[int, ...]:
        while True:
            gpus = self._controller.take_gpus(job.id, job.spec.gpus)
            if gpus is not None:
                return gpus
            await asyncio.sleep(GPU_SECONDS)

    def _config(self, job: ImageJobRecord, bundle: ImageJobBundleRecord) -> tuple[tuple[str, str], ...]:
        """Write the job's configuration, and say where it goes."""
        if bundle.mount_location is None:
            return ()
        folder = self._folder / job.id
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "config.json"
        path.write_text(json.dumps(job.job_config or {}))
        # For whatever user the container has; from outside, the data directory keeps others away.
        path.chmod(0o644)
        return ((str(path), bundle.mount_location),)

    async def _ended(self, name: str) -> ContainerState:
        while True:
            await self._engine.wait(name)
            state = await self._engine.state(name)
            if state is None:
                raise ContainerError("the job's container is gone, and not by this server")
            if not state.running:
                return state
            await asyncio.sleep(AGAIN_SECONDS)

    # The end.

    async def _clear(self, run: _Run) -> None:
        """Keep the log of a job that has ended, and remove everything else of it."""
        name = _name(run.job.id)
        try:
            state = await self._engine.state(name)
            if state is not None:
                if state.running:
                    await self._engine.stop(name, STOP_SECONDS)
                if not self._log_path(run.job.id).exists():
                    lines = await self._engine.logs(name, LOG_LINES)
                    await asyncio.to_thread(self._keep_log, run.job.id, lines)
                await self._engine.remove(name)
        except ContainerError as error:
            log.warning("nothing could be tidied up after the job %s: %s", run.job.id, error)
        await asyncio.to_thread(shutil.rmtree, self._folder / run.job.id, ignore_errors=True)
        self._controller.give_back_gpus(run.job.id)
        self._runs.pop(run.job.id, None)

    def _keep_log(self, job_id: str, lines: list[str]) -> None:
        path = self._log_path(job_id)
        path.write_text("".join(f"{line}\n" for line in lines))
        path.chmod(0o600)

    def _log_path(self, job_id: str) -> Path:
        return self._logs / f"{job_id}.log"

    async def _sweep(self, expected: set[str]) -> None:
        """Remove the containers of jobs that ended just before an earlier server did."""
        try:
            left = set(await self._engine.names(KIND)) - expected - {_name(job_id) for job_id in self._runs}
            if left:
                await self._engine.remove(*left)
        except ContainerError as error:
            log.warning("containers of ended jobs could not be looked for: %s", error)

    async def _housekeeping(self) -> None:
        while True:
            try:
                before = clock.now() - self._settings.batch_retention_seconds
                while old := await self._store.write(lambda conn: job_store.purge(conn, before)):  # noqa: B023
                    for job_id in old:
                        self._log_path(job_id).unlink(missing_ok=True)
            except Exception:
                log.exception("old jobs could not be deleted; it is tried again")
            await asyncio.sleep(HOUSEKEEPING_SECONDS)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _name(job_id: str) -> str:
    return f"openlaunch-{job_id}"


def _reason(state: ContainerState, last_lines: list[str]) -> str:
    memory = ", out of memory perhaps" if state.out_of_memory or state.exit_code == KILLED else ""
    last = "; its log ends with:\n" + "\n".join(last_lines) if last_lines else ""
    return f"the container exited with code {state.exit_code}{memory}{last}"[:MAX_REASON]

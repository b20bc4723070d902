"""Runs jobs that are stored: what batch jobs and docker-image batch jobs have in common.

Every step of a job can be repeated, so that a server that starts resumes what an earlier one left.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import Connection

from openlaunch.background import BackgroundTasks
from openlaunch.errors import NotFound, Unavailable
from openlaunch.server import clock
from openlaunch.server.access.quotas import Quotas
from openlaunch.store.base import Store
from openlaunch.store.cluster import check_leads
from openlaunch.store.records import JobEnd
from openlaunch.wire.batch_jobs import BatchJobStatus

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
HOUSEKEEPING_SECONDS = 600.0


class JobRecord(Protocol):
    """What a runner reads of a stored job."""

    @property
    def id(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def status(self) -> BatchJobStatus: ...


Record = TypeVar("Record", bound=JobRecord)


class JobTable(Protocol[Record]):
    """The store's functions for one kind of job: the modules `store.batch_jobs` and `store.image_jobs`."""

    def insert(self, conn: Connection, job: Record, /) -> None: ...
    def get(self, conn: Connection, owner: str, job_id: str, /) -> Record | None: ...
    def end(self, conn: Connection, job_id: str, end: JobEnd, now: float, /) -> bool: ...
    def purge(self, conn: Connection, before: float, /) -> list[str]: ...


@dataclass(slots=True)
class _Run(Generic[Record]):
    """A job in memory; `ended` is set once its end is recorded."""

    job: Record
    work: asyncio.Task[JobEnd] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class JobRunner(Generic[Record]):
    """Brings each job to a recorded end, then clears what it leaves; retries either until it succeeds.

    `work` runs a job and returns how it ended, `clear` removes what an ended job needs no longer, and `discard`
    gets what `table.purge` returned. `on_end` is called in the transaction that records an end.
    Used in the event loop's thread.
    """

    def __init__(
        self,
        store: Store,
        table: JobTable[Record],
        noun: str,
        *,
        work: Callable[[Record], Coroutine[Any, Any, JobEnd]],
        clear: Callable[[Record], Awaitable[None]],
        discard: Callable[[list[str]], Awaitable[None]],
        retention_seconds: float,
        quotas: Quotas | None = None,
        on_end: Callable[[Connection, str, JobEnd, float], None] = lambda conn, job_id, end, now: None,
    ) -> None:
        self._store = store
        self._table = table
        self._noun = noun
        self._work = work
        self._clear = clear
        self._discard = discard
        self._retention_seconds = retention_seconds
        self._quotas = quotas or Quotas()
        self._on_end = on_end
        self._runs: dict[str, _Run[Record]] = {}
        self._runs_here = True
        self._epoch = 0
        """Under which this server runs jobs, where several share a database."""
        self.background = BackgroundTasks(f"a background task of the {noun}s failed")

    def start(self, jobs: Iterable[Record], epoch: int) -> None:
        """Resume these jobs, under this epoch, and delete from now on those that ended long ago."""
        self._runs_here, self._epoch = True, epoch
        for job in jobs:
            self.begin(job)
        self.background.spawn(self._housekeeping())

    def leads(self) -> Callable[[Connection], None]:
        """Return what raises `Unavailable` in a transaction once another server runs the jobs.

        Such a server may have been held up for long, and not know it.
        """
        return partial(check_leads, epoch=self._epoch)

    async def stop(self) -> None:
        """Leave all jobs as they are, for the next server."""
        self._runs_here = False
        await self.background.stop()
        self._runs.clear()

    async def refresh(self, read: Callable[[Connection], Iterable[Record]]) -> None:
        """Run the jobs that were made at other servers, and stop those that were ended there. `read` lists jobs."""
        if not self._runs_here:
            return
        known = dict(self._runs)
        jobs = list(await self._store.read(read))
        for job in jobs:
            if job.id not in self._runs:
                self.begin(job)
        unfinished = {job.id for job in jobs if not job.status.done}
        for job_id, run in known.items():
            if job_id not in unfinished and run.work is not None:
                run.ended.set()
                run.work.cancel()

    async def create(self, job: Record) -> None:
        """Store a job and run it; raise Forbidden where its owner would have more than the quotas allow."""
        insert = self._quotas.within(job.owner, lambda conn: self._table.insert(conn, job))
        await self._store.write(insert, job.owner)
        self.begin(job)

    def begin(self, job: Record) -> None:
        """Run a job that is stored already, or leave it to the server that leads."""
        if not self._runs_here:
            return
        run = self._runs[job.id] = _Run(job)
        if job.status.done:
            run.ended.set()
        self.background.spawn(self._live(run))

    def has(self, job_id: str) -> bool:
        """Tell whether the job runs, waits for its turn, or is being cleared."""
        return job_id in self._runs

    async def get(self, owner: str, job_id: str, wait: float = 0.0) -> Record:
        """Return the owner's job, after waiting up to `wait` seconds for its end, or raise NotFound."""
        job = await self._get(owner, job_id)
        while wait > 0 and not job.status.done:
            if (run := self._runs.get(job_id)) is not None:
                try:
                    async with asyncio.timeout(wait):
                        await run.ended.wait()
                except TimeoutError:
                    return job
                return await self._get(owner, job_id)
            if self._runs_here:
                return job
            pause = min(wait, RETRY_SECONDS)
            await asyncio.sleep(pause)
            wait -= pause
            job = await self._get(owner, job_id)
        return job

    async def _get(self, owner: str, job_id: str) -> Record:
        job = await self._store.read(lambda conn: self._table.get(conn, owner, job_id), owner)
        if job is None:
            raise NotFound(f"no {self._noun} has the id {job_id!r}", code="batch_job_not_found")
        return job

    async def cancel(self, owner: str, job_id: str) -> bool:
        """End the owner's job now and stop its work; return False where it had ended."""
        await self._get(owner, job_id)
        ended = await self._end(job_id, JobEnd(BatchJobStatus.CANCELLED, "the job was cancelled"))
        run = self._runs.get(job_id)
        if ended and run is not None and run.work is not None:
            run.work.cancel()
        return ended

    async def _live(self, run: _Run[Record]) -> None:
        while True:
            try:
                run.job = await self._get(run.job.owner, run.job.id)
                if not run.job.status.done:
                    await self._run_to_end(run)
                    run.job = await self._get(run.job.owner, run.job.id)
                await self._clear(run.job)
                del self._runs[run.job.id]
                return
            except Unavailable as error:
                log.warning("the %s %s has to wait: %s", self._noun, run.job.id, error)
            except Exception:
                log.exception("the %s %s could not be run to its end; retrying", self._noun, run.job.id)
            await asyncio.sleep(RETRY_SECONDS)

    async def _run_to_end(self, run: _Run[Record]) -> None:
        # A task of its own: `cancel` ends the work alone, and what has to be cleared after it is cleared here.
        run.work = work = asyncio.create_task(self._work(run.job))
        try:
            await asyncio.wait({work})
        finally:
            work.cancel()
            await asyncio.wait({work})
        if not work.cancelled():
            await self._end(run.job.id, work.result(), self.leads())

    async def _end(
        self, job_id: str, end: JobEnd, check: Callable[[Connection], None] = lambda conn: None
    ) -> bool:
        def record(conn: Connection) -> bool:
            check(conn)
            changed, now = self._table.end(conn, job_id, end, clock.now()), clock.now()
            if changed:
                self._on_end(conn, job_id, end, now)
            return changed

        changed = await self._store.write(record)
        if changed:
            log.info("%s %s: %s", self._noun, job_id, end.status)
        if (run := self._runs.get(job_id)) is not None:
            run.ended.set()
        return changed

    async def _housekeeping(self) -> None:
        while True:
            try:
                before = clock.now() - self._retention_seconds
                while old := await self._store.write(lambda conn: self._table.purge(conn, before)):  # noqa: B023
                    await self._discard(old)
            except Exception:
                log.exception("old jobs (%s) could not be deleted; retrying later", self._noun)
            await asyncio.sleep(HOUSEKEEPING_SECONDS)

"""What the runner of jobs does with a job of whatever kind: here of docker images, without containers."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from example_bundles import IMAGE_BUNDLE as BUNDLE
from example_bundles import image_job as job

from openlaunch.errors import NotFound
from openlaunch.server.jobs import runner as runner_module
from openlaunch.server.jobs.runner import JobRunner
from openlaunch.store import image_jobs
from openlaunch.store.records import JobEnd
from openlaunch.store.sqlite import SqliteStore
from openlaunch.wire.batch_jobs import BatchJobStatus

DONE = JobEnd(BatchJobStatus.SUCCESS)


class Kind:
    """A kind of job whose work and clearing a test decides."""

    def __init__(self) -> None:
        self.worked: list[str] = []
        self.cleared: list[str] = []
        self.discarded: list[str] = []
        self.all_cleared = asyncio.Event()
        self.on_work: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
        self.failures = 0

    async def work(self, job):
        self.worked.append(job.id)
        await self.on_work()
        return DONE

    async def clear(self, job):
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        self.cleared.append(job.id)
        self.all_cleared.set()

    async def discard(self, purged):
        self.discarded += purged


@asynccontextmanager
async def running(path, *jobs):
    store = await SqliteStore.open(path)
    if not await store.read(lambda conn: image_jobs.get_bundle(conn, BUNDLE.id)):
        await store.write(lambda conn: image_jobs.insert_bundle(conn, BUNDLE))
    kind = Kind()
    runner = JobRunner(
        store,
        image_jobs,
        "job",
        work=kind.work,
        clear=kind.clear,
        discard=kind.discard,
        retention_seconds=0,
    )
    try:
        runner.start(jobs, epoch=0)
        yield runner, kind
    finally:
        await runner.stop()
        await store.close()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr(runner_module, "RETRY_SECONDS", 0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.db"


def test_a_job_is_run_recorded_and_cleared(path):
    async def main():
        async with running(path) as (runner, kind):
            await runner.create(job())
            ended = await runner.get("ada", "imj_1", wait=30)
            assert ended.status is BatchJobStatus.SUCCESS
            await kind.all_cleared.wait()
            assert (kind.worked, kind.cleared) == (["imj_1"], ["imj_1"])

    asyncio.run(main())


def test_work_that_raises_is_done_again(path):
    async def main():
        async with running(path) as (runner, kind):

            async def fail_first():
                if len(kind.worked) == 1:
                    raise OSError("the disk is full")

            kind.on_work = fail_first
            await runner.create(job())
            assert (await runner.get("ada", "imj_1", wait=30)).status is BatchJobStatus.SUCCESS
            assert len(kind.worked) == 2

    asyncio.run(main())


def test_clearing_is_retried_without_the_work(path):
    async def main():
        async with running(path) as (runner, kind):
            kind.failures = 2
            await runner.create(job())
            await kind.all_cleared.wait()
            assert (kind.worked, kind.cleared) == (["imj_1"], ["imj_1"])

    asyncio.run(main())


def test_a_cancelled_job_stops_and_is_cleared(path):
    async def main():
        async with running(path) as (runner, kind):
            began, stopped = asyncio.Event(), asyncio.Event()

            async def endless():
                began.set()
                try:
                    await asyncio.Event().wait()
                finally:
                    stopped.set()

            kind.on_work = endless
            await runner.create(job())
            await began.wait()
            assert await runner.cancel("ada", "imj_1")
            await stopped.wait()
            await kind.all_cleared.wait()
            assert (await runner.get("ada", "imj_1")).status is BatchJobStatus.CANCELLED
            assert not await runner.cancel("ada", "imj_1")

    asyncio.run(main())


def test_a_job_that_a_stop_interrupts_is_resumed_by_the_next_start(path):
    async def main():
        async with running(path) as (runner, kind):
            kind.on_work = asyncio.Event().wait
            await runner.create(job())
        async with running(path, job()) as (runner, kind):
            assert (await runner.get("ada", "imj_1", wait=30)).status is BatchJobStatus.SUCCESS
            assert kind.worked == ["imj_1"]

    asyncio.run(main())


def test_jobs_that_ended_long_ago_are_purged_and_discarded(path):
    async def main():
        async with running(path) as (runner, kind):
            await runner.create(job())
            await kind.all_cleared.wait()
        async with running(path) as (runner, kind), asyncio.timeout(30):
            while not kind.discarded:
                await asyncio.sleep(0.01)
            assert kind.discarded == ["imj_1"]
            with pytest.raises(NotFound, match="no job has the id 'imj_1'"):
                await runner.get("ada", "imj_1")

    asyncio.run(main())

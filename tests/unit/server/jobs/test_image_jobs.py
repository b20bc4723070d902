"""Jobs of images over the ends of servers: on a real store, with containers in memory."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

from example_bundles import IMAGE_BUNDLE, image_job

from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.engines.documents import ContainerState
from openlaunch.engines.gpus import GpuPool
from openlaunch.engines.jobs import ContainerJobs
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.jobs.image_jobs import ImageJobs
from openlaunch.server.settings import JobSettings
from openlaunch.store import image_jobs
from openlaunch.store.records import JobEnd
from openlaunch.store.sqlite import SqliteStore
from openlaunch.wire.batch_jobs import BatchJobStatus


class Containers:
    """Containers of a machine, which run until `ended` is set, and outlive servers."""

    def __init__(self):
        self.running = {}
        self.started, self.ended = asyncio.Event(), asyncio.Event()
        self.never_returns = False

    def labels(self, kind):
        return {}

    async def ensure_image(self, image):
        pass

    async def start(self, container):
        self.running[container.name] = container
        self.started.set()
        if self.never_returns:
            await asyncio.Event().wait()

    async def state(self, name):
        if name not in self.running:
            return None
        return ContainerState(True, not self.ended.is_set(), 0, False)

    async def wait(self, name):
        await self.ended.wait()

    async def logs(self, name, lines):
        return []

    async def remove(self, *names):
        for name in names:
            self.running.pop(name, None)


@asynccontextmanager
async def server(folder, containers, gpus):
    """The jobs of a server that starts on what an earlier one left, and leaves everything to the next."""
    store = await SqliteStore.open(folder / "store.db")
    if not await store.read(lambda conn: image_jobs.get_bundle(conn, IMAGE_BUNDLE.id)):
        await store.write(lambda conn: image_jobs.insert_bundle(conn, IMAGE_BUNDLE))
    engine = SimpleNamespace(jobs=ContainerJobs(containers, gpus, folder / "jobs"))
    jobs = ImageJobs(JobSettings(), store, engine, FolderArtifacts(folder / "artifacts"))
    await jobs.resume()
    try:
        await jobs.start(epoch=0)
        yield jobs.runner
    finally:
        await jobs.runner.stop()
        await store.close()


def test_gpus_stay_with_a_job_whose_start_the_server_did_not_live_to_record(tmp_path):
    async def main():
        containers = Containers()
        containers.never_returns = True
        async with asyncio.timeout(30):
            async with server(tmp_path, containers, GpuPool((0, 1, 2))) as runner:
                await runner.create(image_job(gpus=2))
                await containers.started.wait()
            gpus = GpuPool((0, 1, 2))
            async with server(tmp_path, containers, gpus) as runner:
                assert gpus.free == 1
                containers.ended.set()
                ended = await runner.get("ada", "imj_1", wait=30)
                assert ended.status is BatchJobStatus.SUCCESS
                while gpus.free < 3:
                    await asyncio.sleep(0.01)
        assert containers.running == {}

    asyncio.run(main())


def test_a_triggers_job_that_a_quota_refuses_is_kept_as_a_failure_with_the_numbers(tmp_path):
    async def main():
        quotas = Quotas()
        quotas.set_all({"ada": {"gpus": 1, "workers": "unlimited", "cpus": "default"}})
        store = await SqliteStore.open(tmp_path / "store.db")
        engine = SimpleNamespace(jobs=None)
        jobs = ImageJobs(JobSettings(), store, engine, FolderArtifacts(tmp_path / "artifacts"), quotas)
        try:
            await store.write(lambda conn: image_jobs.insert_bundle(conn, IMAGE_BUNDLE))
            due = [replace(image_job(gpus=1), id=f"imj_{number}") for number in range(2)]
            for job, runs in zip(due, (True, False), strict=True):
                assert await store.write(lambda conn, one=job: jobs.insert_due(conn, one)) is runs
            kept, refused = [
                await store.read(lambda c, one=job: image_jobs.get(c, "ada", one.id)) for job in due
            ]
            assert kept.status is BatchJobStatus.PENDING
            assert refused.status is BatchJobStatus.FAILURE
            assert "would have 2 GPUs in all workers, and 1 are allowed" in refused.status_reason
            await store.write(lambda conn: image_jobs.end(conn, due[0].id, JobEnd(BatchJobStatus.SUCCESS), 1))
            third = replace(due[0], id="imj_2")
            assert await store.write(lambda conn: jobs.insert_due(conn, third))
        finally:
            await store.close()

    asyncio.run(main())

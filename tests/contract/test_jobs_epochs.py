"""A server that was held up runs no job and fires no trigger once another one leads: PostgreSQL compares epochs."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from example_bundles import IMAGE_BUNDLE, image_job
from postgres_server import shared_server

from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.controller.reports import Reports
from openlaunch.errors import Unavailable
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.endpoints.changes import new_endpoint
from openlaunch.server.jobs.image_jobs import ImageJobs
from openlaunch.server.jobs.triggers import Triggers
from openlaunch.server.prediction.inputs import PredictInput
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import JobSettings, Settings
from openlaunch.store import image_jobs, triggers
from openlaunch.store.postgres import PostgresStore
from openlaunch.store.records import ImageJobRecord, JobEnd, TriggerRecord
from openlaunch.tasks import batch
from openlaunch.wire.batch_jobs import BatchJobStatus
from openlaunch.wire.endpoints import EndpointType

MINE, LATER = 7, 8
_names = itertools.count()


@pytest.fixture
def url() -> Iterator[str]:
    server, name = shared_server(), f"epochs_{next(_names)}"
    server.execute(f"CREATE DATABASE {name}")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def led_under(url: str, epoch: int) -> None:
    with psycopg.connect(url) as other:
        other.execute("UPDATE leader SET epoch = %s", [epoch])


class Machine:
    """Runs no container: what it is asked fails the test."""

    async def ids(self) -> list[str]:
        return []


def jobs_of(store: PostgresStore, folder: Path) -> ImageJobs:
    engine = cast("Any", SimpleNamespace(jobs=Machine()))
    return ImageJobs(JobSettings(), store, engine, folder)


def test_a_trigger_is_fired_by_the_server_that_leads_alone(url: str, tmp_path: Path) -> None:
    async def test() -> None:
        store = await PostgresStore.open(url)
        await store.write(lambda conn: image_jobs.insert_bundle(conn, IMAGE_BUNDLE))
        due = TriggerRecord("t", "ada", "t", "* * * * *", IMAGE_BUNDLE.id, None, None, False, 60.0, 0.0)
        await store.write(lambda conn: triggers.insert(conn, due))
        jobs = jobs_of(store, tmp_path)
        jobs.runner.start([], MINE)
        lanes = submitter = cast("Any", None)  # the trigger is of a bundle
        fires = Triggers(JobSettings(), store, jobs, lanes, submitter, clock=lambda: 61.0)
        led_under(url, LATER)
        with pytest.raises(Unavailable, match="another server of the cluster leads"):
            await fires._fire()
        assert await store.read(image_jobs.list_unfinished) == []
        assert await store.read(triggers.next_due) == 60.0
        led_under(url, MINE)
        await fires._fire()
        (job,) = await store.read(image_jobs.list_unfinished)
        assert job.due_at == 60.0
        await jobs.runner.stop()
        await store.close()

    asyncio.run(test())


def test_a_job_has_the_end_that_the_server_which_leads_gives_it(url: str, tmp_path: Path) -> None:
    """Its container is not there, so this server would have it fail."""

    async def state_of(store: PostgresStore, job: ImageJobRecord) -> BatchJobStatus:
        found = await store.read(lambda conn: image_jobs.get(conn, job.owner, job.id))
        assert found is not None
        return found.status

    async def test() -> None:
        store = await PostgresStore.open(url)
        await store.write(lambda conn: image_jobs.insert_bundle(conn, IMAGE_BUNDLE))
        job = image_job()
        await store.write(lambda conn: image_jobs.insert(conn, job))
        led_under(url, LATER)
        jobs = jobs_of(store, tmp_path)
        tried = asyncio.Event()

        async def fail(given: object) -> Any:
            tried.set()
            return JobEnd(BatchJobStatus.FAILURE, "the container is gone")

        jobs.runner._work = fail
        jobs.runner.start([job], MINE)
        async with asyncio.timeout(30):
            await tried.wait()
            tried.clear()
            await tried.wait()  # the first end was refused, so it was tried again
            assert await state_of(store, job) is BatchJobStatus.PENDING
            led_under(url, MINE)
            while await state_of(store, job) is not BatchJobStatus.FAILURE:
                await asyncio.sleep(0.02)
        await jobs.runner.stop()
        await store.close()

    asyncio.run(test())


def test_inputs_of_a_job_are_stored_by_the_server_that_leads_alone(url: str, tmp_path: Path) -> None:
    async def test() -> None:
        store = await PostgresStore.open(url)
        artifacts, settings = FolderArtifacts(tmp_path / "artifacts"), Settings()
        lanes = Lanes(settings)
        lanes.listen(Reports({}.get, lambda *line: None))
        tasks = TaskService(settings, store, artifacts, lanes, SchemaCache(store))
        endpoint = new_endpoint("job", "batch job", EndpointType.ASYNC, "bun", image_job().spec, "job")
        lanes.update_endpoint(endpoint)
        lane = lanes.of("job")
        jobs = jobs_of(store, tmp_path)
        jobs.runner.start([], MINE)
        large = PredictInput(b'{"args": {"text": "%b"}}' % (b"x" * settings.inline_bytes))
        inputs = [PredictInput(b"{}"), large]
        led_under(url, LATER)
        with pytest.raises(Unavailable, match="another server of the cluster leads"):
            await tasks.submitter.submit(lane, "job", inputs, check=jobs.runner.leads())
        assert await store.read(lambda conn: batch.submitted(conn, "job")) == 0
        assert not [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
        led_under(url, MINE)
        await tasks.submitter.submit(lane, "job", inputs, check=jobs.runner.leads())
        assert await store.read(lambda conn: batch.submitted(conn, "job")) == 2
        await tasks.stop()
        await jobs.runner.stop()
        await store.close()

    asyncio.run(test())

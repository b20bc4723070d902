"""Results of tasks that have just ended are told from memory, and to their owners alone."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from records import open_store

from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.errors import NotFound
from openlaunch.server import clock
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.queue.recording import MAX_STORING_BYTES
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import Settings
from openlaunch.store.base import Store
from openlaunch.tasks import housekeeping, queue
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch_worker.frames import Outcome


class CountingStore:
    """A store that counts what it is asked."""

    def __init__(self, store: Store) -> None:
        self.is_service = False
        self.reads = self.writes = 0
        self.store = store

    async def read(self, op: Any, owner: str = "") -> Any:
        self.reads += 1
        return await self.store.read(op, owner)

    async def write(self, op: Any, owner: str = "") -> Any:
        self.writes += 1
        return await self.store.write(op, owner)


def run(folder: Path, test: Any, ids: list[str], **settings: Any) -> None:
    """Call the test with a queue that runs ada's tasks of these ids, and with its store."""

    async def main() -> None:
        store, now = await open_store(folder), clock.now()
        counting: Any = CountingStore(store)
        new = [NewTask(task_id, "end", "ada", now + 60, 3, b"{}") for task_id in ids]
        await store.write(lambda conn: queue.submit(conn, new, now))
        await store.write(lambda conn: queue.claim(conn, "end", len(new), "server", 60, now))
        artifacts = FolderArtifacts(folder / "artifacts")
        given = Settings(**settings)
        tasks = TaskService(given, counting, artifacts, Lanes(given), SchemaCache(counting))
        for task_id in ids:
            tasks.runner._hub.expect(task_id, "ada")
        try:
            async with asyncio.timeout(30):
                await test(tasks, counting)
        finally:
            await tasks.stop()
            await store.close()

    asyncio.run(main())


def success(task_id: str) -> Finished:
    return Finished(task_id, State.SUCCESS, 200, b"{}")


def test_what_has_just_ended_is_not_looked_up(tmp_path: Path) -> None:
    ids = [f"t{n}" for n in range(20)]

    async def test(tasks: TaskService, store: CountingStore) -> None:
        waiting = asyncio.create_task(tasks.answerer.wait_for_any("ada", ids, 30))
        await asyncio.sleep(0)
        for task_id in ids:
            tasks.recorder.record(success(task_id))
        done = [record.id async for record in (await waiting).records()]
        assert done == ids
        assert (await tasks.answerer.get("ada", "t3", 0)) == success("t3")
        assert store.reads == 0
        assert store.writes == 1

        for asked in (["t1"], ["t1", "unknown"]):
            with pytest.raises(NotFound):
                await tasks.answerer.wait_for_any("bob", asked, 0)
        with pytest.raises(NotFound, match="unknown"):
            await tasks.answerer.wait_for_any("ada", ["t1", "unknown"], 0)

    run(tmp_path, test, ids)


def test_what_runs_here_and_what_is_in_the_store_are_found_together(tmp_path: Path) -> None:
    async def test(tasks: TaskService, store: CountingStore) -> None:
        tasks.runner._hub.forget("old")
        await store.store.write(lambda conn: queue.complete(conn, [success("old")], 1))
        tasks.recorder.record(success("new"))
        await tasks.recorder.flush()
        done = await tasks.answerer.wait_for_any("ada", ["runs", "old", "new"], 30)
        assert [record.id async for record in done.records()] == ["new", "old"]
        assert store.reads == 2  # both of "old" alone: whether it is done, and its result

    run(tmp_path, test, ["runs", "old", "new"])


def test_what_is_kept_for_a_moment_alone_is_not_known_for_longer(tmp_path: Path) -> None:
    """Another server of a cluster may have deleted it."""

    async def test(tasks: TaskService, store: CountingStore) -> None:
        tasks.recorder.record(success("t"))
        await tasks.recorder.flush()
        await store.store.write(
            lambda conn: housekeeping.delete_old(conn, housekeeping.find_old(conn, 1e12, 0))
        )
        await asyncio.sleep(0.01)
        with pytest.raises(NotFound):
            await tasks.answerer.get("ada", "t", 0)

    run(tmp_path, test, ["t"], result_retention_seconds=0.001)


def test_large_results_are_not_recorded_in_one_statement(tmp_path: Path) -> None:
    """A database has to answer each statement within seconds."""
    ids = [f"t{n}" for n in range(128)]

    async def test(tasks: TaskService, store: CountingStore) -> None:
        for task_id in ids:
            tasks.recorder.record(Finished(task_id, State.SUCCESS, 200, b"x" * 250_000))
        done = await tasks.answerer.wait_for_any("ada", ids, 30)
        assert 0 < len([record async for record in done.records()]) < len(ids) / 2
        await tasks.recorder.flush()
        assert 4 <= store.writes <= 8

    run(tmp_path, test, ids)


def test_a_task_that_this_server_has_given_up_is_looked_up(tmp_path: Path) -> None:
    """Its large result could not be kept: another server may run it now."""

    async def test(tasks: TaskService, store: CountingStore) -> None:
        (tmp_path / "artifacts").rmdir()
        (tmp_path / "artifacts").write_text("a file in the folder's place")
        tasks.recorder.storing["another"] = MAX_STORING_BYTES
        unused: Any = None
        tasks.recorder.answered(unused, "t", unused, Outcome.PICKLED, b"x")
        async with asyncio.timeout(30):
            while tasks.runner._hub.expects("t", "ada"):
                await asyncio.sleep(0.01)
        await store.store.write(lambda conn: queue.complete(conn, [success("t")], 1))
        done = await tasks.answerer.wait_for_any("ada", ["t"], 0)
        assert [record.id async for record in done.records()] == ["t"]

    run(tmp_path, test, ["t"])

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
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import Settings
from openlaunch.store.base import Store
from openlaunch.tasks import queue
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State


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


def run(folder: Path, test: Any, ids: list[str]) -> None:
    """Call the test with a queue that runs ada's tasks of these ids, and with its store."""

    async def main() -> None:
        store, now = await open_store(folder), clock.now()
        counting: Any = CountingStore(store)
        new = [NewTask(task_id, "end", "ada", now + 60, 3, b"{}") for task_id in ids]
        await store.write(lambda conn: queue.submit(conn, new, now))
        await store.write(lambda conn: queue.claim(conn, "end", len(new), "server", 60, now))
        artifacts = FolderArtifacts(folder / "artifacts")
        tasks = TaskService(Settings(), counting, artifacts, Lanes(Settings()), SchemaCache(counting))
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

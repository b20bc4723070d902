"""Results are recorded together, and one that can't be recorded is alone with that."""

import asyncio
from types import SimpleNamespace
from typing import Any

from records import open_store

from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.errors import Unavailable
from openlaunch.server import clock
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.prediction.results import HEAD, TAIL
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.queue import recording
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import Settings
from openlaunch.tasks import lookups, queue
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch_worker.frames import Outcome


async def states_after(folder, results):
    """The states of the tasks, once these results were recorded in one turn of the loop."""
    store = await open_store(folder)
    artifacts, now = FolderArtifacts(folder / "artifacts"), clock.now()
    new = [NewTask(result.id, "end", "ada", now + 60, 3, b"{}") for result in results]
    await store.write(lambda conn: queue.submit(conn, new, now))
    await store.write(lambda conn: queue.claim(conn, "end", len(new), "server", 60, now))
    tasks = TaskService(Settings(), store, artifacts, Lanes(Settings()), SchemaCache(store))
    good = [result.id for result in results if result.status_code == 200]
    try:
        for result in results:
            tasks.recorder.record(result)
        async with asyncio.timeout(30):
            while True:
                records = await store.read(
                    lambda conn: lookups.get_many(conn, "ada", [r.id for r in results])
                )
                states = {record.id: record.state for record in records}
                if (
                    all(states[task_id] is State.SUCCESS for task_id in good)
                    and State.STARTED not in states.values()
                ):
                    return states
                await asyncio.sleep(0.01)
    finally:
        await tasks.stop()
        await store.close()


def test_a_result_that_the_store_does_not_take_leaves_the_others_alone(tmp_path):
    results = [Finished(f"t{n}", State.SUCCESS, 200, b"{}") for n in range(3)]
    broken = Finished("broken", State.FAILURE, {}, b"{}")  # type: ignore[arg-type]
    states = asyncio.run(states_after(tmp_path, [*results[:1], broken, *results[1:]]))
    assert states["broken"] is State.FAILURE, "it would run again and again"


class Away:
    """A store that can't be written as long as it is away."""

    def __init__(self, store):
        self.store, self.away, self.attempts = store, True, 0

    def __getattr__(self, name):
        return getattr(self.store, name)

    async def write(self, op, owner=""):
        self.attempts += 1
        if self.away:
            raise Unavailable("the database can't be used: it does not answer", retry_after=2)
        return await self.store.write(op, owner)


def test_results_that_wait_for_the_store_take_bounded_memory_and_none_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "MAX_WAITING_BYTES", 1_000_000)
    monkeypatch.setattr(recording, "RETRY_SECONDS", 0.01)
    ids = [f"t{n}" for n in range(60)]
    answers = {i: HEAD + b'"%s"' % (i.encode() * 20_000) + TAIL for i in ids}
    work: Any = SimpleNamespace(serving_bundle_id="bundle", owner="ada")

    async def main():
        store, artifacts = Away(await open_store(tmp_path)), FolderArtifacts(tmp_path / "artifacts")
        now = clock.now()
        new = [NewTask(i, "end", "ada", now + 60, 3, b"{}") for i in ids]
        await store.store.write(lambda conn: queue.submit(conn, new, now))
        await store.store.write(lambda conn: queue.claim(conn, "end", len(new), "server", 60, now))
        tasks = TaskService(Settings(), store, artifacts, Lanes(Settings()), SchemaCache(store))
        recorder = tasks.recorder
        try:
            async with asyncio.timeout(60):
                for i in ids:
                    recorder.answered(work, i, work, Outcome.SUCCESS, answers[i])
                while recorder.storing or store.attempts < 3:
                    await asyncio.sleep(0.01)
                assert recorder.waiting == len(ids)
                assert recorder.waiting_bytes < 1_100_000, "of three million"
                store.away = False
                while recorder.waiting:
                    await asyncio.sleep(0.01)
                found = await store.read(lambda conn: lookups.get_many(conn, "ada", ids))
                got = {each.id: each.result or await artifacts.get(each.result_key or "") for each in found}
            assert got == answers
            assert (recorder.waiting, recorder.waiting_bytes) == (0, 0)
        finally:
            store.away = False
            await tasks.stop()
            await store.close()

    asyncio.run(main())

"""Results are recorded together, and one that can't be recorded is alone with that."""

import asyncio

from records import open_store

from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.server import clock
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import Settings
from openlaunch.tasks import lookups, queue
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State


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

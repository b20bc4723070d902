"""Who follows a task sees all that it says, whenever it runs."""

import asyncio

from records import open_store

from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.server import clock
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import Settings
from openlaunch.tasks import queue
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch_worker.frames import Kind


class Meanwhile:
    """A store in which something happens before each read is made, because reads wait for their turn."""

    def __init__(self, store):
        self.store, self.happens = store, None

    def __getattr__(self, name):
        return getattr(self.store, name)

    async def read(self, op, owner=""):
        if self.happens is not None:
            await self.happens()
        return await self.store.read(op, owner)


def test_what_a_task_says_that_begins_and_ends_while_it_is_looked_up_is_seen(tmp_path):
    async def main():
        store, now = Meanwhile(await open_store(tmp_path)), clock.now()
        tasks = TaskService(
            Settings(), store, FolderArtifacts(tmp_path / "a"), Lanes(Settings()), SchemaCache(store)
        )

        async def run():
            store.happens = None
            await store.write(lambda conn: queue.claim(conn, "end", 1, "server", 60, now))
            for value in (b'"one"', b'"two"'):
                tasks.notes.add("t", "ada", run, Kind.PARTIAL, value)
            done = [Finished("t", State.SUCCESS, 200, b"{}")]
            await store.write(lambda conn: queue.complete(conn, done, now))

        try:
            await store.write(
                lambda conn: queue.submit(conn, [NewTask("t", "end", "ada", now + 60, 3, b"{}")], now)
            )
            store.happens = run
            async with asyncio.timeout(60):
                seen = await tasks.follower.follow("ada", "t", 0, 30)
            assert (seen.done, [value for _, value in seen.partials]) == (True, [b'"one"', b'"two"'])
        finally:
            await tasks.stop()
            await store.close()

    asyncio.run(main())

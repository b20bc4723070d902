"""Whose tasks a queue takes over when it starts."""

import asyncio

import pytest
from records import open_store

from openlaunch.artifacts.folder import FolderArtifacts
from openlaunch.server import clock
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import Settings
from openlaunch.tasks import lookups, queue
from openlaunch.tasks.queue import NewTask
from openlaunch.tasks.states import State


async def state_after_start(folder, only_server):
    """The state of a task that another server holds under a lease, once a queue on the same store has started."""
    store = await open_store(folder)
    artifacts, now = FolderArtifacts(folder / "artifacts"), clock.now()
    await store.write(lambda conn: queue.submit(conn, [NewTask("t", "end", "ada", now + 60, 3, b"{}")], now))
    await store.write(lambda conn: queue.claim(conn, "end", 1, "another server", 60, now))
    settings = Settings()
    tasks = TaskService(settings, store, artifacts, Lanes(settings), SchemaCache(store))
    await tasks.start(only_server=only_server)
    try:
        return (await store.read(lambda conn: lookups.get(conn, "ada", "t"))).state
    finally:
        await tasks.stop()
        await store.close()


@pytest.mark.parametrize(("only_server", "state"), [(True, State.PENDING), (False, State.STARTED)])
def test_a_lease_of_another_server_ends_only_where_that_one_is_known_to_be_dead(tmp_path, only_server, state):
    assert asyncio.run(state_after_start(tmp_path, only_server)) is state

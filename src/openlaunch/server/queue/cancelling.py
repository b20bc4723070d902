"""Ends tasks before they are done."""

from openlaunch.server import clock
from openlaunch.server.queue.answering import no_task
from openlaunch.server.queue.running import Runner
from openlaunch.store.base import Store
from openlaunch.tasks import queue
from openlaunch.tasks.hub import Hub


class Canceller:
    """Ends tasks that nobody wants any longer, in the queue and in their workers."""

    def __init__(self, store: Store, runner: Runner, hub: Hub) -> None:
        self._store = store
        self._runner = runner
        self._hub = hub

    async def cancel(self, owner: str, task_id: str) -> bool:
        """Cancel a task; False when it was done already.

        Raises:
            NotFound: the owner has no such task.
        """
        before = await self._store.write(lambda conn: queue.cancel(conn, owner, task_id, clock.now()))
        if before is None:
            raise no_task(task_id)
        if not before.done:
            self._ended([task_id])
        return not before.done

    async def fail_endpoint(self, endpoint_id: str, reason: str) -> None:
        """Fail all tasks of an endpoint that is deleted."""
        while ended := await self._store.write(
            lambda conn: queue.fail_endpoint(conn, endpoint_id, reason, clock.now())
        ):
            self._ended(ended)

    def _ended(self, ids: list[str]) -> None:
        self._runner.stop(ids)
        self._hub.announce(ids)

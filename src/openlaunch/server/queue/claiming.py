"""Claims waiting tasks for free slots."""

from collections.abc import Callable

from sqlalchemy import Connection

from openlaunch.background import BackgroundTasks
from openlaunch.server import clock
from openlaunch.server.dispatch.dispatcher import Dispatcher
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.queue.running import Runner
from openlaunch.server.settings import QueueSettings
from openlaunch.store.base import Store
from openlaunch.tasks import queue
from openlaunch.tasks.hub import Hub
from openlaunch.tasks.queue import ClaimedTask

MAX_CLAIM = 256


class Claimer:
    """Takes waiting tasks out of the queue, as many as a lane has slots for, and has them run."""

    def __init__(
        self,
        settings: QueueSettings,
        store: Store,
        dispatcher: Dispatcher,
        runner: Runner,
        hub: Hub,
        background: BackgroundTasks,
        lease_owner: str,
    ) -> None:
        self._lease_seconds = settings.lease_seconds
        self._lease_owner = lease_owner
        self._store = store
        self._dispatcher = dispatcher
        self._runner = runner
        self._hub = hub
        self._background = background
        self._claiming: set[str] = set()

    def claim_for(self, lane: Lane) -> None:
        """Claim tasks for the lane's free slots; one claim at a time for each lane."""
        idle = lane.endpoint.id not in self._claiming and not self._hub.closed
        if idle and lane.backlog.size and lane.tasks_wanted():
            self._claiming.add(lane.endpoint.id)
            self._background.spawn(self._claim(lane))

    async def _claim(self, lane: Lane) -> None:
        endpoint_id, backlog = lane.endpoint.id, lane.backlog
        try:
            while backlog.size and not self._hub.closed:
                wanted = min(lane.tasks_wanted(), MAX_CLAIM)
                if not wanted:
                    break
                backlog.claiming += wanted
                try:
                    claimed = await self._store.write(self.claim_of(lane, wanted))
                finally:
                    backlog.claiming -= wanted
                if not claimed:
                    backlog.reset({})
                await self.run(lane, claimed)
        finally:
            self._claiming.discard(endpoint_id)

    def claim_of(self, lane: Lane, limit: int) -> Callable[[Connection], list[ClaimedTask]]:
        """The operation that claims tasks. It runs in the store's thread, so the lane is looked at beforehand."""
        endpoint_id, after = lane.endpoint.id, lane.backlog.last_owner
        me, lease = self._lease_owner, self._lease_seconds
        return lambda conn: queue.claim(conn, endpoint_id, limit, me, lease, clock.now(), after)

    async def run(self, lane: Lane, claimed: list[ClaimedTask]) -> None:
        """Have claimed tasks run."""
        lane.backlog.claimed(task.owner for task in claimed)
        for task in claimed:
            await self._runner.run(lane, task)

    async def recount(self) -> None:
        """Take the lanes' counts from the store: those in memory drift when a write is tried again."""
        counts = await self._store.read(queue.queued_counts)
        for lane in self._dispatcher.lanes():
            if lane.endpoint.id not in self._claiming:
                lane.backlog.reset(counts.get(lane.endpoint.id, {}))
                self.claim_for(lane)
                if lane.backlog.size:
                    lane.ask_for_workers()

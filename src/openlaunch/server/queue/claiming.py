"""Claims waiting tasks for free slots."""

import logging
from functools import partial
from typing import Protocol

from sqlalchemy import Connection

from openlaunch.server import clock
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.queue.running import Runner
from openlaunch.server.queue.shared import Shared
from openlaunch.tasks import lookups, queue
from openlaunch.tasks.queue import ClaimedTask

log = logging.getLogger(__name__)

MAX_CLAIM = 512


class Claim(Protocol):
    """Claims up to `limit` tasks."""

    def __call__(self, conn: Connection, limit: int) -> list[ClaimedTask]: ...


class Claimer:
    """Claims as many waiting tasks as a lane has slots for, and has them run."""

    def __init__(self, shared: Shared, runner: Runner) -> None:
        self._lease = shared.lease_owner, shared.settings.lease_seconds
        self._store, self._lanes = shared.store, shared.lanes
        self._hub, self._background = shared.hub, shared.background
        self._runner = runner
        self._claiming: set[str] = set()

    def claim_for(self, lane: Lane) -> None:
        """Claim tasks for the lane's free slots; one claim at a time for each lane."""
        idle = lane.endpoint.id not in self._claiming and not self._hub.closed
        if idle and lane.backlog.size and lane.claims.wanted():
            self._claiming.add(lane.endpoint.id)
            self._background.spawn(self._claim(lane))

    async def _claim(self, lane: Lane) -> None:
        endpoint_id, backlog = lane.endpoint.id, lane.backlog
        try:
            while backlog.size and not self._hub.closed:
                wanted = min(lane.claims.wanted(), MAX_CLAIM)
                if not wanted:
                    break
                backlog.claiming += wanted
                claim = partial(self.claim_of(lane), limit=wanted)
                try:
                    claimed = await self._store.write(claim)
                finally:
                    backlog.claiming -= wanted
                if not claimed:
                    backlog.reset({})
                await self.run(lane, claimed)
        finally:
            self._claiming.discard(endpoint_id)

    def claim_of(self, lane: Lane) -> Claim:
        """Make the operation that claims tasks. It runs in the store's thread, so the lane is read beforehand."""
        endpoint_id, after = lane.endpoint.id, lane.backlog.last_owner
        return lambda conn, limit: queue.claim(conn, endpoint_id, limit, *self._lease, clock.now(), after)

    async def run(self, lane: Lane, claimed: list[ClaimedTask]) -> None:
        """Have claimed tasks run."""
        lane.backlog.claimed(task.owner for task in claimed)
        for task in claimed:
            try:
                await self._runner.run(lane, task)
            except Exception:
                log.exception("the task %s could not be run; it is tried again when its lease ends", task.id)

    async def recount(self) -> None:
        """Take the lanes' counts from the store: those in memory drift when a write is tried again."""
        counts = await self._store.read(lambda conn: lookups.queued_counts(conn, clock.now()))
        for lane in self._lanes:
            if lane.endpoint.id not in self._claiming:
                lane.backlog.reset(counts.get(lane.endpoint.id, {}))
                self.claim_for(lane)
                if lane.backlog.size:
                    lane.ask_for_workers()

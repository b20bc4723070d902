"""Keeps the queue in order while the server runs."""

import asyncio
import logging
from collections.abc import Callable

from sqlalchemy import Connection

from openlaunch.server import clock
from openlaunch.server.queue.claiming import Claimer
from openlaunch.server.queue.running import Runner
from openlaunch.server.queue.shared import Shared
from openlaunch.tasks import housekeeping, lookups, queue
from openlaunch.tasks.queue import ClaimedTask

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
LOOK_SECONDS = 1.0
"""Interval at which a server looks for what others have done, without a message about it."""
PAGE = 500


class Housekeeper:
    """Renews leases, recovers lost tasks, and counts those that wait."""

    def __init__(self, shared: Shared, runner: Runner, claimer: Claimer) -> None:
        self._settings, self._lease_owner, self._store = shared.settings, shared.lease_owner, shared.store
        self._hub, self._lanes = shared.hub, shared.lanes
        self._is_alone = shared.messages is None
        self._interval = INTERVAL_SECONDS if self._is_alone else LOOK_SECONDS
        self._runner = runner
        self._claimer = claimer

    async def take_from_dead(self) -> None:
        """Queue tasks again of servers whose lease has run out."""
        left = await self._recover(housekeeping.recover_from_dead)
        if left:
            await self._claimer.recount()

    async def _recover(self, recover: Callable[[Connection, float], list[str]]) -> list[str]:
        """Queue tasks again, and claim those at once that nodes still run; return all."""
        now, left_work = clock.now(), self._runner.left_work
        kept = frozenset[str]() if left_work is None else left_work.task_ids()
        lease = self._lease_owner, now + self._settings.lease_seconds

        def run(conn: Connection) -> tuple[list[str], list[tuple[str, ClaimedTask]]]:
            left = recover(conn, now)
            return left, housekeeping.take_over(conn, kept.intersection(left), lease) if kept else []

        left, taken = await self._store.write(run)
        self._note_recovered(left)
        for endpoint_id, task in taken:
            if (
                lane := self._lanes.get(endpoint_id)
            ) is not None:  # else it is recovered when its lease has ended
                await self._claimer.run(lane, [task])
        return left

    async def drop_lost(self) -> None:
        """Stop the work on tasks that others have taken, because they took this server for dead."""
        held = self._runner.held()  # before the look: what is claimed meanwhile is not in it
        mine = await self._store.read(lambda conn: lookups.leased_to(conn, self._lease_owner))
        self._runner.stop([task_id for task_id in held if task_id not in mine])

    async def wake_waiters(self) -> None:
        """Wake those who wait for tasks that have ended elsewhere."""
        ids = self._hub.waited_for()
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            self._hub.wake(await self._store.read(lambda conn, page=page: lookups.done_of(conn, page)))  # type: ignore[misc]

    async def recover(self, *, only_server: bool) -> None:
        """Queue tasks again whose lease has ended, or whose server is known to have crashed.

        `only_server`: the caller knows that no other server uses this store, so every other lease ends at once.
        """
        alive = [self._lease_owner] if only_server else None
        await self._recover(lambda conn, now: housekeeping.recover(conn, now, alive))

    def _note_recovered(self, left: list[str]) -> None:
        if left:
            log.warning("%d tasks whose server died, or whose lease ended, are queued again", len(left))
            self._hub.wake(left)  # those that wait for one that has ended by this

    async def run(self) -> None:
        """Tidy up at intervals, for as long as the server runs."""
        while True:
            try:
                await asyncio.sleep(min(self._interval, self._settings.lease_seconds / 3))
                await self._tidy()
            except Exception:
                log.exception("housekeeping of the task queue failed; trying again")

    async def _tidy(self) -> None:
        if self._is_alone:
            await self._renew()
        else:
            await self._recover_dropped()
            await self.wake_waiters()
        await self._claimer.recount()

    async def _recover_dropped(self) -> None:
        now, owner, held = clock.now(), self._lease_owner, frozenset(self._runner.held())
        # Its tasks end with the server's own lease, so none is renewed.
        left = await self._store.write(lambda conn: housekeeping.recover_dropped(conn, now, owner, held))
        self._note_recovered(left)

    async def _renew(self) -> None:
        now = clock.now()
        lease, held = self._settings.lease_seconds, self._runner.held()
        await self._store.write(lambda conn: queue.renew(conn, self._lease_owner, held, lease, now))
        # This server does not renew leases of tasks that it claimed and then lost by an error of its own.
        await self.recover(only_server=False)

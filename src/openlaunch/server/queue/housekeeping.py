"""Keeps the queue in order while the server runs."""

import asyncio
import logging

from openlaunch.server import clock
from openlaunch.server.queue.claiming import Claimer
from openlaunch.server.queue.running import Runner
from openlaunch.server.queue.shared import Shared
from openlaunch.tasks import housekeeping, queue

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0


class Housekeeper:
    """Renews leases, recovers lost tasks, and counts those that wait."""

    def __init__(self, shared: Shared, runner: Runner, claimer: Claimer) -> None:
        self._settings, self._lease_owner, self._store = shared.settings, shared.lease_owner, shared.store
        self._hub = shared.hub
        self._runner = runner
        self._claimer = claimer

    async def recover(self, *, only_server: bool) -> None:
        """Queue tasks again whose lease has ended, or whose server is known to have crashed.

        `only_server`: the caller knows that no other server uses this store, so every other lease ends at once.
        """
        now = clock.now()
        alive = [self._lease_owner] if only_server else None
        left = await self._store.write(lambda conn: housekeeping.recover(conn, now, alive))
        if left:
            log.warning("%d tasks whose server died, or whose lease ended, are queued again", len(left))
            self._hub.announce(left)  # to those that wait for one that has ended by this

    async def run(self) -> None:
        """Tidy up at intervals, for as long as the server runs."""
        while True:
            try:
                await asyncio.sleep(min(INTERVAL_SECONDS, self._settings.lease_seconds / 3))
                await self._tidy()
            except Exception:
                log.exception("housekeeping of the task queue failed; trying again")

    async def _tidy(self) -> None:
        now = clock.now()
        lease, held = self._settings.lease_seconds, self._runner.held()
        await self._store.write(lambda conn: queue.renew(conn, self._lease_owner, held, lease, now))
        # This server does not renew leases of tasks that it claimed and then lost by an error of its own.
        await self.recover(only_server=False)
        await self._claimer.recount()

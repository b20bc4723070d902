"""Keeps the queue in order while the server runs."""

import asyncio
import logging

from openlaunch.artifacts.base import Artifacts
from openlaunch.server import clock
from openlaunch.server.queue.claiming import Claimer
from openlaunch.server.queue.running import Runner
from openlaunch.server.settings import QueueSettings
from openlaunch.store import answers
from openlaunch.store.base import Store
from openlaunch.tasks import queue
from openlaunch.tasks.hub import Hub

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0


class Housekeeper:
    """Renews leases, recovers lost tasks, expires those that waited too long, and deletes old results."""

    def __init__(
        self,
        settings: QueueSettings,
        store: Store,
        artifacts: Artifacts,
        runner: Runner,
        claimer: Claimer,
        hub: Hub,
        lease_owner: str,
    ) -> None:
        self._settings = settings
        self._store = store
        self._artifacts = artifacts
        self._runner = runner
        self._claimer = claimer
        self._hub = hub
        self._lease_owner = lease_owner

    async def recover(self, *, only_server: bool) -> None:
        """Queue tasks again whose lease has ended, or whose server is known to be dead.

        `only_server`: the caller knows that no other server uses this store, so that every other lease is a dead
        server's.
        """
        now = clock.now()
        alive = [self._lease_owner] if only_server else None
        left = await self._store.write(lambda conn: queue.recover(conn, now, alive))
        if left:
            log.warning("%d tasks whose server died, or whose lease ended, are queued again", len(left))

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
        # Also what this server claimed and then lost by an error of its own: it does not renew those leases.
        await self.recover(only_server=False)
        self._hub.announce(await self._store.write(lambda conn: queue.expire(conn, now)))
        keys = await self._store.write(
            lambda conn: queue.purge(conn, now, self._settings.result_retention_seconds)
        )
        keys += await self._store.write(lambda conn: answers.purge(conn, now))
        for key in keys:
            await self._artifacts.delete(key)
        await self._claimer.recount()

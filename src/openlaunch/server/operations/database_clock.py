"""Keeps the clock of durable times at the time of day of the database, which is the same for all of its servers."""

import asyncio
import logging

from openlaunch.background import BackgroundTasks
from openlaunch.errors import Unavailable
from openlaunch.server import clock
from openlaunch.store.base import Store

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
"""Two clocks that nobody sets part by less than a millisecond in this time."""

EXACT_SECONDS = 0.02
"""A smaller difference may come from the network, and is left."""

WORTH_TELLING_SECONDS = 1.0


class DatabaseClock:
    """Compares the clocks at the start and regularly, and corrects `server.clock`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._background = BackgroundTasks("the database's time of day is not followed any longer")

    async def start(self) -> None:
        """Set the clock, before anything is stored, and follow the database's from then on."""
        await self._follow()
        self._background.spawn(self._run())

    async def stop(self) -> None:
        await self._background.stop()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            try:
                await self._follow()
            except Unavailable:  # until the database is back, the clock passes as it does
                continue

    async def _follow(self) -> None:
        ahead = await self._store.ahead_of(clock.now)
        if abs(ahead) > WORTH_TELLING_SECONDS:
            log.warning(
                "the database's time of day is %.3g s %s this server's; times of tasks follow the database",
                abs(ahead),
                "ahead of" if ahead > 0 else "behind",
            )
        if abs(ahead) > EXACT_SECONDS:
            clock.correct(ahead)

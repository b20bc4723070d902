"""Ends tasks that have expired, deletes what was kept long enough, and has the database shrink."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import Connection

from openlaunch.background import Background
from openlaunch.server import clock
from openlaunch.server.queue.shared import Shared
from openlaunch.store import answers
from openlaunch.tasks import housekeeping, outbox

log = logging.getLogger(__name__)

T = TypeVar("T")

INTERVAL_SECONDS = 5.0
PASS_SECONDS = 3600.0
"""How long it takes until tasks that had to stay, those of a batch job, are looked at again."""
DELETED_AT_ONCE = 16
"""Artifacts that are deleted at the same time."""


class Retention(Background):
    """Works in slices of a few milliseconds for as long as there is something to do, so that it keeps pace."""

    def __init__(self, shared: Shared) -> None:
        self._store, self._artifacts, self._hub = shared.store, shared.artifacts, shared.hub
        self._seconds = shared.settings.result_retention_seconds
        self._now = asyncio.get_running_loop().time
        self._place: housekeeping.Place = housekeeping.FIRST
        self._began = self._waited = 0.0
        super().__init__("what was kept long enough could not be looked for")

    async def _run(self) -> None:
        while True:
            for step in (
                self._expire,
                self._delete_tasks,
                self._delete_answers,
                self._delete_notifications,
                self._store.shrink,
            ):
                try:
                    await self._repeat(step)
                except Exception:
                    log.exception("what was kept long enough could not all be deleted; trying again")
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _repeat(self, step: Callable[[], Awaitable[bool]]) -> None:
        """Take the step until it says that nothing is left, and leave others as much time as it works."""
        while True:
            began, self._waited = self._now(), 0.0
            if not await step():
                return
            await asyncio.sleep(self._now() - began - self._waited)

    async def _write(self, op: Callable[[Connection], T]) -> T:
        """Write, and count as time that was left to others what their part of the transaction takes."""
        asked = self._now()

        def timed(conn: Connection) -> T:
            began = self._now()
            try:
                return op(conn)
            finally:
                self._waited -= self._now() - began

        try:
            return await self._store.write(timed)
        finally:
            self._waited += self._now() - asked

    async def _expire(self) -> bool:
        ended = await self._write(lambda conn: housekeeping.expire(conn, clock.now()))
        self._hub.announce(ended)
        return bool(ended)

    async def _delete_tasks(self) -> bool:
        if self._began < self._now() - PASS_SECONDS:
            self._place, self._began = housekeeping.FIRST, self._now()
        now, place = clock.now(), self._place
        # Looked for by a reader: it may have to pass many that stay.
        old = await self._store.read(lambda conn: housekeeping.find_old(conn, now, self._seconds, place))
        if old.seqs:
            await self._write(lambda conn: housekeeping.delete_old(conn, old))
            self._hub.drop(old.ids)
            await self._delete(old.keys)
        self._place = old.place
        return old.more

    async def _delete_notifications(self) -> bool:
        before = clock.now() - self._seconds
        return await self._write(lambda conn: outbox.purge_notifications(conn, before)) > 0

    async def _delete_answers(self) -> bool:
        count, keys = await self._write(lambda conn: answers.purge(conn, clock.now()))
        await self._delete(keys)
        return count > 0

    async def _delete(self, keys: list[str]) -> None:
        for start in range(0, len(keys), DELETED_AT_ONCE):
            await self._artifacts.delete(*keys[start : start + DELETED_AT_ONCE])

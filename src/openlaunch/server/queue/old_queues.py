"""Says once which endpoints have tasks that wait for long, and once that they no longer do."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from time import monotonic

from sqlalchemy import Connection

from openlaunch.background import Background
from openlaunch.errors import APIError
from openlaunch.server import clock
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.store.base import Store
from openlaunch.tasks.position import oldest
from openlaunch.wire.events import EventKind

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
STORE_SECONDS = 0.1
"""How long one look asks the store; endpoints that there was no time for come first in the next one."""


class OldQueues(Background):
    """Looks after the queues of all endpoints while this server leads. Used in the event loop's thread.

    A queue is old once its oldest task has waited for `seconds`, and has caught up when none has waited for half of
    that.
    """

    def __init__(
        self, store: Store, lanes: Lanes, seconds: float, tell: Callable[[str, EventKind, str], None]
    ) -> None:
        self._store, self._lanes, self._seconds, self._tell = store, lanes, seconds, tell
        self._old: set[str] = set()
        self._looked: dict[str, float] = {}
        """When each endpoint with tasks that wait was looked at, by the monotonic clock."""
        super().__init__("how long tasks wait could not be looked at")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, self._seconds / 2))
            try:
                await self.look()
            except APIError as error:
                log.warning("how long tasks wait could not be looked at: %s", error)

    async def look(self) -> None:
        """Look at the queues now, and tell of those that are old, or no longer are."""
        for lane in self._lanes:
            if not lane.backlog.size:
                lane.oldest = None
        waiting = {lane.endpoint.id for lane in self._lanes if lane.backlog.size}
        self._looked = {each: self._looked.get(each, 0.0) for each in waiting}
        for caught_up in self._old - waiting:
            self._caught_up(caught_up)
        if not waiting:
            return
        in_order = sorted(waiting, key=self._looked.__getitem__)
        for endpoint_id, since in (await self._store.read(partial(_ask, in_order, clock.now()))).items():
            self._looked[endpoint_id] = monotonic()
            if (looked_at := self._lanes.get(endpoint_id)) is not None:
                looked_at.oldest = since
            waited = 0.0 if since is None else clock.now() - since
            if endpoint_id not in self._old and waited >= self._seconds:
                self._old.add(endpoint_id)
                self._tell(endpoint_id, EventKind.QUEUE_OLD, f"the oldest for more than {self._seconds:g} s")
            elif endpoint_id in self._old and waited < self._seconds / 2:
                self._caught_up(endpoint_id)

    def _caught_up(self, endpoint_id: str) -> None:
        self._old.discard(endpoint_id)
        self._tell(endpoint_id, EventKind.QUEUE_CAUGHT_UP, "")


def _ask(waiting: list[str], now: float, conn: Connection) -> dict[str, float | None]:
    ends, found = monotonic() + STORE_SECONDS, {}
    for endpoint_id in waiting:
        found[endpoint_id] = oldest(conn, endpoint_id, now)
        if monotonic() > ends:
            break
    return found

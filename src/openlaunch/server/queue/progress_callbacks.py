"""Sends what tasks say before their end to the receivers that asked for it."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from openlaunch.background import BackgroundTasks
from openlaunch.server.queue.following import HEARTBEAT_SECONDS, Follower
from openlaunch.server.queue.notes import TaskNotes
from openlaunch.store.base import Store
from openlaunch.tasks import outbox
from openlaunch.tasks.outbox import Delivery
from openlaunch.turns import Turns

PAUSE_SECONDS = 1.0
"""Least time between two messages about a task; what is said meanwhile is in the next one."""

AT_ONCE = 64
MAX_KNOWN = 10_000

Post = Callable[[Delivery, str, bytes], Awaitable[None]]
"""Sends a message with this id once."""


class ProgressCallbacks:
    """Follows each task that says something, if its callback is for that too. A message is sent once."""

    def __init__(self, store: Store, follower: Follower, post: Post) -> None:
        self._store, self._follower, self._post = store, follower, post
        self._known: OrderedDict[str, None] = OrderedDict()
        """Tasks that have been looked at."""
        self._turns = Turns(AT_ONCE)
        self._background = BackgroundTasks("a task could not be followed for its callback")

    def note(self, task_id: str, notes: TaskNotes) -> None:
        """Follow a task that has said something, unless it is followed, or has nobody who asked for it."""
        if task_id not in self._known:
            self._known[task_id] = None
            if len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
            self._background.spawn(self._follow(task_id, notes.owner))

    async def stop(self) -> None:
        await self._background.stop()

    async def _follow(self, task_id: str, owner: str) -> None:
        delivery = await self._store.read(lambda conn: outbox.of_task(conn, owner, task_id), owner)
        if delivery is None or not delivery.progress:
            return
        sent = 0
        while True:
            seen = await self._follower.follow(owner, task_id, sent, HEARTBEAT_SECONDS)
            if seen.number > sent:
                sent = seen.number
                await self._send(delivery, f"{delivery.id}_{sent}", seen.document())
            if seen.done:
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _send(self, delivery: Delivery, message_id: str, body: bytes) -> None:
        await self._turns.run(delivery.owner, lambda: self._post(delivery, message_id, body))

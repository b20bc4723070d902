"""The place of this server among others on the same database: its lease, and the leader's."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from openlaunch.background import BackgroundTasks
from openlaunch.errors import Unavailable
from openlaunch.nodes.leases import BEAT_SECONDS, Lease
from openlaunch.store.cluster import Beat, ClusterRecords

log = logging.getLogger(__name__)

Step = Callable[[], Coroutine[Any, Any, None]]
SOONEST_SECONDS = 0.02
"""The shortest time between two beats."""
_EPOCH_OF_ROW = 1
"""A server's own row is nobody else's, so it has one epoch."""


class Membership:
    """Renews this server's lease at each beat, and takes the leader's where that is free.

    `on_lead`, which is given the epoch, and `on_follow` start and stop what the leader alone does. `on_dead` is
    awaited when the lease of another server has run out, `on_taken_for_dead` when this one was taken for dead.
    """

    on_lead: Callable[[int], Coroutine[Any, Any, None]]
    on_follow: Step
    on_dead: Step
    on_taken_for_dead: Step

    def __init__(self, records: ClusterRecords) -> None:
        self.on_beat: Callable[[Beat], None] = lambda beat: None
        self._records = records
        self._row, self._leader = Lease(), Lease()
        self._away = self._resigned = False
        self._acts_under = 0
        """The epoch under which this server does what the leader alone does; 0: it does nothing of that."""
        self._wake, self._leads_changed = asyncio.Event(), asyncio.Event()
        self._background = BackgroundTasks("what is due when another server has died could not be done")
        self._loops: list[asyncio.Task[None]] = []

    async def join(self) -> None:
        """Make this server's row."""
        await self._beat()

    def start(self) -> None:
        """Renew from now on, and lead whenever nobody else does."""
        self._loops = [asyncio.create_task(self._run()), asyncio.create_task(self._change_parts())]
        self._leads_changed.set()

    async def end_changes(self) -> None:
        """Never lead again: the server stops. What the leader alone does is stopped by the caller."""
        self._resigned = True
        if self._loops:
            self._loops[1].cancel()
            await asyncio.wait([self._loops[1]])

    async def resign(self) -> None:
        """Hand over at once."""
        self._leader.give_up()
        with suppress(Unavailable):
            await self._records.hand_over()

    async def leave(self) -> None:
        """Renew nothing more: this server has no tasks now."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._background.stop()
        with suppress(Unavailable):
            await self._records.leave()

    def look(self) -> None:
        """Renew now, because the leader has left."""
        self._wake.set()

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                if (beat := await self._beat()) is not None:
                    await self._follow_up(beat)
            except Exception:
                log.exception("the leases of this server could not be looked after; trying again")
            pause = min(BEAT_SECONDS, max(SOONEST_SECONDS, self._leader.due - time.monotonic()))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _follow_up(self, beat: Beat) -> None:
        if beat.was_missing:
            await self.on_taken_for_dead()
        if beat.dead and self._row.is_steady(time.monotonic()) and not self._background:
            self._background.spawn(self.on_dead())
        if self._leader.epoch != self._acts_under and not self._resigned:
            self._leads_changed.set()

    async def _change_parts(self) -> None:
        """Start and stop what the leader alone does, beside the beats: it may take longer than a lease lasts."""
        while True:
            await self._leads_changed.wait()
            self._leads_changed.clear()
            try:
                await self._change_to(self._leader.epoch)
            except Exception:
                log.exception("what the leader alone does could not be started or stopped")

    async def _change_to(self, epoch: int) -> None:
        before, self._acts_under = self._acts_under, epoch
        if before and before != epoch:
            log.warning("another server leads now")
            await self.on_follow()
        if epoch and before != epoch:
            log.info("this server leads (epoch %d)", epoch)
            await self.on_lead(epoch)

    async def _beat(self) -> Beat | None:
        sent = time.monotonic()
        try:
            beat = await self._records.beat(lead=not self._resigned)
        except Unavailable as error:
            if not self._away:
                log.warning("the leases of this server can't be renewed: %s", error)
            self._away = True
            self._row.unanswered(sent)
            self._leader.unanswered(sent)
            return None
        self._away = False
        self._row.renewed(sent, _EPOCH_OF_ROW)
        if self._resigned:
            self._leader.give_up()
        elif beat.epoch:
            self._leader.renewed(sent, beat.epoch)
        else:
            self._leader.refused(sent, beat.left)
        self.on_beat(beat)
        return beat

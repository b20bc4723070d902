"""Forks of nurseries that wait for work, isolated already: half of the next worker's start is done before it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from openlaunch.engines.nursery import ForkedWorker, Nursery
from openlaunch.trash import discard

SPARE_SECONDS = 0.1
"""How long after the last start of a worker a spare is made, so that it takes no time from that start."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spare:
    """A fork that waits for work in this folder. It can be a worker of this kind: what its isolation depends on."""

    kind: Hashable
    worker: ForkedWorker
    folder: Path


class Spares:
    """Keeps one spare for each nursery, of the kind that was started last."""

    def __init__(self) -> None:
        self._ready: dict[Nursery, Spare] = {}
        self._making: dict[Nursery, asyncio.Task[None]] = {}

    def take(self, nursery: Nursery, kind: Hashable) -> Spare | None:
        """Return a nursery's spare, which is the caller's from now on, or None if there is none of that kind."""
        spare = self._ready.get(nursery)
        if spare is None or spare.kind != kind or spare.worker.returncode is not None:
            return None
        return self._ready.pop(nursery)

    def renew(self, nursery: Nursery, kind: Hashable, make: Callable[[], Awaitable[Spare]]) -> None:
        """Have a nursery get a spare of this kind, unless it gets one by a later call."""
        for other in [one for one in self._making if one is nursery or not one.alive]:
            self._making.pop(other).cancel()
        for other in [one for one in self._ready if not one.alive]:
            del self._ready[other]
        self._making[nursery] = asyncio.create_task(self._renew(nursery, kind, make))

    async def _renew(self, nursery: Nursery, kind: Hashable, make: Callable[[], Awaitable[Spare]]) -> None:
        await asyncio.sleep(SPARE_SECONDS)
        if (old := self._ready.get(nursery)) is not None:
            if old.kind == kind and old.worker.returncode is None:
                return
            del self._ready[nursery]
            old.worker.kill()
            await old.worker.wait()
            discard(old.folder)
        try:
            self._ready[nursery] = await make()
        except OSError as error:
            log.info("no spare worker is kept: %s", error)

    async def close(self) -> None:
        """Make no more; those that wait end with their nurseries."""
        for task in self._making.values():
            task.cancel()
        await asyncio.gather(*self._making.values(), return_exceptions=True)

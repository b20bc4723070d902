"""The memory of large answers on their way from workers to their clients, of which each owner has a share."""

import asyncio
import mmap
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

WAIT_SECONDS = 5.0
"""How long a worker's link waits for memory: what else the worker has answered waits behind it."""


class ArrivingAnswers:
    """Counts the memory of large answers, from when workers announce them until nothing holds it.

    An owner may hold as much as is free. An answer that is larger than all there may be is taken where it is alone.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._held: Counter[str] = Counter()
        self._ends: weakref.WeakKeyDictionary[mmap.mmap, weakref.finalize[..., mmap.mmap]] = (
            weakref.WeakKeyDictionary()
        )
        self._waiting: dict[_Arrival, None] = {}

    def admit(
        self, owner: str, memory: mmap.mmap, transport: asyncio.Transport, refuse: Callable[[], None]
    ) -> None:
        """Count the memory for the owner; where there is no room, read nothing of the worker until there is.

        `refuse` is called where there has been none for `WAIT_SECONDS`.
        """
        if not self.take(owner, memory):
            self._waiting[_Arrival(self, owner, memory, transport, refuse)] = None

    def take(self, owner: str, memory: mmap.mmap) -> bool:
        """Count the memory until its end, or until it is counted elsewhere; return False where there is no room."""
        size = len(memory)
        if self._held and self._held[owner] + size > self._free:
            return False
        self._count(owner, size)
        loop = asyncio.get_running_loop()
        end = self._ends[memory] = weakref.finalize(memory, self._ended, loop, owner, size)
        end.atexit = False
        return True

    def _ended(self, loop: asyncio.AbstractEventLoop, owner: str, size: int) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(self._give_back, owner, size)  # a thread may be the last to hold it

    def counted_elsewhere(self, answer: memoryview) -> None:
        """Count the memory of an answer here no longer."""
        end = self._ends.pop(answer.obj, None) if isinstance(answer.obj, mmap.mmap) else None
        if end is not None and (found := end.detach()) is not None:
            _, _, (_, owner, size), _ = found
            self._give_back(owner, size)

    def _give_back(self, owner: str, size: int) -> None:
        self._count(owner, -size)
        for arrival in list(self._waiting):
            if arrival.began():
                self.stop_waiting(arrival)

    def stop_waiting(self, arrival: "_Arrival") -> None:
        self._waiting.pop(arrival, None)

    def _count(self, owner: str, size: int) -> None:
        self._free -= size
        self._held[owner] += size
        if not self._held[owner]:
            del self._held[owner]


class _Arrival:
    """A large answer that waits for room, and whose worker is not read meanwhile."""

    def __init__(
        self,
        answers: ArrivingAnswers,
        owner: str,
        memory: mmap.mmap,
        transport: asyncio.Transport,
        refuse: Callable[[], None],
    ) -> None:
        self._answers = answers
        self._owner = owner
        self._memory = memory
        self._transport = transport
        self._refuse = refuse
        transport.pause_reading()
        self._timer = asyncio.get_running_loop().call_later(WAIT_SECONDS, self._give_up)

    def began(self) -> bool:
        """Read the worker again if there is room now, or if the worker is gone."""
        gone = self._transport.is_closing()
        if not gone and not self._answers.take(self._owner, self._memory):
            return False
        self._timer.cancel()
        if not gone:
            self._transport.resume_reading()
        return True

    def _give_up(self) -> None:
        self._answers.stop_waiting(self)
        if not self._transport.is_closing():
            self._refuse()
            self._transport.resume_reading()

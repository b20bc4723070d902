"""The memory of large answers on their way from workers to their clients, of which each owner has a share."""

import asyncio
import weakref
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

WAIT_SECONDS = 5.0
"""How long a worker's link waits for memory: what else the worker has answered waits behind it."""


class ArrivingAnswer(bytearray):
    """A large answer, which comes in parts; up to `length` bytes of memory are counted for its owner."""

    end: "weakref.finalize[..., ArrivingAnswer] | None" = None
    """Gives back what is counted when nothing holds the answer."""

    def __init__(self, owner: str, length: int) -> None:
        super().__init__()
        self.owner = owner
        self.length = length


class ArrivingAnswers:
    """Counts the memory of large answers, from when workers announce them until nothing holds it.

    An owner may hold as much as is free. An answer that is larger than all there may be is taken where it is alone.
    """

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._held: Counter[str] = Counter()
        self._waiting: dict[_Arrival, None] = {}

    def admit(self, answer: ArrivingAnswer, transport: asyncio.Transport, refuse: Callable[[], None]) -> None:
        """Count an answer; where there is no room for it, read nothing of the worker until there is.

        `refuse` is called where there has been none for `WAIT_SECONDS`.
        """
        if not self.take(answer):
            self._waiting[_Arrival(self, answer, transport, refuse)] = None

    def take(self, answer: ArrivingAnswer) -> bool:
        """Count an answer until its end, or until it is counted elsewhere; return False where there is no room."""
        owner, size = answer.owner, answer.length
        if self._held and self._held[owner] + size > self._free:
            return False
        self._count(owner, size)
        loop = asyncio.get_running_loop()
        answer.end = weakref.finalize(answer, self._ended, loop, owner, size)
        answer.end.atexit = False
        return True

    def _ended(self, loop: asyncio.AbstractEventLoop, owner: str, size: int) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(self._give_back, owner, size)  # a thread may be the last to hold it

    def counted_elsewhere(self, answer: object) -> None:
        """Count an answer here no longer."""
        if isinstance(answer, ArrivingAnswer) and answer.end is not None and answer.end.detach():
            self._give_back(answer.owner, answer.length)

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
        answer: ArrivingAnswer,
        transport: asyncio.Transport,
        refuse: Callable[[], None],
    ) -> None:
        self._answers = answers
        self._answer = answer
        self._transport = transport
        self._refuse = refuse
        transport.pause_reading()
        self._timer = asyncio.get_running_loop().call_later(WAIT_SECONDS, self._give_up)

    def began(self) -> bool:
        """Read the worker again if there is room now, or if the worker is gone."""
        gone = self._transport.is_closing()
        if not gone and not self._answers.take(self._answer):
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

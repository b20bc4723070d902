"""Ends calls that run for too long."""

import asyncio
from collections.abc import Callable
from typing import Protocol


class Expiring(Protocol):
    """Something that has a deadline."""

    @property
    def deadline(self) -> float:
        """On the event loop's clock."""
        ...

    def expired(self) -> None:
        """End the call, whose deadline has passed."""
        ...


class Deadlines:
    """Ends calls whose deadline passes: one timer for the earliest, because hardly any call reaches its own."""

    def __init__(self) -> None:
        self._calls: set[Expiring] = set()
        self.discard: Callable[[Expiring], None] = self._calls.discard
        """Forgets a call that has ended."""
        self._next = float("inf")
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def add(self, call: Expiring) -> None:
        """Watch a call."""
        self._calls.add(call)
        if call.deadline < self._next:
            self._expect(call.deadline)

    def _expect(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = deadline
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        for call in [call for call in self._calls if call.deadline <= now]:
            self._calls.discard(call)
            call.expired()
        self._next, self._timer = float("inf"), None
        if self._calls:
            self._expect(min(call.deadline for call in self._calls))

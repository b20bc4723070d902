"""Watches that a client sends, in time, what is due."""

import asyncio
from collections.abc import Callable

NEVER = float("inf")

MIN_BODY_BYTES = 1024
"""How much of a body has to come within the time that a client has for the rest of its request."""


class ReadTimer:
    """Calls `late` when a connection's deadline has passed.

    The event loop gets one timer for a connection, which is not touched by every request: a later deadline is found
    when the timer ends.
    """

    __slots__ = ("_handle", "_late", "_loop", "_progress", "_seconds", "deadline", "look_at")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, late: Callable[[float], None]
    ) -> None:
        self.deadline = NEVER
        """When `late` is called; may be put off, until after `look_at`, without a call here."""
        self.look_at = NEVER
        """When the timer ends."""
        self._loop = loop
        self._seconds = seconds
        self._late = late
        self._handle: asyncio.TimerHandle | None = None
        self._progress = 0

    def expect_by(self, deadline: float) -> None:
        """Call `late` at this time, unless the deadline is changed before."""
        self.deadline = deadline
        if deadline < self.look_at:
            self.cancel()
            self.look_at = deadline
            self._handle = self._loop.call_at(deadline, self._look)

    def expect_body(self) -> None:
        """Give the client its time for the first part of a body."""
        self._progress = 0
        self.expect_by(self._loop.time() + self._seconds)

    def advance(self, size: int) -> None:
        """Give the client its time again, once this and what came before it are a part of the body worth that."""
        self._progress += size
        if self._progress >= MIN_BODY_BYTES:
            self._progress = 0
            self.deadline = self._loop.time() + self._seconds

    def cancel(self) -> None:
        """Watch no longer."""
        if self._handle is not None:
            self._handle.cancel()

    def _look(self) -> None:
        self._handle, self.look_at = None, NEVER
        now = self._loop.time()
        if self.deadline <= now:
            self._late(now)
        elif self.deadline != NEVER:
            self.expect_by(self.deadline)

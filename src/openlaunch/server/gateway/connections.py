"""The open connections, within a limit: where room is needed, clients that only keep us waiting go first."""

import heapq
from collections.abc import Iterator
from operator import itemgetter
from typing import Protocol

from openlaunch.errors import Unavailable

RESERVED = 64
"""Connections past the limit, for admins and scrapes."""

PAUSE_SECONDS = 0.1
"""After a look at all connections that made no room, before the next one."""

OF_GRPC = 8
"""One in this number of all connections is gRPC's where that is served. It closes none for another one."""

CLOSED_AT_ONCE = 64
"""One in this number of connections is closed when room is needed, so that looking at all is rare."""


Rank = tuple[bool, bool, float]
"""Which of the connections that wait goes first: the smallest."""


class Closable(Protocol):
    """A connection that may have to go."""

    def rank(self, now: float) -> Rank | None:
        """Say how much it is worth, or None where more is under way than its client's sending and reading."""
        ...

    def close_now(self) -> None:
        """Close it at once."""
        ...

    def shutdown(self) -> None:
        """Close it after the answer under way."""
        ...


class Connections:
    """The open connections.

    `limit` is that of all; `grpc` says whether some of them are not HTTP's, and are counted by gRPC itself.
    """

    def __init__(self, limit: int, *, grpc: bool = False) -> None:
        self.of_grpc = max(1, limit // OF_GRPC) if grpc else 0
        self.limit = limit = max(1, limit - self.of_grpc)
        self._open: set[Closable] = set()
        self._batch = limit // CLOSED_AT_ONCE + 1
        self._look_again_at = self._busy_until = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Closable]:
        return iter(list(self._open))

    @property
    def over(self) -> bool:
        """Whether there are more than the limit."""
        return len(self._open) > self.limit

    def has_room(self, now: float) -> bool:
        """Return whether a further connection may be opened; close some that only wait where that is needed."""
        most = self.limit + RESERVED
        if len(self._open) >= most or (self._look_again_at <= now and len(self._open) >= self.limit):
            waiting = self._waiting(now)
            # Never more than half of them: the last to come may be an admin's, whose request is on its way.
            self._close_first(waiting, min(self._batch, (len(waiting) + 1) // 2))
            if len(self._open) >= self.limit:
                self._look_again_at = now + PAUSE_SECONDS
        return len(self._open) < most

    def make_room_for(self, connection: Closable, now: float) -> bool:
        """Close others that only wait, for one past the limit on which there is a request; return whether it fits."""
        if self.over and self._busy_until <= now:
            others = [entry for entry in self._waiting(now) if entry[1] is not connection]
            self._close_first(others, len(self._open) - self.limit + self._batch)
            if self.over:
                self._busy_until = now + PAUSE_SECONDS
        return not self.over

    def too_many(self) -> Unavailable:
        """Make the error of a connection past the limit."""
        return Unavailable(f"{self.limit} connections are open; try again", code="busy", retry_after=1)

    def add(self, connection: Closable) -> None:
        """Count an open connection."""
        self._open.add(connection)

    def discard(self, connection: Closable) -> None:
        """Count a connection no longer; harmless when called twice."""
        self._open.discard(connection)

    def _waiting(self, now: float) -> list[tuple[Rank, Closable]]:
        return [(rank, c) for c in self._open if (rank := c.rank(now)) is not None]

    def _close_first(self, waiting: list[tuple[Rank, Closable]], number: int) -> None:
        for _, connection in heapq.nsmallest(number, waiting, key=itemgetter(0)):
            self._open.discard(connection)
            connection.close_now()

"""The open connections, within a limit: where room is needed, clients that only keep us waiting go first.

After them, the owner with the most requests under way makes room for one with fewer.
"""

import heapq
from collections.abc import Iterator
from operator import itemgetter
from typing import Protocol
from weakref import ref

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

    @property
    def busy_for(self) -> str | None:
        """The owner of the request that is under way on it; None: there is no request, or its owner is not known."""
        ...

    def give_way(self, error: Unavailable) -> None:
        """End the request under way with this error, and close it."""
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
        self._open: dict[Closable, None] = {}
        """The oldest one first."""
        self._batch = limit // CLOSED_AT_ONCE + 1
        self._look_again_at = self._busy_until = self._busy_as_of = 0.0
        self._busy: dict[str, list[ref[Closable]]] = {}
        """Connections with a request under way, by owner, as they were some time ago."""

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

    def take_place_of_most(self, connection: Closable, owner: str, now: float) -> bool:
        """End the newest request of the owner with the most under way, for this connection of an owner with fewer.

        Return whether there was one.
        """
        if self._busy_as_of + PAUSE_SECONDS <= now:
            self._busy_as_of, self._busy = now, self._by_owner()
        busy = self._busy
        mine = busy.setdefault(owner, [])
        most = max(busy, key=lambda each: len(busy[each]))
        while len(busy[most]) > len(mine) + 1:
            other = busy[most].pop()()
            if other is not None and other in self._open and other.busy_for == most:
                self.discard(other)
                other.give_way(_for_others())
                mine.append(ref(connection))
                return True
        return False

    def _by_owner(self) -> dict[str, list[ref[Closable]]]:
        found: dict[str, list[ref[Closable]]] = {}
        for connection in self._open:
            if (owner := connection.busy_for) is not None:
                found.setdefault(owner, []).append(ref(connection))
        return found

    def too_many(self) -> Unavailable:
        """Make the error of a connection past the limit."""
        return Unavailable(f"{self.limit} connections are open; try again", code="busy", retry_after=1)

    def add(self, connection: Closable) -> None:
        """Count an open connection."""
        self._open[connection] = None

    def discard(self, connection: Closable) -> None:
        """Count a connection no longer; harmless when called twice."""
        self._open.pop(connection, None)

    def _waiting(self, now: float) -> list[tuple[Rank, Closable]]:
        return [(rank, c) for c in self._open if (rank := c.rank(now)) is not None]

    def _close_first(self, waiting: list[tuple[Rank, Closable]], number: int) -> None:
        for _, connection in heapq.nsmallest(number, waiting, key=itemgetter(0)):
            self.discard(connection)
            connection.close_now()


def _for_others() -> Unavailable:
    return Unavailable(
        "all connections are in use, you have the most requests under way, and others need some: try again later",
        code="connections_shared",
        retry_after=1,
    )

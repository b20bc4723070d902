"""What a store is, for every database."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import Connection

T = TypeVar("T")

OUTCOME_UNKNOWN = "outcome_unknown"
"""Code of an `Unavailable` after which an operation may be committed all the same."""


@dataclass(frozen=True, slots=True)
class Space:
    """The room that records take: `free_bytes` of it hold nothing now, and `goes` says what becomes of these."""

    bytes: int
    goes: str
    free_bytes: int = 0


class Store(Protocol):
    """Durable records.

    An operation is a plain function of a connection, such as those in `store.bundles` or `tasks.queue`: it
    neither commits nor rolls back, and it may be run a second time when another one of its transaction fails.
    """

    is_service: bool
    """Whether the records are with another program, without which predictions still go through."""

    async def write(self, op: Callable[[Connection], T], owner: str = "") -> T:
        """Run `op` in a transaction and return its result once that is on disk.

        Owners take turns at writing and at reading; "" is the server itself, and takes turns as an owner does.

        What arrives while a transaction is on its way to disk goes together into the next one (group commit).
        An operation that raises undoes only its own changes.

        Raises:
            Unavailable: too many operations wait already, or the database can't be written (disk full, …). With the
                code `OUTCOME_UNKNOWN` it may have been written.
        """
        ...

    async def read(self, op: Callable[[Connection], T], owner: str = "") -> T:
        """Run `op` on a connection that sees all that was committed before this call."""
        ...

    def on_commit(self, call: Callable[[float, int], None]) -> None:
        """Call this after each transaction, in whatever thread, with its seconds and its number of operations."""
        ...

    async def ahead_of(self, clock: Callable[[], float]) -> float:
        """Return by how many seconds the database's time of day is ahead of `clock`; 0 where it is a file."""
        ...

    async def shrink(self) -> bool:
        """Give a slice of what deleted records left free back to the disk, and return whether there is more."""
        ...

    async def space(self) -> Space:
        """Return how much room the records take."""
        ...

    async def problem(self) -> str | None:
        """Say what is wrong with the place that the records lie in, which reads and writes may not notice yet."""
        ...

    async def close(self) -> None:
        """Finish what has been accepted, then close the database. Harmless when called twice."""
        ...

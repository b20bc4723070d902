"""What a driver gives the queue: the statements that every task passes through, in the database's own SQL.

Databases differ where many servers claim at once, and in how many rows go into one statement fast. All other
operations are SQLAlchemy Core, and the same on each.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection

Row = tuple[Any, ...]
_OPTION = "queue_sql"


class QueueSql(Protocol):
    """The hot statements, each for as many rows as it is given. A `lease` is its owner and its end."""

    def insert(self, conn: Connection, rows: Sequence[Row]) -> int:
        """Store pending tasks, and return how many: one whose idempotency key was used before is left out.

        A row is (id, endpoint id, owner, priority, payload, payload key, idempotency key, its digest, created at,
        expires at, max attempts, return pickled, timeout seconds).
        """
        ...

    def pending_owners(
        self, conn: Connection, endpoint_id: str, now: float, limit: int, after: str
    ) -> list[str]:
        """Return up to `limit` owners of pending tasks by name, first those behind `after`, then the others."""
        ...

    def claim(
        self, conn: Connection, endpoint_id: str, owner: str, limit: int, lease: tuple[str, float], now: float
    ) -> list[Row]:
        """Take up to `limit` of the owner's pending tasks by priority, then age; no other claim gets the same ones.

        A row is (minus priority, seq, id, owner, payload, payload key, attempts, max attempts, return pickled,
        timeout seconds); the rows are in any order.
        """
        ...

    def claim_of_sole_owner(
        self, conn: Connection, endpoint_id: str, limit: int, lease: tuple[str, float], now: float
    ) -> list[Row]:
        """Claim as `claim` does where one owner alone has pending tasks; take nothing where several have."""
        ...

    def complete(self, conn: Connection, results: Sequence[Row], now: float) -> set[str]:
        """Record results of tasks that are not done, the first of each, and return the ids of these tasks.

        A row is (id, state, status code, result, result key, reason).
        """
        ...

    def release_callbacks(self, conn: Connection, task_ids: Iterable[str], now: float) -> None:
        """Make the waiting callbacks of these tasks due."""
        ...


def options(sql: QueueSql) -> dict[str, object]:
    """Make the execution options of a driver's engine by which `queue_sql` finds its statements."""
    return {_OPTION: sql}


def queue_sql(conn: Connection) -> QueueSql:
    """Return the statements for the connection's database."""
    sql: QueueSql = conn.get_execution_options()[_OPTION]
    return sql

"""What a driver gives the queue: the statements that every task passes through, in the database's own SQL.

Databases differ in how they store a task so that it passes fast: SQLite as one row, PostgreSQL as rows of three
tables, which it shows together as the view `tasks`. All other operations are SQLAlchemy Core, and the same on each:
they read `tasks`, and change tasks that wait or run in the driver's table of these, `live`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from sqlalchemy import ColumnElement, Connection, Select, TableClause

Row = tuple[Any, ...]
_OPTION = "queue_sql"


class QueueSql(Protocol):
    """The hot statements, each for as many rows as it is given. A `lease` is its owner and its end."""

    tables: ClassVar[Sequence[str]]
    """The statements that make what stands for the table `tasks`; none where that is one."""
    live: ClassVar[TableClause]
    """The table of tasks that wait or run, perhaps among others. It has the columns `seq`, `id`, `endpoint_id`,
    `owner`, `priority`, `created_at`, `expires_at`, `attempts`, `max_attempts`, `recoveries`, `lease_owner`,
    `lease_until` and `reason` of `tasks`."""
    pending: ClassVar[ColumnElement[bool]]
    """The condition that a task of `live` waits, as the indexes spell it."""
    started: ClassVar[ColumnElement[bool]]
    """The condition that a task of `live` runs, as the indexes spell it."""
    released: ClassVar[Mapping[str, Any]]
    """The values in `live` by which a task that runs waits again."""

    def insert(self, conn: Connection, rows: Sequence[Row]) -> int:
        """Store pending tasks, and return how many: one whose idempotency key was used before is left out.

        A row is (id, endpoint id, owner, priority, payload, payload key, idempotency key, its digest, created at,
        expires at, max attempts, return pickled, timeout seconds).
        """
        ...

    def under_keys(self, conn: Connection, keys: Sequence[tuple[str, str]]) -> list[Row]:
        """Find the tasks that owners have stored under idempotency keys.

        `keys` are pairs of an owner and a key. A row is (owner, idempotency key, id, digest).
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

        Their callbacks are due from now on. A row is (state, status code, result, result key, reason, whether the
        payload is of no use any longer, id).
        """
        ...

    def of_ids(self, query: Select[Any], ids: Sequence[str]) -> Select[Any]:
        """Narrow a query of `tasks` to those with these ids, which may be hundreds: no others are read."""
        ...

    def among(self, names: ColumnElement[str], found: Sequence[str]) -> ColumnElement[bool]:
        """Make the condition that a name is one of those that were found, which may be hundreds."""
        ...

    def unsuccessful_of(self, owner: str) -> ColumnElement[bool]:
        """Make the condition that a task of `tasks` is the owner's, and failed or was cancelled."""
        ...

    def delete(self, conn: Connection, seqs: Sequence[int]) -> None:
        """Delete tasks that are done."""
        ...

    def restore(self, conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store tasks in whatever state they were in another database. A row is one of `tasks`, by column."""
        ...

    def number_on(self, conn: Connection, tables: Sequence[str]) -> None:
        """Have new rows of these tables, whose key is `seq`, be numbered behind those that were stored with one."""
        ...


def options(sql: QueueSql) -> dict[str, object]:
    """Make the execution options of a driver's engine by which `queue_sql` finds its statements."""
    return {_OPTION: sql}


def queue_sql(conn: Connection) -> QueueSql:
    """Return the statements for the connection's database."""
    sql: QueueSql = conn.get_execution_options()[_OPTION]
    return sql

"""The statements that every task passes through, for SQLite: prepared texts, run by the driver itself.

That saves a few microseconds a statement over SQLAlchemy. What they raise is the error of `sqlite3`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from sqlalchemy import ColumnElement, Connection, Select, TableClause, delete, insert, literal_column, or_

from openlaunch.store.queue_sql import Row
from openlaunch.store.tables import tasks

_INSERT = """
INSERT INTO tasks (id, endpoint_id, owner, status, priority, payload, payload_key, idempotency_key,
                   idempotency_digest, created_at, expires_at, attempts, max_attempts, return_pickled,
                   timeout_seconds)
VALUES (?, ?, ?, 'PENDING', ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)
ON CONFLICT (owner, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"""

_UNDER_KEY = """
SELECT owner, idempotency_key, id, idempotency_digest FROM tasks WHERE owner = ? AND idempotency_key = ?"""

# Steps from one owner with tasks to the next, without reading their tasks: those behind `after`, then those before.
_OWNERS = """
WITH RECURSIVE
  behind(owner) AS (
    SELECT min(owner) FROM tasks WHERE endpoint_id = ? AND status = 'PENDING' AND expires_at > ? AND owner > ?
    UNION ALL
    SELECT (SELECT min(owner) FROM tasks
            WHERE endpoint_id = ? AND status = 'PENDING' AND expires_at > ? AND owner > behind.owner)
    FROM behind WHERE behind.owner IS NOT NULL),
  before(owner) AS (
    SELECT min(owner) FROM tasks WHERE endpoint_id = ? AND status = 'PENDING' AND expires_at > ? AND owner <= ?
    UNION ALL
    SELECT (SELECT min(owner) FROM tasks
            WHERE endpoint_id = ? AND status = 'PENDING' AND expires_at > ? AND owner > before.owner
              AND owner <= ?)
    FROM before WHERE before.owner IS NOT NULL)
SELECT owner FROM behind WHERE owner IS NOT NULL
UNION ALL SELECT owner FROM before WHERE owner IS NOT NULL
LIMIT ?"""

_CLAIM = """
UPDATE tasks SET status = 'STARTED', attempts = attempts + 1, lease_owner = ?, lease_until = ?
WHERE seq IN (SELECT seq FROM tasks
              WHERE endpoint_id = ? AND owner = ? AND status = 'PENDING' AND expires_at > ?
              ORDER BY priority DESC, seq LIMIT ?)
RETURNING -priority, seq, id, owner, payload, payload_key, attempts, max_attempts,
          return_pickled, timeout_seconds"""

# Claims for the one owner that has tasks, and nothing where there are several: one statement instead of two.
_CLAIM_OF_SOLE_OWNER = """
UPDATE tasks SET status = 'STARTED', attempts = attempts + 1, lease_owner = ?, lease_until = ?
WHERE seq IN (SELECT seq FROM tasks
              WHERE endpoint_id = ? AND status = 'PENDING' AND expires_at > ? AND owner = CASE
                WHEN (SELECT min(owner) FROM tasks WHERE endpoint_id = ? AND status = 'PENDING' AND expires_at > ?)
                   = (SELECT max(owner) FROM tasks WHERE endpoint_id = ? AND status = 'PENDING' AND expires_at > ?)
                THEN (SELECT min(owner) FROM tasks WHERE endpoint_id = ? AND status = 'PENDING' AND expires_at > ?)
              END
              ORDER BY priority DESC, seq LIMIT ?)
RETURNING -priority, seq, id, owner, payload, payload_key, attempts, max_attempts,
          return_pickled, timeout_seconds"""

_COMPLETE = """
UPDATE tasks SET finished_at = ?, status = ?, status_code = ?, result = ?, result_key = ?, reason = ?,
                 lease_owner = NULL, lease_until = NULL,
                 payload = CASE WHEN ? THEN NULL ELSE payload END
WHERE id = ? AND status IN ('PENDING', 'STARTED')"""

_RELEASE = """
UPDATE deliveries SET status = 'PENDING', next_at = ? WHERE task_id = ? AND status = 'WAITING'"""


class SqliteQueueSql:
    """`store.queue_sql.QueueSql` for SQLite. The one writer has the database to itself: no row need be locked."""

    tables: ClassVar[Sequence[str]] = ()
    live: ClassVar[TableClause] = tasks
    pending: ClassVar[ColumnElement[bool]] = tasks.c.status == literal_column("'PENDING'")
    started: ClassVar[ColumnElement[bool]] = tasks.c.status == literal_column("'STARTED'")
    released: ClassVar[Mapping[str, Any]] = {"status": "PENDING", "lease_owner": None, "lease_until": None}

    def insert(self, conn: Connection, rows: Sequence[Row]) -> int:
        cursor = conn.connection.cursor()
        cursor.executemany(_INSERT, rows)
        return cursor.rowcount

    def under_keys(self, conn: Connection, keys: Sequence[tuple[str, str]]) -> list[Row]:
        return [row for key in keys for row in _fetch(conn, _UNDER_KEY, key)]

    def pending_owners(
        self, conn: Connection, endpoint_id: str, now: float, limit: int, after: str
    ) -> list[str]:
        pending = (endpoint_id, now)
        values = (*pending, after, *pending, *pending, after, *pending, after, limit)
        return [owner for (owner,) in _fetch(conn, _OWNERS, values)]

    def claim(
        self, conn: Connection, endpoint_id: str, owner: str, limit: int, lease: tuple[str, float], now: float
    ) -> list[Row]:
        return _fetch(conn, _CLAIM, (*lease, endpoint_id, owner, now, limit))

    def claim_of_sole_owner(
        self, conn: Connection, endpoint_id: str, limit: int, lease: tuple[str, float], now: float
    ) -> list[Row]:
        return _fetch(conn, _CLAIM_OF_SOLE_OWNER, (*lease, *(endpoint_id, now) * 4, limit))

    def complete(self, conn: Connection, results: Sequence[Row], now: float) -> set[str]:
        cursor = conn.connection.cursor()
        recorded = set()
        for result in results:
            cursor.execute(_COMPLETE, (now, *result))
            if cursor.rowcount == 1:
                recorded.add(result[-1])
        cursor.executemany(_RELEASE, [(now, task_id) for task_id in recorded])
        return recorded

    def of_ids(self, query: Select[Any], ids: Sequence[str]) -> Select[Any]:
        return query.where(tasks.c.id.in_(list(ids)))

    def among(self, names: ColumnElement[str], found: Sequence[str]) -> ColumnElement[bool]:
        return names.in_(list(found))

    def unsuccessful_of(self, owner: str) -> ColumnElement[bool]:
        # Spelled as in the index: SQLite does not see that IN means the same.
        return (tasks.c.owner == owner) & or_(
            *(tasks.c.status == literal_column(f"'{state}'") for state in ("FAILURE", "CANCELLED"))
        )

    def delete(self, conn: Connection, seqs: Sequence[int]) -> None:
        conn.execute(delete(tasks).where(tasks.c.seq.in_(seqs)))

    def restore(self, conn: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        conn.execute(insert(tasks), rows)

    def number_on(self, conn: Connection, tables: Sequence[str]) -> None:
        pass  # SQLite gives a row the number behind the highest


def _fetch(conn: Connection, statement: str, values: Row) -> list[Row]:
    cursor = conn.connection.cursor()
    cursor.execute(statement, values)
    return list(cursor.fetchall())

"""The statements that every task passes through, for PostgreSQL: each is one round trip for all of its rows.

They run on psycopg's cursors, prepared. What they raise is the error of `psycopg`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from openlaunch.store.queue_sql import Row

_INSERT = """
INSERT INTO tasks (id, endpoint_id, owner, status, priority, payload, payload_key, idempotency_key,
                   idempotency_digest, created_at, expires_at, attempts, max_attempts, return_pickled,
                   timeout_seconds)
SELECT id, endpoint_id, owner, 'PENDING', priority, payload, payload_key, key, digest, created_at, expires_at, 0,
       max_attempts, return_pickled, timeout_seconds
FROM unnest(%b::text[], %b::text[], %b::text[], %b::int4[], %b::bytea[], %b::text[], %b::text[], %b::bytea[],
            %b::float8[], %b::float8[], %b::int2[], %b::bool[], %b::float8[])
  WITH ORDINALITY AS new(id, endpoint_id, owner, priority, payload, payload_key, key, digest, created_at,
                         expires_at, max_attempts, return_pickled, timeout_seconds, place)
ORDER BY place
ON CONFLICT (owner, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING"""

# Steps from one owner with tasks to the next, without reading their tasks: those behind `after`, then those before.
_OWNERS = """
WITH RECURSIVE
  behind(owner) AS (
    SELECT min(owner) FROM tasks
    WHERE endpoint_id = %(endpoint)s AND status = 'PENDING' AND expires_at > %(now)s AND owner > %(after)s
    UNION ALL
    SELECT (SELECT min(owner) FROM tasks
            WHERE endpoint_id = %(endpoint)s AND status = 'PENDING' AND expires_at > %(now)s
              AND owner > behind.owner)
    FROM behind WHERE behind.owner IS NOT NULL),
  before(owner) AS (
    SELECT min(owner) FROM tasks
    WHERE endpoint_id = %(endpoint)s AND status = 'PENDING' AND expires_at > %(now)s AND owner <= %(after)s
    UNION ALL
    SELECT (SELECT min(owner) FROM tasks
            WHERE endpoint_id = %(endpoint)s AND status = 'PENDING' AND expires_at > %(now)s
              AND owner > before.owner AND owner <= %(after)s)
    FROM before WHERE before.owner IS NOT NULL)
SELECT owner FROM behind WHERE owner IS NOT NULL
UNION ALL SELECT owner FROM before WHERE owner IS NOT NULL
LIMIT %(limit)s"""

_CLAIM = """
UPDATE tasks SET status = 'STARTED', attempts = attempts + 1, lease_owner = %(lease_owner)s, lease_until = %(until)s
WHERE seq = ANY(ARRAY(
  SELECT seq FROM tasks
  WHERE endpoint_id = %(endpoint)s AND owner = %(owner)s AND status = 'PENDING' AND expires_at > %(now)s
  ORDER BY priority DESC, seq LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING -priority, seq, id, owner, payload, payload_key, attempts, max_attempts,
          return_pickled, timeout_seconds"""

_COMPLETE = """
UPDATE tasks SET status = new.status, status_code = new.status_code, result = new.result,
                 result_key = new.result_key, reason = new.reason, finished_at = %(now)s,
                 lease_owner = NULL, lease_until = NULL,
                 payload = CASE WHEN new.status = 'SUCCESS' THEN NULL ELSE payload END
FROM unnest(%(ids)b::text[], %(statuses)b::text[], %(codes)b::int2[], %(results)b::bytea[], %(keys)b::text[],
            %(reasons)b::text[]) AS new(id, status, status_code, result, result_key, reason)
WHERE tasks.id = new.id AND tasks.status IN ('PENDING', 'STARTED')
RETURNING tasks.id"""

_RELEASE = """
UPDATE deliveries SET status = 'PENDING', next_at = %s WHERE task_id = ANY(%s) AND status = 'WAITING'"""


class PostgresQueueSql:
    """`store.queue_sql.QueueSql` for PostgreSQL. Claims pass over the rows that another claim has locked."""

    def insert(self, conn: Connection, rows: Sequence[Row]) -> int:
        columns = [list(column) for column in zip(*rows, strict=True)]
        return int(_driver(conn).execute(_INSERT, columns, prepare=True).rowcount)

    def pending_owners(
        self, conn: Connection, endpoint_id: str, now: float, limit: int, after: str
    ) -> list[str]:
        values = {"endpoint": endpoint_id, "now": now, "after": after, "limit": limit}
        return [owner for (owner,) in _fetch(conn, _OWNERS, values)]

    def claim(
        self, conn: Connection, endpoint_id: str, owner: str, limit: int, lease: tuple[str, float], now: float
    ) -> list[Row]:
        values = {"endpoint": endpoint_id, "owner": owner, "limit": limit, "now": now}
        return _fetch(conn, _CLAIM, {**values, "lease_owner": lease[0], "until": lease[1]})

    def claim_of_sole_owner(
        self, conn: Connection, endpoint_id: str, limit: int, lease: tuple[str, float], now: float
    ) -> list[Row]:
        owners = self.pending_owners(conn, endpoint_id, now, 2, "")
        return self.claim(conn, endpoint_id, owners[0], limit, lease, now) if len(owners) == 1 else []

    def complete(self, conn: Connection, results: Sequence[Row], now: float) -> set[str]:
        first = {result[0]: result for result in reversed(results)}
        if not first:
            return set()
        # In the order of their ids, as everything that locks several rows does: two never wait for each other.
        columns = zip(*(first[task_id] for task_id in sorted(first)), strict=True)
        names = ("ids", "statuses", "codes", "results", "keys", "reasons")
        values = {name: list(column) for name, column in zip(names, columns, strict=True)}
        return {task_id for (task_id,) in _fetch(conn, _COMPLETE, {**values, "now": now})}

    def release_callbacks(self, conn: Connection, task_ids: Iterable[str], now: float) -> None:
        _driver(conn).execute(_RELEASE, (now, sorted(task_ids)), prepare=True)


def _fetch(conn: Connection, statement: str, values: dict[str, Any]) -> list[Row]:
    rows: list[Row] = _driver(conn).execute(statement, values, prepare=True).fetchall()
    return rows


def _driver(conn: Connection) -> Any:
    """Return psycopg's connection."""
    return conn.connection.driver_connection

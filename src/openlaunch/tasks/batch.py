"""The tasks of a batch job: functions of a connection, as the queue's.

A job's tasks have the job's id as their owner and as their endpoint, and are in the order of its inputs.
"""

from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from openlaunch.store.queue_sql import queue_sql
from openlaunch.store.tables import tasks
from openlaunch.tasks.states import State


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How one input ended: the finished JSON body, or the artifact that holds it, or a pickle, or nothing yet."""

    seq: int
    state: State
    result: bytes | None = field(repr=False)
    result_key: str | None


def submitted(conn: Connection, job_id: str) -> int:
    """Count the job's inputs that have become tasks."""
    return conn.scalar(select(func.count()).where(tasks.c.owner == job_id)) or 0


def unfinished(conn: Connection, job_id: str) -> int:
    """Count the job's tasks that wait or run. Two questions, as each has an index of its own."""
    return sum(
        conn.scalar(select(func.count()).where(tasks.c.endpoint_id == job_id, tasks.c.status == state.value))
        or 0
        for state in (State.PENDING, State.STARTED)
    )


def results(conn: Connection, job_id: str, after: int, limit: int) -> list[BatchResult]:
    """List the job's tasks behind the one that is numbered `after` (0: from the first), in order."""
    query = (
        select(tasks.c.seq, tasks.c.status, tasks.c.result, tasks.c.result_key)
        .where(tasks.c.owner == job_id, tasks.c.seq > after)
        .order_by(tasks.c.seq)
        .limit(limit)
    )
    return [BatchResult(seq, State(state), result, key) for seq, state, result, key in conn.execute(query)]


def delete_some(conn: Connection, job_id: str, limit: int = 1000) -> tuple[int, list[str]]:
    """Delete up to `limit` of the job's tasks; return their number and the keys of their artifacts."""
    query = select(tasks.c.seq, tasks.c.payload_key, tasks.c.result_key).where(tasks.c.owner == job_id)
    rows = conn.execute(query.limit(limit)).fetchall()
    queue_sql(conn).delete(conn, [row.seq for row in rows])
    return len(rows), [key for row in rows for key in (row.payload_key, row.result_key) if key is not None]

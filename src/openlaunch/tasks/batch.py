"""The tasks of a batch job, and of a batch for models: functions of a connection, as the queue's.

A job's tasks have the job's id as their owner and as their endpoint, and are in the order of its inputs. Those of a
batch have the batch's id as their owner, and are at the endpoints of its models.
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


@dataclass(frozen=True, slots=True)
class LineResult:
    """How one line of a batch for models ended, and what was sent, which is kept where it did not succeed."""

    seq: int
    id: str
    status_code: int
    reason: str | None
    result: bytes | None = field(repr=False)
    result_key: str | None
    payload: bytes | None = field(repr=False)
    payload_key: str | None


def line_results(
    conn: Connection, batch_id: str, *, succeeded: bool | None, after: int, limit: int
) -> list[LineResult]:
    """List the lines that succeeded, did not, or all, behind the one that is numbered `after` (0: from the first)."""
    is_good = tasks.c.status == State.SUCCESS.value
    shown = (tasks.c.seq, tasks.c.id, tasks.c.status_code, tasks.c.reason)
    where = (tasks.c.result, tasks.c.result_key, tasks.c.payload, tasks.c.payload_key)
    query = select(*shown, *where).where(tasks.c.owner == batch_id, tasks.c.seq > after)
    if succeeded is not None:
        query = query.where(is_good if succeeded else ~is_good)
    query = query.order_by(tasks.c.seq).limit(limit)
    return [LineResult(*row) for row in conn.execute(query)]


def progress(conn: Connection, batch_id: str) -> dict[State, int]:
    """Count the lines of a batch for models that have become tasks, by their states."""
    query = select(tasks.c.status, func.count()).where(tasks.c.owner == batch_id).group_by(tasks.c.status)
    return {State(status): count for status, count in conn.execute(query)}


def delete_some(conn: Connection, job_id: str, limit: int = 1000) -> tuple[int, list[str]]:
    """Delete up to `limit` of the job's tasks; return their number and the keys of their artifacts."""
    query = select(tasks.c.seq, tasks.c.payload_key, tasks.c.result_key).where(tasks.c.owner == job_id)
    rows = conn.execute(query.limit(limit)).fetchall()
    queue_sql(conn).delete(conn, [row.seq for row in rows])
    return len(rows), [key for row in rows for key in (row.payload_key, row.result_key) if key is not None]

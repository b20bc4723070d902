"""Ends tasks because their owner says so."""

from sqlalchemy import Connection, or_, select

from openlaunch.store import model_batches
from openlaunch.store.queue_sql import queue_sql
from openlaunch.tasks.lookups import get
from openlaunch.tasks.queue import complete, failed
from openlaunch.tasks.states import State

CANCELLED_STATUS_CODE = 499
GONE_STATUS_CODE = 404


def cancel(conn: Connection, owner: str, task_id: str, now: float) -> State | None:
    """Cancel a task and return the state it was in; None if the owner has no such task.

    A task that was done stays as it is. One that was STARTED is CANCELLED from now on, whatever its worker
    says later; it is for the caller to stop the worker.
    """
    record = get(conn, owner, task_id)
    if record is not None and not record.state.done:
        ended = failed(task_id, "the task was cancelled", CANCELLED_STATUS_CODE, State.CANCELLED)
        complete(conn, [ended], now)
    return None if record is None else record.state


def fail_endpoint(
    conn: Connection, endpoint_id: str, reason: str, now: float, limit: int = 1000
) -> list[str]:
    """End up to `limit` tasks of an endpoint that is deleted as FAILURE, and return their ids.

    Lines of batches keep their payload, which says what they are called in the batch's file.

    To be called until there are none left: with more in one transaction, all other writes would wait for seconds.
    """
    sql = queue_sql(conn)
    its_own = sql.live.c.endpoint_id == endpoint_id
    some: list[tuple[str, bool]] = []
    for unfinished in (sql.pending, sql.started):
        found = select(sql.live.c.id, model_batches.runs(sql.live.c.owner)).where(its_own, unfinished)
        some += [(row[0], bool(row[1])) for row in conn.execute(found.limit(limit - len(some)))]
    ended = [failed(task_id, reason, GONE_STATUS_CODE, keeps_payload=is_line) for task_id, is_line in some]
    return sorted(complete(conn, ended, now))


def fail_owner(
    conn: Connection, owner: str, reason: str, status_code: int, now: float, limit: int = 1000
) -> list[str]:
    """End up to `limit` of an owner's tasks as FAILURE, and return their ids; to be called until there are none."""
    sql = queue_sql(conn)
    live = or_(sql.pending, sql.started)
    some = conn.scalars(select(sql.live.c.id).where(sql.live.c.owner == owner, live).limit(limit)).all()
    complete(conn, [failed(task_id, reason, status_code) for task_id in some], now)
    return sorted(some)

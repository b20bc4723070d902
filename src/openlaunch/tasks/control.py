"""Ends tasks because their owner says so."""

from sqlalchemy import Connection, select, update

from openlaunch.store.tables import tasks
from openlaunch.tasks import outbox
from openlaunch.tasks.lookups import get
from openlaunch.tasks.queue import NO_LEASE, complete, failed
from openlaunch.tasks.states import State, failure

CANCELLED_STATUS_CODE = 499


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

    To be called until there are none left: with more in one transaction, all other writes would wait for seconds.
    """
    unfinished = tasks.c.status.in_([State.PENDING.value, State.STARTED.value])
    some = select(tasks.c.seq).where(tasks.c.endpoint_id == endpoint_id, unfinished).limit(limit)
    result = {"status": State.FAILURE.value, "status_code": 404, "result": failure(reason, 404)}
    values = {**result, "reason": reason, "finished_at": now, "payload": None, **NO_LEASE}
    done = conn.execute(update(tasks).where(tasks.c.seq.in_(some)).values(values).returning(tasks.c.id))
    ended = sorted(done.scalars())
    outbox.release(conn, ended, now)
    return ended

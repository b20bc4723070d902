"""Releases, ends and deletes tasks whose time is over."""

from collections.abc import Collection

from sqlalchemy import Connection, delete, or_, select

from openlaunch.store import batch_jobs
from openlaunch.store.tables import tasks
from openlaunch.tasks import outbox
from openlaunch.tasks.queue import complete, failed, give_back
from openlaunch.tasks.states import State

EXPIRED_STATUS_CODE = 504


def recover(conn: Connection, now: float, alive: Collection[str] | None = None) -> list[str]:
    """Return tasks whose lease has ended to the queue, and return their ids.

    `alive`: the lease owners that live, where that is known: the leases of all others end at once. The attempt does
    not count: the server died or lost the task, not the worker.
    """
    ended = tasks.c.lease_until < now
    if alive is not None:
        ended = or_(ended, tasks.c.lease_owner.not_in(alive))
    query = select(tasks.c.id).where(tasks.c.status == State.STARTED.value, ended)
    ids = [row.id for row in conn.execute(query)]
    for start in range(0, len(ids), 500):
        give_back(conn, ids[start : start + 500], "the server that ran it released it", now, died=False)
    return ids


def expire(conn: Connection, now: float, limit: int = 1000) -> list[str]:
    """End pending tasks that have waited too long as FAILURE, and return their ids."""
    late = (tasks.c.status == State.PENDING.value) & (tasks.c.expires_at <= now)
    query = select(tasks.c.id, tasks.c.created_at, tasks.c.expires_at).where(late).limit(limit)
    ended = []
    for task_id, created_at, expires_at in conn.execute(query):
        text = f"the task expired: it waited {expires_at - created_at:.0f} s, its limit, for a worker"
        ended.append(failed(task_id, text, EXPIRED_STATUS_CODE))
    return sorted(complete(conn, ended, now))


def purge(conn: Connection, now: float, retention_seconds: float, limit: int = 1000) -> list[str]:
    """Delete tasks that ended long ago, and return the keys of their artifacts.

    Those of a batch job stay until the job has made its file of results of them.
    """
    old = tasks.c.finished_at.is_not(None) & (tasks.c.finished_at <= now - retention_seconds)
    query = select(tasks.c.seq, tasks.c.id, tasks.c.payload_key, tasks.c.result_key)
    rows = conn.execute(query.where(old, ~batch_jobs.runs(tasks.c.owner)).limit(limit)).fetchall()
    if rows:
        conn.execute(delete(tasks).where(tasks.c.seq.in_([row.seq for row in rows])))
        outbox.purge(conn, [row.id for row in rows])
    return [key for row in rows for key in (row.payload_key, row.result_key) if key is not None]

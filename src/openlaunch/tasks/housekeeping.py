"""Releases, ends and deletes tasks whose time is over."""

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, or_, select, tuple_, update

from openlaunch.store import batch_jobs, model_batches
from openlaunch.store.cluster import alive, forget_dead
from openlaunch.store.queue_sql import queue_sql
from openlaunch.store.tables import tasks
from openlaunch.tasks import notes, outbox
from openlaunch.tasks.queue import ClaimedTask, complete, failed, give_back, live_of

EXPIRED_STATUS_CODE = 504
MAX_RECOVERIES = 10
LOST = f"the server died or failed while it ran the task, more than {MAX_RECOVERIES} times"
MAX_DELETED_BYTES = 8 * 1024 * 1024
"""Payloads and results that are deleted in one transaction."""

Place = tuple[float, int]
"""A place in the order in which tasks ended: when, and the task's number."""

FIRST: Place = (0.0, 0)


def recover(conn: Connection, now: float, living: Collection[str] | None = None) -> list[str]:
    """Return tasks whose lease has ended to the queue, or end them; return their ids.

    `living`: the lease owners that live, where that is known: the leases of all others end at once. The attempt does
    not count, because the server died or lost the task, and not the worker. But it may be the task by which servers
    die, so one that is recovered more than `MAX_RECOVERIES` times ends as FAILURE.
    """
    live = queue_sql(conn).live.c
    ended = live.lease_until < now
    if living is not None:
        ended = or_(ended, live.lease_owner.not_in(living))
    return _queue_again(conn, ended, now)


def recover_from_dead(conn: Connection, now: float) -> list[str]:
    """Do the same with the tasks of servers that are not alive: of a cluster each has a lease, and a task none."""
    forget_dead(conn)
    # One statement looks at both: a server has its row before it claims anything.
    return _queue_again(conn, queue_sql(conn).live.c.lease_owner.not_in(alive()), now)


def recover_dropped(conn: Connection, now: float, owner: str, held: Collection[str]) -> list[str]:
    """Do the same with tasks that a server has claimed a while ago and does not hold: an error has dropped them."""
    live = queue_sql(conn).live.c
    return _queue_again(conn, (live.lease_owner == owner) & (live.lease_until < now), now, held)


def take_over(
    conn: Connection, ids: Collection[str], lease: tuple[str, float]
) -> list[tuple[str, ClaimedTask]]:
    """Claim those of these tasks that wait, and return each with its endpoint: nodes still run them."""
    sql = queue_sql(conn)
    starts = {"status": "STARTED"} if "status" in sql.released else {}
    values = {"attempts": sql.live.c.attempts + 1, "lease_owner": lease[0], "lease_until": lease[1], **starts}
    waits = update(sql.live).where(live_of(conn, ids), sql.pending).values(values)
    seqs = conn.scalars(waits.returning(sql.live.c.seq)).all()
    shown = (tasks.c[each.name] for each in fields(ClaimedTask))
    query = select(tasks.c.endpoint_id, *shown).where(tasks.c.seq.in_(sorted(seqs)))
    return [(endpoint_id, ClaimedTask(*task)) for endpoint_id, *task in conn.execute(query)]


def _queue_again(
    conn: Connection, lost: ColumnElement[bool], now: float, but: Collection[str] = ()
) -> list[str]:
    sql = queue_sql(conn)
    live = sql.live.c
    query = select(live.id, live.recoveries).where(sql.started, lost)
    found = {row.id: row.recoveries for row in conn.execute(query) if row.id not in but}
    over = [task_id for task_id, recoveries in found.items() if recoveries >= MAX_RECOVERIES]
    complete(conn, [failed(task_id, LOST, 500) for task_id in over], now)
    ids = [task_id for task_id in found if task_id not in set(over)]
    for start in range(0, len(ids), 500):
        chunk = ids[start : start + 500]
        give_back(conn, chunk, "the server that ran it released it", now, died=False)
        counted = update(sql.live).where(live_of(conn, chunk))
        conn.execute(counted.values(recoveries=live.recoveries + 1))
    return list(found)


def expire(conn: Connection, now: float, limit: int = 500) -> list[str]:
    """End pending tasks that have waited too long as FAILURE, and return their ids."""
    sql = queue_sql(conn)
    live = sql.live.c
    late = sql.pending & (live.expires_at <= now)
    query = select(live.id, live.created_at, live.expires_at).where(late)
    ended = []
    for task_id, created_at, expires_at in conn.execute(query.order_by(live.expires_at).limit(limit)):
        text = f"the task expired: it waited {expires_at - created_at:.0f} s, its limit, for a worker"
        ended.append(failed(task_id, text, EXPIRED_STATUS_CODE))
    return sorted(complete(conn, ended, now))


@dataclass(frozen=True, slots=True)
class OldTasks:
    """Tasks to delete, and the keys of their artifacts. `place` is where to look next, and `more` whether now."""

    seqs: list[int]
    ids: list[str]
    keys: list[str]
    place: Place
    more: bool


def find_old(
    conn: Connection, now: float, retention_seconds: float, after: Place = FIRST, limit: int = 500
) -> OldTasks:
    """Look at up to `limit` tasks that ended long ago; those of a job that is not cleared are to stay.

    With large payloads and results it is fewer, so that they can be deleted in a moment.
    """
    payload, result = (func.coalesce(func.length(tasks.c[name]), 0) for name in ("payload", "result"))
    shown = (tasks.c.seq, tasks.c.id, tasks.c.payload_key, tasks.c.result_key, tasks.c.finished_at)
    # `after[0]` for itself: PostgreSQL looks for no place in two tables at once.
    old = (tasks.c.finished_at >= after[0], tasks.c.finished_at <= now - retention_seconds)
    by_place = tuple_(tasks.c.finished_at, tasks.c.seq)
    stays = or_(batch_jobs.runs(tasks.c.owner), model_batches.runs(tasks.c.owner))
    query = select(*shown, stays.label("stays"), (payload + result).label("size"))
    query = query.where(*old, by_place > after).order_by(tasks.c.finished_at, tasks.c.seq).limit(limit)
    rows: list[Row[Any]] = []
    room = MAX_DELETED_BYTES
    for row in conn.execute(query):
        rows.append(row)
        room -= row.size
        if room < 0:
            break
    gone = [row for row in rows if not row.stays]
    return OldTasks(
        [row.seq for row in gone],
        [row.id for row in gone],
        [key for row in gone for key in (row.payload_key, row.result_key) if key is not None],
        (rows[-1].finished_at, rows[-1].seq) if rows else after,
        len(rows) == limit or room < 0,
    )


def delete_old(conn: Connection, old: OldTasks) -> None:
    """Delete tasks, and their callbacks."""
    queue_sql(conn).delete(conn, old.seqs)
    outbox.purge(conn, old.ids)
    notes.purge(conn, old.ids)

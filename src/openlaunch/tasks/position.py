"""Where a task stands in its endpoint's queue."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

from openlaunch.store.queue_sql import queue_sql
from openlaunch.store.tables import tasks
from openlaunch.tasks.lookups import of_owner
from openlaunch.tasks.states import State

MAX_OWNERS = 100
MAX_LOOKS = 200
"""Tasks that are looked at to find the oldest one."""


@dataclass(frozen=True, slots=True)
class Position:
    """A task's place in the queue: `ahead` is the number of tasks before it, up to a limit."""

    state: State
    endpoint_id: str
    attempts: int
    reason: str | None
    created_at: float
    expires_at: float | None
    ahead: int | None


def position(conn: Connection, owner: str, task_id: str, now: float, most: int) -> Position | None:
    """Find the place of the owner's task; `ahead` is at most `most + 1`, and None unless the task is pending.

    Owners take turns, so of each other one's tasks come before it as many as of its own owner's, and one more.
    However many wait, about `most` are looked at, and `MAX_OWNERS` owners.
    """
    shown = tasks.c["endpoint_id", "attempts", "reason", "created_at", "expires_at"]
    query = select(tasks.c.seq, tasks.c.priority, tasks.c.status, *shown)
    row = conn.execute(queue_sql(conn).of_ids(query.where(of_owner(owner)), [task_id])).first()
    if row is None:
        return None
    state, ahead = State(row.status), None
    if state is State.PENDING:
        live = queue_sql(conn).live.c
        before = live.priority > row.priority
        same = (live.priority == row.priority) & (live.seq < row.seq)
        mine, left = live.owner == owner, most + 1
        ahead = _count(conn, row.endpoint_id, mine & before, now, left)
        ahead += _count(conn, row.endpoint_id, mine & same, now, left - ahead)
        share = ahead + 1
        for other in queue_sql(conn).pending_owners(conn, row.endpoint_id, now, MAX_OWNERS, after=""):
            if other != owner and ahead < left:
                ahead += _count(conn, row.endpoint_id, live.owner == other, now, min(share, left - ahead))
    return Position(state, row.endpoint_id, row.attempts, row.reason, row.created_at, row.expires_at, ahead)


def oldest(conn: Connection, endpoint_id: str, now: float) -> float | None:
    """Return when the task that has waited longest was submitted, of up to `MAX_OWNERS` owners; None: none waits.

    However many wait, a few of each owner are looked at: the first one of each of the highest priorities.
    """
    sql = queue_sql(conn)
    found: list[float] = []
    live = sql.live.c
    for owner in sql.pending_owners(conn, endpoint_id, now, MAX_OWNERS, after=""):
        query = select(live.priority, live.created_at).where(
            live.endpoint_id == endpoint_id, live.owner == owner, sql.pending
        )
        query = query.order_by(live.priority.desc(), live.seq).limit(1)
        row = conn.execute(query).first()
        while row is not None and len(found) < MAX_LOOKS:
            found.append(row.created_at)
            row = conn.execute(query.where(live.priority < row.priority)).first()
    return min(found, default=None)


def _count(conn: Connection, endpoint_id: str, condition: ColumnElement[bool], now: float, most: int) -> int:
    sql = queue_sql(conn)
    live = sql.live.c
    waits = sql.pending & (live.expires_at > now)
    query = select(live.seq).where(live.endpoint_id == endpoint_id, waits, condition)
    # In the order of the one index that has them apart: PostgreSQL might read another one to its end.
    found = query.order_by(live.priority.desc(), live.seq).limit(most).subquery()
    return conn.scalar(select(func.count()).select_from(found)) or 0

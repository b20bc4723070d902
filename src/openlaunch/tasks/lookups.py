"""Reads tasks and counts them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, false, func, literal, null, select, true

from openlaunch.store.queue_sql import queue_sql
from openlaunch.store.rows import is_of
from openlaunch.store.tables import tasks
from openlaunch.tasks.states import State
from openlaunch.wire.ids import first_id
from openlaunch.wire.keys import ALL_OWNERS

MAX_EXAMINED = 5000
"""The most tasks that are looked at for one page of a list."""

SUBMIT_SECONDS = 30.0
"""No task is stored, and so numbered, more than this long after its id was made."""

Times = tuple[float | None, float | None]
ALWAYS: Times = (None, None)
_DONE = [State.SUCCESS.value, State.FAILURE.value, State.CANCELLED.value]


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it stands, without its payload."""

    id: str
    endpoint_id: str
    owner: str
    state: State
    attempts: int
    created_at: float
    finished_at: float | None
    status_code: int | None
    reason: str | None
    result: bytes | None = field(repr=False)
    result_key: str | None


@dataclass(frozen=True, slots=True)
class Payload:
    """What was sent in with a task: the bytes, or the artifact that holds them; neither once it is not kept."""

    endpoint_id: str
    state: State
    payload: bytes | None = field(repr=False)
    payload_key: str | None


_SUMMARY = [
    *(tasks.c.id, tasks.c.endpoint_id, tasks.c.owner, tasks.c.status.label("state"), tasks.c.attempts),
    *(tasks.c.created_at, tasks.c.finished_at, tasks.c.status_code, tasks.c.reason),
]
_RECORD = [*_SUMMARY, tasks.c.result, tasks.c.result_key]


def get(conn: Connection, owner: str, task_id: str) -> TaskRecord | None:
    """Find the owner's task of this id."""
    found = get_many(conn, owner, [task_id])
    return found[0] if found else None


def get_payload(conn: Connection, owner: str, task_id: str) -> Payload | None:
    """Find what was sent in with the owner's task; nothing is left of it once the task has succeeded."""
    query = select(tasks.c.endpoint_id, tasks.c.status.label("state"), tasks.c.payload, tasks.c.payload_key)
    row = conn.execute(_those_of(conn, query, owner, [task_id])).one_or_none()
    if row is None:
        return None
    state = State(row.state)
    if state is State.SUCCESS:
        return Payload(row.endpoint_id, state, None, None)
    return Payload(row.endpoint_id, state, row.payload, row.payload_key)


def get_many(conn: Connection, owner: str, ids: Sequence[str]) -> list[TaskRecord]:
    """List those of the ids that are the owner's tasks, in any order."""
    return [_record(tuple(row)) for row in conn.execute(_those_of(conn, select(*_RECORD), owner, ids))]


def progress_of(conn: Connection, owner: str, ids: Sequence[str]) -> dict[str, int | None]:
    """Return those of the ids that are the owner's tasks, with the size of the result in its row; None: not done."""
    size = func.coalesce(func.length(tasks.c.result), 0)
    query = select(tasks.c.id, case((tasks.c.status.in_(_DONE), size)))
    return dict(conn.execute(_those_of(conn, query, owner, ids)).all())


def _those_of(conn: Connection, query: Select[Any], owner: str, ids: Sequence[str]) -> Select[Any]:
    return queue_sql(conn).of_ids(query.where(of_owner(owner)), ids)


def of_owner(owner: str) -> ColumnElement[bool]:
    """Return the condition that tasks which are looked up by their ids are this owner's.

    It is not plainly one of the owner: PostgreSQL would read all tasks of an owner whom it believes to have few.
    """
    return (tasks.c.owner == owner).is_(true())


def done_of(conn: Connection, ids: Sequence[str]) -> list[str]:
    """List those of the ids whose tasks, of any owner, are done, and those of no task."""
    query = select(tasks.c.id, tasks.c.status)
    rows: dict[str, str] = dict(conn.execute(queue_sql(conn).of_ids(query, ids)).all())
    return [task_id for task_id in ids if rows.get(task_id) in (None, *_DONE)]


def leased_to(conn: Connection, owner: str) -> set[str]:
    """Return the tasks that are leased to this server."""
    sql = queue_sql(conn)
    return set(conn.scalars(select(sql.live.c.id).where(sql.started, sql.live.c.lease_owner == owner)))


def _record(row: tuple[Any, ...]) -> TaskRecord:
    task_id, endpoint_id, owner, state, *rest = row
    return TaskRecord(task_id, endpoint_id, owner, State(state), *rest)


def list_page(
    conn: Connection,
    owner: str,
    endpoint_id: str | None = None,
    state: State | None = None,
    limit: int = 100,
    cursor: str | None = None,
    most: int = MAX_EXAMINED,
    *,
    among: Sequence[str] | None = None,
    times: Times = ALWAYS,
) -> tuple[list[TaskRecord], str | None]:
    """Return a page of the owner's tasks, newest first, without results, and the next page's cursor.

    With `among`, they are of these endpoints; with `times`, they were submitted from the first time on and before the
    second. No more than `most` tasks are looked at for these, for a state, or for the tasks of all owners, so a page
    that is not full may have a next one. Inputs of batch jobs, which are tasks of the job, are not among those of all
    owners.
    """
    if state is State.STARTED:
        return _page(conn, _running(conn, owner, endpoint_id, cursor, among, times), limit, None)
    query, floor, everybody = _newest_first(conn, owner, endpoint_id, state), None, owner == ALL_OWNERS
    if cursor is not None:
        query = query.where(tasks.c.seq < int(cursor))
    query = query.where(*_about(conn, times))
    if everybody or state is not None or among is not None or times != ALWAYS:
        floor = conn.scalar(query.with_only_columns(tasks.c.seq).offset(most - 1).limit(1))
        query = query.where(_shown_as(state), *([tasks.c.seq >= floor] if floor else []))
    query = query.where(*_narrowed(conn, tasks.c, among, times))
    if everybody:
        query = query.where(tasks.c.owner != tasks.c.endpoint_id)
    if endpoint_id is not None:
        query = query.where(
            tasks.c.endpoint_id.concat("") == endpoint_id
        )  # to stay with the index of the state
    return _page(conn, query, limit, floor)


def _page(
    conn: Connection, query: Select[Any], limit: int, floor: int | None
) -> tuple[list[TaskRecord], str | None]:
    rows = conn.execute(query.limit(limit + 1)).fetchall()
    page = [_record((*row[1:], None, None)) for row in rows[:limit]]
    last = rows[limit - 1].seq if len(rows) > limit else floor
    return page, None if last is None else str(last)


def _about(conn: Connection, times: Times) -> Iterator[ColumnElement[bool]]:
    """Yield conditions on `seq`, by which a list of some times begins near them: ids begin with a time, too."""
    for at, slack in zip(times, (-SUBMIT_SECONDS, SUBMIT_SECONDS), strict=True):
        if at is None:
            continue
        first = select(tasks.c.seq).where(tasks.c.id >= first_id(max(0.0, at + slack)))
        seq = conn.scalar(first.order_by(tasks.c.id).limit(1))
        if slack > 0:
            yield true() if seq is None else tasks.c.seq < seq
        else:
            yield false() if seq is None else tasks.c.seq >= seq


def _narrowed(
    conn: Connection, columns: Any, among: Sequence[str] | None, times: Times
) -> Iterator[ColumnElement[bool]]:
    since, until = times
    if since is not None:
        yield columns.created_at >= since
    if until is not None:
        yield columns.created_at < until
    if among is not None:
        yield queue_sql(conn).among(columns.endpoint_id.concat(""), among)


def _running(
    conn: Connection,
    owner: str,
    endpoint_id: str | None,
    cursor: str | None,
    among: Sequence[str] | None,
    times: Times,
) -> Select[Any]:
    """Select running tasks, newest first: few of all tasks run, and an index has those alone."""
    sql = queue_sql(conn)
    live, none = sql.live.c, null()
    summary = live.id, live.endpoint_id, live.owner, literal(State.STARTED.value), live.attempts
    query = select(live.seq, *summary, live.created_at, none, none, live.reason)
    # SQLite would prefer the owner's tasks, or the order, were these not expressions.
    query = query.where(sql.started, live.lease_owner > "", is_of(live.owner.concat(""), owner))
    if endpoint_id is not None:
        query = query.where(live.endpoint_id.concat("") == endpoint_id)
    if cursor is not None:
        query = query.where(live.seq < int(cursor))
    query = query.where(*_narrowed(conn, live, among, times))
    return query.order_by((live.seq + 0).desc())


def _newest_first(conn: Connection, owner: str, endpoint_id: str | None, state: State | None) -> Select[Any]:
    """Select what one index has of the wanted tasks: all of them, and others too."""
    query = select(tasks.c.seq, *_SUMMARY).order_by(tasks.c.seq.desc())
    if owner == ALL_OWNERS:
        return query
    if state is State.FAILURE:
        return query.where(queue_sql(conn).unsuccessful_of(owner))
    query = query.where(tasks.c.owner == owner)
    return query if endpoint_id is None else query.where(tasks.c.endpoint_id == endpoint_id)


def _shown_as(state: State | None) -> ColumnElement[bool]:
    if state is None:
        return true()
    shown = [State.FAILURE, State.CANCELLED] if state is State.FAILURE else [state]
    return tasks.c.status.in_([one.value for one in shown])


def queued_counts(conn: Connection, now: float) -> dict[str, dict[str, int]]:
    """Count the pending tasks that have not expired by endpoint and owner; those without any are left out."""
    sql = queue_sql(conn)
    by = sql.live.c.endpoint_id, sql.live.c.owner
    query = select(*by, func.count()).where(sql.pending, sql.live.c.expires_at > now)
    counts: dict[str, dict[str, int]] = {}
    for endpoint_id, owner, count in conn.execute(query.group_by(*by)):
        counts.setdefault(endpoint_id, {})[owner] = count
    return counts

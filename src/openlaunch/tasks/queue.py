"""The durable queue: functions of a connection and `now`. See docs/architecture for the life of a task.

The statements that every task passes through (submit, claim, complete) are the driver's (`store/queue_sql.py`).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, literal_column, or_, select, update

from openlaunch.store import batch_jobs
from openlaunch.store.answers import key_reused
from openlaunch.store.queue_sql import Row, queue_sql
from openlaunch.store.tables import tasks
from openlaunch.tasks import outbox
from openlaunch.tasks.callback import Callback
from openlaunch.tasks.states import State, after_death, failure

EXPIRED_STATUS_CODE = 504
CANCELLED_STATUS_CODE = 499
MAX_EXAMINED = 5000
"""The most tasks that are looked at for one page of a list."""
_NO_LEASE = {"lease_owner": None, "lease_until": None}
_STARTED = tasks.c.status == literal_column("'STARTED'")  # as the index is spelled
_DONE = [State.SUCCESS.value, State.FAILURE.value, State.CANCELLED.value]


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be submitted. Exactly one of `payload` and `payload_key` (an artifact) is given."""

    id: str
    endpoint_id: str
    owner: str
    expires_at: float
    max_attempts: int
    payload: bytes | None = field(default=None, repr=False)
    payload_key: str | None = None
    priority: int = 0
    return_pickled: bool = False
    timeout_seconds: float | None = None
    idempotency_key: str | None = None
    idempotency_digest: bytes | None = field(default=None, repr=False)
    callback: Callback | None = None


@dataclass(frozen=True, slots=True)
class ClaimedTask:
    """A task that the claimer now runs, until its lease ends."""

    id: str
    owner: str
    payload: bytes | None = field(repr=False)
    payload_key: str | None
    attempts: int
    max_attempts: int
    return_pickled: bool = False
    timeout_seconds: float | None = None

    @property
    def is_last_attempt(self) -> bool:
        """Whether one more crash of its worker ends it."""
        return 1 < self.max_attempts <= self.attempts


@dataclass(frozen=True, slots=True)
class Payload:
    """What was sent in with a task: the bytes, or the artifact that holds them; neither once it is not kept."""

    endpoint_id: str
    state: State
    payload: bytes | None = field(repr=False)
    payload_key: str | None


@dataclass(frozen=True, slots=True)
class Finished:
    """How a task ended: the finished JSON body (without its id), or the artifact that holds it."""

    id: str
    state: State
    status_code: int
    result: bytes | None = field(default=None, repr=False)
    result_key: str | None = None
    reason: str | None = None


def failed(task_id: str, reason: str, status_code: int, state: State = State.FAILURE) -> Finished:
    """Make the end of a task that its model did not answer."""
    return Finished(task_id, state, status_code, failure(reason, status_code), reason=reason)


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it stands, without its payload."""

    id: str
    endpoint_id: str
    state: State
    attempts: int
    created_at: float
    finished_at: float | None
    status_code: int | None
    reason: str | None
    result: bytes | None = field(repr=False)
    result_key: str | None


_SUMMARY = [
    *(tasks.c.id, tasks.c.endpoint_id, tasks.c.status.label("state"), tasks.c.attempts, tasks.c.created_at),
    *(tasks.c.finished_at, tasks.c.status_code, tasks.c.reason),
]
_RECORD = [*_SUMMARY, tasks.c.result, tasks.c.result_key]


def submit(conn: Connection, new: Sequence[NewTask], now: float) -> list[str]:
    """Store tasks as PENDING, all or none, and return their ids in order.

    One whose idempotency key its owner has used already is not stored again: the first one's id is returned.

    Raises:
        Unprocessable: the key was used for something else.
    """
    if not new:
        return []
    rows = [
        (
            task.id,
            task.endpoint_id,
            task.owner,
            task.priority,
            task.payload,
            task.payload_key,
            task.idempotency_key,
            task.idempotency_digest,
            now,
            task.expires_at,
            task.max_attempts,
            task.return_pickled,
            task.timeout_seconds,
        )
        for task in new
    ]
    stored = queue_sql(conn).insert(conn, rows)
    ids = [task.id for task in new] if stored == len(new) else _first_ids(conn, new)
    callbacks = [
        (f"msg_{task.id}", task.id, task.endpoint_id, task.owner, task.callback)
        for task, task_id in zip(new, ids, strict=True)
        if task.callback is not None and task_id == task.id
    ]
    if callbacks:
        outbox.add(conn, callbacks, now)
    return ids


def _first_ids(conn: Connection, new: Sequence[NewTask]) -> list[str]:
    """Return the ids of the tasks that were stored first under the same keys."""
    keys = [task.idempotency_key for task in new]
    query = select(tasks.c.owner, tasks.c.idempotency_key, tasks.c.id, tasks.c.idempotency_digest).where(
        tasks.c.idempotency_key.in_(keys), tasks.c.owner.in_({task.owner for task in new})
    )
    known = {(owner, key): (task_id, digest) for owner, key, task_id, digest in conn.execute(query)}
    ids = []
    for task in new:
        first, digest = known.get((task.owner, task.idempotency_key), (task.id, None))
        if task.idempotency_key is not None and digest not in (None, task.idempotency_digest):
            raise key_reused(task.idempotency_key.rpartition("#")[0] or task.idempotency_key)
        ids.append(first)
    return ids


def claim(
    conn: Connection,
    endpoint_id: str,
    limit: int,
    lease_owner: str,
    lease_seconds: float,
    now: float,
    after: str = "",
) -> list[ClaimedTask]:
    """Take up to `limit` pending tasks under a lease: the owners take turns, whatever they have waiting.

    Of one owner's tasks those with the highest priority come first, and then those that came first. `after` is the
    owner whose turn was last. Fewer than `limit` may be taken although more wait, but never none.
    """
    sql, lease = queue_sql(conn), (lease_owner, now + lease_seconds)
    if sole := _claimed(sql.claim_of_sole_owner(conn, endpoint_id, limit, lease, now)):
        return sole
    owners = sql.pending_owners(conn, endpoint_id, now, limit, after)
    claimed: list[tuple[int, int, ClaimedTask]] = []
    for turn, owner in enumerate(owners):
        # What one owner does not need of its share goes to those behind it.
        share = -(-(limit - len(claimed)) // (len(owners) - turn))
        tasks_of_owner = _claimed(sql.claim(conn, endpoint_id, owner, share, lease, now))
        claimed += [(round_, turn, task) for round_, task in enumerate(tasks_of_owner)]
    claimed.sort(key=lambda item: item[:2])
    return [task for _, _, task in claimed]


def _claimed(rows: list[Row]) -> list[ClaimedTask]:
    """Put what a claim of one owner's tasks has taken in order."""
    rows.sort()  # by what comes first of them: the priority, and then the place
    return [ClaimedTask(*task) for _, _, *task in rows]


def renew(conn: Connection, lease_owner: str, ids: Sequence[str], lease_seconds: float, now: float) -> int:
    """Extend this owner's leases on these tasks, and return their number."""
    renewed = 0
    for start in range(0, len(ids), 500):
        mine = (tasks.c.status == State.STARTED.value) & (tasks.c.lease_owner == lease_owner)
        leased = update(tasks).where(tasks.c.id.in_(ids[start : start + 500]), mine)
        renewed += conn.execute(leased.values(lease_until=now + lease_seconds)).rowcount
    return renewed


def complete(conn: Connection, results: Sequence[Finished], now: float) -> set[str]:
    """Record results, and return the ids of those that were recorded: of several for one task the first wins.

    The callbacks of these tasks are to be sent from now on. The payload of one that did not succeed is kept as long
    as its result, so that it can be looked at and run again.
    """
    rows = [(r.id, r.state.value, r.status_code, r.result, r.result_key, r.reason) for r in results]
    recorded = queue_sql(conn).complete(conn, rows, now)
    outbox.release(conn, recorded, now)
    return recorded


def give_back(
    conn: Connection, ids: Iterable[str], reason: str, now: float, *, died: bool
) -> list[tuple[str, State]]:
    """Return running tasks to the queue, and say what each became.

    `died`: their worker died, which counts against them (`after_death`). Otherwise the attempt does not count:
    a server or worker that stops handed them back.
    """
    query = select(tasks.c.id, tasks.c.attempts, tasks.c.max_attempts).where(
        tasks.c.id.in_(list(ids)), tasks.c.status == State.STARTED.value
    )
    outcome = []
    for task_id, attempts, max_attempts in conn.execute(query).fetchall():
        state = after_death(attempts, max_attempts) if died else State.PENDING
        if state is State.FAILURE:
            text = f"the task's worker {reason}; that was attempt {attempts} of {max_attempts}"
            complete(conn, [failed(task_id, text, 500)], now)
        else:
            values = {"status": state.value, "attempts": attempts if died else attempts - 1, "reason": reason}
            conn.execute(update(tasks).where(tasks.c.id == task_id).values(**values, **_NO_LEASE))
        outcome.append((task_id, state))
    return outcome


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


def get(conn: Connection, owner: str, task_id: str) -> TaskRecord | None:
    """Find the owner's task of this id."""
    found = get_many(conn, owner, [task_id])
    return found[0] if found else None


def get_payload(conn: Connection, owner: str, task_id: str) -> Payload | None:
    """Find what was sent in with the owner's task; nothing is left of it once the task has succeeded."""
    query = select(
        tasks.c.endpoint_id, tasks.c.status.label("state"), tasks.c.payload, tasks.c.payload_key
    ).where(tasks.c.id == task_id, tasks.c.owner == owner)
    row = conn.execute(query).one_or_none()
    if row is None:
        return None
    state = State(row.state)
    if state is State.SUCCESS:
        return Payload(row.endpoint_id, state, None, None)
    return Payload(row.endpoint_id, state, row.payload, row.payload_key)


def get_many(
    conn: Connection, owner: str, ids: Sequence[str], *, only_done: bool = False
) -> list[TaskRecord]:
    """List those of the ids that are the owner's tasks, in any order."""
    query = select(*_RECORD).where(tasks.c.id.in_(list(ids)), tasks.c.owner == owner)
    if only_done:
        query = query.where(tasks.c.status.in_(_DONE))
    return [_record(tuple(row)) for row in conn.execute(query)]


def known_ids(conn: Connection, owner: str, ids: Sequence[str]) -> set[str]:
    """Return those of the ids that are the owner's tasks."""
    return set(conn.scalars(select(tasks.c.id).where(tasks.c.id.in_(list(ids)), tasks.c.owner == owner)))


def _record(row: tuple[Any, ...]) -> TaskRecord:
    task_id, endpoint_id, state, *rest = row
    return TaskRecord(task_id, endpoint_id, State(state), *rest)


def list_page(
    conn: Connection,
    owner: str,
    endpoint_id: str | None = None,
    state: State | None = None,
    limit: int = 100,
    cursor: str | None = None,
    most: int = MAX_EXAMINED,
) -> tuple[list[TaskRecord], str | None]:
    """Return a page of the owner's tasks, newest first, without results, and the next page's cursor.

    No more than `most` tasks are looked at for a state, so a page that is not full may have a next one.
    """
    query, floor = _newest_first(owner, endpoint_id, state), None
    if cursor is not None:
        query = query.where(tasks.c.seq < int(cursor))
    if state not in (None, State.STARTED):
        floor = conn.scalar(query.offset(most - 1).limit(1))
        query = query.where(_shown_as(state), *([tasks.c.seq >= floor] if floor else []))
    if endpoint_id is not None:
        query = query.where(
            tasks.c.endpoint_id.concat("") == endpoint_id
        )  # to stay with the index of the state
    rows = conn.execute(query.with_only_columns(tasks.c.seq, *_SUMMARY).limit(limit + 1)).fetchall()
    page = [_record((*row[1:], None, None)) for row in rows[:limit]]
    last = rows[limit - 1].seq if len(rows) > limit else floor
    return page, None if last is None else str(last)


def _newest_first(owner: str, endpoint_id: str | None, state: State | None) -> Select[tuple[int]]:
    """Select what one index has of the wanted tasks: all of them, and others too."""
    if state is State.STARTED:
        # Few of all tasks run, and an index has those alone. SQLite would prefer the owner's tasks, or the order,
        # were these not expressions.
        running = (_STARTED, tasks.c.lease_owner > "", tasks.c.owner.concat("") == owner)
        return select(tasks.c.seq).where(*running).order_by((tasks.c.seq + 0).desc())
    query = select(tasks.c.seq).where(tasks.c.owner == owner).order_by(tasks.c.seq.desc())
    if state is State.FAILURE:
        return query.where(_shown_as(state))
    return query if endpoint_id is None else query.where(tasks.c.endpoint_id == endpoint_id)


def _shown_as(state: State) -> ColumnElement[bool]:
    if state is not State.FAILURE:
        return tasks.c.status == state.value
    # Spelled as in the index of the unsuccessful: SQLite does not see that IN means the same.
    return or_(tasks.c.status == State.FAILURE.value, tasks.c.status == State.CANCELLED.value)


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


def queued_counts(conn: Connection) -> dict[str, dict[str, int]]:
    """Count the pending tasks by endpoint and owner; those without any are left out."""
    by = tasks.c.endpoint_id, tasks.c.owner
    query = select(*by, func.count()).where(tasks.c.status == State.PENDING.value).group_by(*by)
    counts: dict[str, dict[str, int]] = {}
    for endpoint_id, owner, count in conn.execute(query):
        counts.setdefault(endpoint_id, {})[owner] = count
    return counts


def fail_endpoint(
    conn: Connection, endpoint_id: str, reason: str, now: float, limit: int = 1000
) -> list[str]:
    """End up to `limit` tasks of an endpoint that is deleted as FAILURE, and return their ids.

    To be called until there are none left: with more in one transaction, all other writes would wait for seconds.
    """
    unfinished = tasks.c.status.in_([State.PENDING.value, State.STARTED.value])
    some = select(tasks.c.seq).where(tasks.c.endpoint_id == endpoint_id, unfinished).limit(limit)
    result = {"status": State.FAILURE.value, "status_code": 404, "result": failure(reason, 404)}
    values = {**result, "reason": reason, "finished_at": now, "payload": None, **_NO_LEASE}
    done = conn.execute(update(tasks).where(tasks.c.seq.in_(some)).values(values).returning(tasks.c.id))
    ended = sorted(done.scalars())
    outbox.release(conn, ended, now)
    return ended

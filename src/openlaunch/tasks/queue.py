"""The durable queue: functions of a connection and `now`. See docs/architecture for the life of a task.

Here is what every task passes through. Its statements (submit, claim, complete) are the driver's
(`store/queue_sql.py`). Beside it, `lookups` reads tasks, `control` ends them, and `housekeeping` tidies up.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Connection, select, update

from openlaunch.store.answers import key_reused
from openlaunch.store.queue_sql import Row, queue_sql
from openlaunch.store.tables import tasks
from openlaunch.tasks import outbox
from openlaunch.tasks.callback import Callback
from openlaunch.tasks.states import State, after_death, failure
from openlaunch_worker.frames import Body


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be submitted. Exactly one of `payload` and `payload_key` (an artifact) is given."""

    id: str
    endpoint_id: str
    owner: str
    expires_at: float
    max_attempts: int
    payload: Body | None = field(default=None, repr=False)
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
class Finished:
    """How a task ended: the finished JSON body (without its id), or the artifact that holds it."""

    id: str
    state: State
    status_code: int
    result: bytes | None = field(default=None, repr=False)
    result_key: str | None = None
    reason: str | None = None
    keeps_payload: bool = True
    """Whether what was sent in can be looked at, and run again, as long as the result, unless the task succeeded."""
    lease_owner: str | None = None
    """The server whose task it has to be for this to be its end; None: whosever it is."""


def failed(
    task_id: str, reason: str, status_code: int, state: State = State.FAILURE, *, keeps_payload: bool = True
) -> Finished:
    """Make the end of a task that its model did not answer."""
    result = failure(reason, status_code)
    return Finished(task_id, state, status_code, result, reason=reason, keeps_payload=keeps_payload)


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
    keys = [(task.owner, task.idempotency_key) for task in new if task.idempotency_key is not None]
    found = queue_sql(conn).under_keys(conn, keys)
    known = {(owner, key): (task_id, digest) for owner, key, task_id, digest in found}
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
    sql, renewed = queue_sql(conn), 0
    mine = sql.started & (sql.live.c.lease_owner == lease_owner)
    for start in range(0, len(ids), 500):
        leased = update(sql.live).where(live_of(conn, ids[start : start + 500]), mine)
        renewed += conn.execute(leased.values(lease_until=now + lease_seconds)).rowcount
    return renewed


def live_of(conn: Connection, ids: Iterable[str]) -> ColumnElement[bool]:
    """Make the condition that a row of the live tasks is one of these: by number, by which rows are looked up."""
    seqs = conn.scalars(queue_sql(conn).of_ids(select(tasks.c.seq), sorted(ids)))
    return queue_sql(conn).live.c.seq.in_(sorted(seqs))


def complete(conn: Connection, results: Sequence[Finished], now: float) -> set[str]:
    """Record results, and return the ids of those that were recorded: of several for one task the first wins.

    The callbacks of these tasks are to be sent from now on.
    """
    results = _of_their_server(conn, results)
    if not results:
        return set()
    rows = [
        (
            r.state.value,
            r.status_code,
            r.result,
            r.result_key,
            r.reason,
            r.state is State.SUCCESS or not r.keeps_payload,
            r.id,
        )
        for r in results
    ]
    return queue_sql(conn).complete(conn, rows, now)


def _of_their_server(conn: Connection, results: Sequence[Finished]) -> Sequence[Finished]:
    """Leave out results of tasks that are another server's by now, where that matters."""
    if not (ids := [result.id for result in results if result.lease_owner is not None]):
        return results
    live = queue_sql(conn).live.c
    query = select(live.id, live.lease_owner).where(live_of(conn, ids))
    has = {row.id: row.lease_owner for row in conn.execute(query)}
    return [result for result in results if result.lease_owner in (None, has.get(result.id))]


def give_back(
    conn: Connection,
    ids: Iterable[str],
    reason: str,
    now: float,
    *,
    died: bool,
    lease_owner: str | None = None,
) -> list[tuple[str, State]]:
    """Return running tasks to the queue, and say what each became.

    `died`: their worker died, which counts against them (`after_death`). Otherwise the attempt does not count:
    a server or worker that stops handed them back. With a `lease_owner`, those are left that are not this server's:
    others may have taken it for dead.
    """
    sql = queue_sql(conn)
    live = sql.live.c
    runs = sql.started if lease_owner is None else sql.started & (live.lease_owner == lease_owner)
    query = select(live.seq, live.id, live.attempts, live.max_attempts).where(live_of(conn, ids), runs)
    outcome, ended, again = [], [], []
    for seq, task_id, attempts, max_attempts in conn.execute(query):
        state = after_death(attempts, max_attempts) if died else State.PENDING
        if state is State.FAILURE:
            text = f"the task's worker {reason}; that was attempt {attempts} of {max_attempts}"
            ended.append(failed(task_id, text, 500))
        else:
            again.append(seq)
        outcome.append((task_id, state))
    complete(conn, ended, now)
    if again:
        values = {**sql.released, "reason": reason, "attempts": live.attempts - (0 if died else 1)}
        conn.execute(update(sql.live).where(live.seq.in_(sorted(again))).values(values))
    return outcome

"""Durable callbacks: functions of a connection and `now`, as the queue's.

A delivery is stored with its task, released with the task's result, and sent until it was taken or given up.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, literal_column, select, update

from openlaunch.store.rows import values_of
from openlaunch.store.tables import deliveries
from openlaunch.tasks.callback import Callback
from openlaunch.wire.ids import new_id
from openlaunch.wire.tasks import DeliveryStatus

RETRY_SECONDS = (5, 30, 120, 600, 1800, 3600, 3 * 3600, 6 * 3600)
"""Seconds between each failed attempt and the next one; after the last there is none."""

GONE_STATUS = 410
KEPT_ATTEMPTS = 20
MAX_RECEIVERS = 100
"""The most of an owner's receivers that are looked at in one call of `due`; the others have their turn later."""
MAX_WAITING = 1000
"""Callbacks that may wait for one receiver of an owner's before notifications to it are left out."""
_NOTIFICATION = "ntf_"
_BEHIND_NOTIFICATIONS = "ntf`"
"""The first text that is larger than any id of a notification."""
_CHUNK = 500
_PENDING = deliveries.c.status == literal_column("'PENDING'")  # as the index is spelled
_NONE: Mapping[str, Collection[str]] = {}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: `status_code` is what the receiver answered, `error` why there was no good answer."""

    at: float
    seconds: float
    status_code: int | None = None
    error: str | None = None

    @property
    def taken(self) -> bool:
        """Whether the receiver has it."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A callback as it stands: `failures` in a row, and the last attempts. `receiver` is the host in `url`."""

    id: str
    task_id: str
    endpoint_id: str
    owner: str
    receiver: str
    url: str
    auth: dict[str, Any] | None = field(repr=False)
    status: DeliveryStatus
    created_at: float
    next_at: float | None
    finished_at: float | None
    failures: int
    attempts: tuple[Attempt, ...]
    progress: bool = False
    """Whether the receiver is to have what the task says before its end, too."""
    body: bytes | None = field(default=None, repr=False)
    """What a notification says; a callback is made of its task."""


def add(conn: Connection, rows: Sequence[tuple[str, str, str, str, Callback]], now: float) -> None:
    """Store callbacks as WAITING: (id, task id, endpoint id, owner, callback) each."""
    new = {"status": DeliveryStatus.WAITING.value, "created_at": now, "failures": 0, "attempts": []}
    names = ("id", "task_id", "endpoint_id", "owner")
    values = [
        {
            **dict(zip(names, ids, strict=True)),
            "receiver": receiver_of(callback.url),
            "url": callback.url,
            "auth": callback.auth,
            "progress": callback.progress,
            **new,
        }
        for *ids, callback in rows
    ]
    conn.execute(insert(deliveries), values)


def notify(conn: Connection, owner: str, urls: Sequence[str], body: bytes, now: float) -> None:
    """Have a notification sent to each URL, unless as many wait for that receiver as are kept."""
    for url in urls:
        receiver, own_id = receiver_of(url), f"{_NOTIFICATION}{new_id(now)}"
        waiting = select(deliveries.c.seq).where(_PENDING, *_of(owner, receiver)).limit(MAX_WAITING)
        if len(conn.execute(waiting).fetchall()) >= MAX_WAITING:
            continue
        values: dict[str, Any] = {
            "id": own_id,
            "task_id": own_id,
            "endpoint_id": "",
            "owner": owner,
            "receiver": receiver,
        }
        values |= {"url": url, "status": DeliveryStatus.PENDING.value, "created_at": now, "next_at": now}
        values |= {"failures": 0, "attempts": [], "progress": False, "body": body}
        conn.execute(insert(deliveries).values(values))


def purge_notifications(conn: Connection, before: float, limit: int = _CHUNK) -> int:
    """Delete up to `limit` notifications that were done with before this time, and return how many."""
    ours = deliveries.c.task_id >= _NOTIFICATION, deliveries.c.task_id < _BEHIND_NOTIFICATIONS
    old = select(deliveries.c.seq).where(*ours, deliveries.c.finished_at <= before).limit(limit)
    return conn.execute(delete(deliveries).where(deliveries.c.seq.in_(old))).rowcount


def receiver_of(url: str) -> str:
    """Return the host of a URL."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def owners(conn: Connection) -> list[str]:
    """List those who have callbacks that are to be sent, now or later."""
    return list(_steps(conn, deliveries.c.owner))


def pending(conn: Connection, most: int) -> int:
    """Count the callbacks that are to be sent, now or later; no further than to `most`."""
    some = select(deliveries.c.owner).where(_PENDING).limit(most).subquery()
    return conn.scalar(select(func.count()).select_from(some)) or 0


def due(
    conn: Connection,
    owner: str,
    now: float,
    room: int,
    after: str = "",
    under_way: Mapping[str, Collection[str]] = _NONE,
) -> list[Delivery]:
    """List up to `room` of the owner's callbacks that are to be sent now, and are not under way.

    Receivers take turns, beginning with the one behind `after`; of each, the most overdue come first. A receiver has
    as many under way as it leaves room for: the first half of the places, the next half of what is left. `under_way`
    are ids by receiver.
    """
    found: list[Delivery] = []
    for receiver in islice(_receivers(conn, owner, after), MAX_RECEIVERS):
        ids = under_way.get(receiver, ())
        places = (room - len(found) - len(ids) + 1) // 2
        if places > 0:
            ready = (_PENDING, *_of(owner, receiver), deliveries.c.next_at <= now)
            query = select(deliveries).where(*ready, deliveries.c.id.not_in(list(ids)))
            rows = conn.execute(query.order_by(deliveries.c.next_at).limit(places))
            found += [_delivery(row) for row in rows]
    return found


def claim(conn: Connection, ids: Collection[str], now: float, until: float) -> set[str]:
    """Give those of these callbacks that are still due to the server that asks, until `until`; return their ids.

    Another server sees them as due then, if the one that has them has died.
    """
    free = select(deliveries.c.id).where(_PENDING, deliveries.c.id.in_(ids), deliveries.c.next_at <= now)
    claimed = set(conn.scalars(free.with_for_update(skip_locked=True)))
    conn.execute(update(deliveries).where(deliveries.c.id.in_(claimed)).values(next_at=until))
    return claimed


def _receivers(conn: Connection, owner: str, after: str) -> Iterator[str]:
    mine = deliveries.c.owner == owner
    yield from _steps(conn, deliveries.c.receiver, mine, after=after)
    if after:
        yield from _steps(conn, deliveries.c.receiver, mine, deliveries.c.receiver <= after)


def _of(owner: str, receiver: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return deliveries.c.owner == owner, deliveries.c.receiver == receiver


def _steps(
    conn: Connection, column: ColumnElement[str], *where: ColumnElement[bool], after: str | None = None
) -> Iterator[str]:
    """Yield the distinct values in pending rows: the index is stepped through, not read."""
    # Not min(column), for which PostgreSQL may read all rows.
    query = select(column).where(_PENDING, *where).order_by(column).limit(1)
    while (value := conn.scalar(query if after is None else query.where(column > after))) is not None:
        yield value
        after = value


def record(conn: Connection, delivery_id: str, attempt: Attempt) -> None:
    """Record an attempt: the callback is done, given up, or due again later."""
    delivery = _one(conn, deliveries.c.id == delivery_id)
    if delivery is None:
        return
    status, next_at = after_attempt(delivery, attempt)
    ended = status in (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED)
    conn.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery_id)
        .values(
            status=status.value,
            next_at=next_at,
            finished_at=attempt.at if ended else None,
            failures=0 if attempt.taken else delivery.failures + 1,
            attempts=[values_of(a) for a in (*delivery.attempts, attempt)[-KEPT_ATTEMPTS:]],
        )
    )


def after_attempt(delivery: Delivery, attempt: Attempt) -> tuple[DeliveryStatus, float | None]:
    """Return what a callback becomes by an attempt, and when it is tried again."""
    if attempt.taken:
        return DeliveryStatus.DELIVERED, None
    if attempt.status_code == GONE_STATUS or delivery.failures >= len(RETRY_SECONDS):
        return DeliveryStatus.FAILED, None
    return DeliveryStatus.PENDING, attempt.at + RETRY_SECONDS[delivery.failures]


def of_task(conn: Connection, owner: str, task_id: str) -> Delivery | None:
    """Find the callback of the owner's task."""
    return _one(conn, (deliveries.c.task_id == task_id) & (deliveries.c.owner == owner))


def send_again(conn: Connection, owner: str, task_id: str, now: float) -> Delivery | None:
    """Make the callback of a task that has ended due again; return None if the owner's task has none."""
    delivery = of_task(conn, owner, task_id)
    if delivery is None or delivery.status is DeliveryStatus.WAITING:
        return delivery
    conn.execute(
        update(deliveries)
        .where(deliveries.c.id == delivery.id)
        .values(status=DeliveryStatus.PENDING.value, next_at=now, finished_at=None, failures=0)
    )
    return of_task(conn, owner, task_id)


def purge(conn: Connection, task_ids: Sequence[str]) -> None:
    """Delete the callbacks of these tasks."""
    for start in range(0, len(task_ids), _CHUNK):
        conn.execute(delete(deliveries).where(deliveries.c.task_id.in_(task_ids[start : start + _CHUNK])))


def _one(conn: Connection, where: Any) -> Delivery | None:
    row = conn.execute(select(deliveries).where(where)).first()
    return None if row is None else _delivery(row)


def _delivery(row: Row[Any]) -> Delivery:
    values = {name: value for name, value in row._mapping.items() if name != "seq"}
    attempts = tuple(Attempt(**attempt) for attempt in values.pop("attempts"))
    return Delivery(**{**values, "status": DeliveryStatus(values["status"]), "attempts": attempts})

"""Events of endpoints: a bounded list for each, in which a repeated event is one entry with a count."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, insert, select

from openlaunch.store.rows import values_of
from openlaunch.store.tables import endpoint_events as events

MAX_EVENTS = 200
"""The number of events kept for each endpoint."""

MERGE_SECONDS = 600.0
MERGE_AMONG = 20
"""An event is counted with an equal one up to this old, if that is among the last of this number."""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event as it is stored. `seq` rises with every change, also of an old event's count."""

    endpoint_id: str
    kind: str
    detail: str
    first_at: float
    last_at: float
    count: int = 1
    seq: int | None = None


_FIELDS = [events.c[name] for name in EventRecord.__dataclass_fields__]


def add(conn: Connection, new: Sequence[EventRecord]) -> None:
    """Add events in their order, and delete the oldest above `MAX_EVENTS`."""
    for event in new:
        equal = _equal(conn, event)
        if equal is not None:
            event = replace(equal, count=equal.count + event.count, last_at=event.last_at)
        values = values_of(event)
        del values["seq"]
        conn.execute(insert(events).values(values))
        if equal is not None:  # after the insert, so that its number is not given again
            conn.execute(delete(events).where(events.c.seq == equal.seq))
    for endpoint_id in {event.endpoint_id for event in new}:
        _prune(conn, endpoint_id)


def _equal(conn: Connection, event: EventRecord) -> EventRecord | None:
    for old in reversed(list_after(conn, event.endpoint_id, limit=MERGE_AMONG)):
        recent = old.last_at > event.last_at - MERGE_SECONDS
        if recent and (old.kind, old.detail) == (event.kind, event.detail):
            return old
    return None


def _prune(conn: Connection, endpoint_id: str) -> None:
    mine = events.c.endpoint_id == endpoint_id
    newest_first = select(events.c.seq).where(mine).order_by(events.c.seq.desc())
    newest_surplus = conn.scalar(newest_first.offset(MAX_EVENTS).limit(1))
    if newest_surplus is not None:
        conn.execute(delete(events).where(mine, events.c.seq <= newest_surplus))


def list_after(
    conn: Connection, endpoint_id: str, after: int = 0, limit: int = MAX_EVENTS
) -> list[EventRecord]:
    """List the endpoint's last `limit` events that changed after that one, in the order of their last change."""
    query = select(*_FIELDS).where(events.c.endpoint_id == endpoint_id, events.c.seq > after)
    query = query.order_by(events.c.seq.desc()).limit(limit)
    return [EventRecord(*row) for row in reversed(conn.execute(query).fetchall())]


def delete_all(conn: Connection, endpoint_id: str) -> None:
    """Delete the events of an endpoint that is deleted."""
    conn.execute(delete(events).where(events.c.endpoint_id == endpoint_id))

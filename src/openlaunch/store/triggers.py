"""Cron triggers in the store."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_of
from sqlalchemy.exc import IntegrityError

from openlaunch.errors import Conflict
from openlaunch.store.records import TriggerRecord
from openlaunch.store.rows import fields_of, is_of, values_of
from openlaunch.store.tables import triggers
from openlaunch.wire.triggers import MAX_TRIGGERS

_FIELDS = fields_of(triggers)


def insert(conn: Connection, trigger: TriggerRecord) -> None:
    """Store a new trigger; raise Conflict if the owner has one of this name, or as many as are allowed."""
    values = values_of(trigger)
    mine = triggers.c.owner == trigger.owner
    if (conn.scalar(select(func.count()).where(mine)) or 0) >= MAX_TRIGGERS:
        raise Conflict(
            f"you have {MAX_TRIGGERS} triggers, which is the limit: delete one first",
            code="too_many_triggers",
        )
    try:
        conn.execute(insert_into(triggers).values(values))
    except IntegrityError as error:
        raise Conflict(
            f"a trigger named {trigger.name!r} exists: change it, or delete it first", code="trigger_exists"
        ) from error


def get(conn: Connection, owner: str, trigger_id: str) -> TriggerRecord | None:
    """Find the owner's trigger of this id."""
    found = _find(conn, triggers.c.owner == owner, triggers.c.id == trigger_id)
    return found[0] if found else None


def ids_of_owner(conn: Connection, owner: str) -> list[str]:
    """List the ids of the owner's triggers, newest first."""
    mine = select(triggers.c.id).where(is_of(triggers.c.owner, owner))
    return list(conn.scalars(mine.order_by(triggers.c.seq.desc())))


def get_many(conn: Connection, ids: Sequence[str]) -> list[TriggerRecord]:
    """List the triggers of these ids, newest first, without those that are gone."""
    return _find(conn, triggers.c.id.in_(ids))


def list_due(conn: Connection, now: float, limit: int) -> list[TriggerRecord]:
    """List up to `limit` triggers that are to fire: the most overdue of each owner, then the second of each."""
    turn = func.row_number().over(partition_by=triggers.c.owner, order_by=triggers.c.next_at)
    due = select(triggers.c.seq, turn.label("turn")).where(~triggers.c.suspended, triggers.c.next_at <= now)
    first = due.subquery()
    query = select(*_FIELDS).join(first, triggers.c.seq == first.c.seq).order_by(first.c.turn).limit(limit)
    return [TriggerRecord(**row) for row in conn.execute(query).mappings()]


def next_due(conn: Connection) -> float | None:
    """Return when the next trigger fires; None if none does."""
    due: float | None = conn.scalar(select(func.min(triggers.c.next_at)).where(~triggers.c.suspended))
    return due


def change(conn: Connection, trigger_id: str, **values: Any) -> None:
    """Change columns of a trigger."""
    conn.execute(update_of(triggers).where(triggers.c.id == trigger_id).values(values))


def delete(conn: Connection, owner: str, trigger_id: str) -> bool:
    """Delete the owner's trigger, and return whether there was one."""
    done = conn.execute(delete_from(triggers).where(triggers.c.owner == owner, triggers.c.id == trigger_id))
    return done.rowcount == 1


def _find(conn: Connection, *conditions: ColumnElement[bool]) -> list[TriggerRecord]:
    query = select(*_FIELDS).where(*conditions).order_by(triggers.c.seq.desc())
    return [TriggerRecord(**row) for row in conn.execute(query).mappings()]

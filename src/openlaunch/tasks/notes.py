"""What tasks have said before their end, the last of it: functions of a connection."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, insert, select

from openlaunch.store.queue_sql import queue_sql
from openlaunch.store.rows import values_of
from openlaunch.store.tables import task_notes


@dataclass(frozen=True, slots=True)
class LastNote:
    """The last progress and the last partial value of a task, as JSON, with their numbers, which grow."""

    task_id: str
    number: int
    progress: bytes | None = field(default=None, repr=False)
    partial_number: int | None = None
    partial: bytes | None = field(default=None, repr=False)


def put(conn: Connection, notes: Sequence[LastNote]) -> None:
    """Store notes, in place of those before."""
    purge(conn, [note.task_id for note in notes])
    conn.execute(insert(task_notes), [values_of(note) for note in notes])


def get(conn: Connection, task_id: str) -> LastNote | None:
    """Find the last note of a task."""
    row = conn.execute(select(task_notes).where(task_notes.c.task_id == task_id)).first()
    return None if row is None else LastNote(**row._mapping)


def purge(conn: Connection, task_ids: Sequence[str]) -> None:
    """Delete the notes of these tasks."""
    conn.execute(delete(task_notes).where(queue_sql(conn).among(task_notes.c.task_id, task_ids)))

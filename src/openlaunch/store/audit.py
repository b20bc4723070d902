"""The audit log in the store. Times are seconds since the epoch."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, select
from sqlalchemy import insert as insert_into

from openlaunch.store.records import AuditRecord
from openlaunch.store.rows import fields_of, values_of
from openlaunch.store.tables import audit_log

_FIELDS = fields_of(audit_log)


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are wanted: those that match every given field, from `since` until just before `until`."""

    owner: str | None = None
    key_id: str | None = None
    action: str | None = None
    object_id: str | None = None
    since: float | None = None
    until: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the filter as SQL."""
        names = ("owner", "key_id", "action", "object_id")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        conditions = [audit_log.c[name] == value for name, value in given.items()]
        if self.since is not None:
            conditions.append(audit_log.c.at >= self.since)
        if self.until is not None:
            conditions.append(audit_log.c.at < self.until)
        return conditions


def insert(conn: Connection, entry: AuditRecord, *, oldest: float, max_entries: int) -> None:
    """Store an entry, and delete those from before `oldest` and those above `max_entries`."""
    seq = conn.execute(insert_into(audit_log).values(values_of(entry))).inserted_primary_key
    assert seq is not None
    conn.execute(delete(audit_log).where(audit_log.c.seq <= seq[0] - max_entries))
    conn.execute(delete(audit_log).where(audit_log.c.at < oldest))


def list_page(
    conn: Connection, wanted: AuditFilter, limit: int, cursor: str | None = None
) -> tuple[list[AuditRecord], str | None]:
    """Return a page of the wanted entries, newest first, and the next page's cursor."""
    query = select(audit_log.c.seq, *_FIELDS).where(*wanted.conditions())
    if cursor is not None:
        query = query.where(audit_log.c.seq < int(cursor))
    rows = conn.execute(query.order_by(audit_log.c.seq.desc()).limit(limit + 1)).fetchall()
    page = [AuditRecord(*row[1:]) for row in rows[:limit]]
    return page, str(rows[limit - 1].seq) if len(rows) > limit else None

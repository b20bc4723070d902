"""The audit log in the store. Times are seconds since the epoch."""

from collections import Counter
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, delete, func, literal_column, or_, select
from sqlalchemy import insert as insert_into

from openlaunch.store.records import AuditRecord
from openlaunch.store.rows import fields_of, values_of
from openlaunch.store.tables import audit_log

_FIELDS = fields_of(audit_log)
CHANGED = audit_log.c.status < literal_column("400")
REFUSED = audit_log.c.status >= literal_column("400")
"""As in the conditions of the indexes, which are used only for the same text."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries are wanted: those that match every given field, from `since` until just before `until`.

    Of an `owner` is what was done with the owner's keys, and what admins did to the owner's things.
    """

    owner: str | None = None
    key_id: str | None = None
    action: str | None = None
    object_id: str | None = None
    since: float | None = None
    until: float | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the filter as SQL."""
        names = ("key_id", "action", "object_id")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        conditions = [audit_log.c[name] == value for name, value in given.items()]
        if self.owner is not None:
            conditions.append(or_(audit_log.c.owner == self.owner, audit_log.c.object_owner == self.owner))
        if self.since is not None:
            conditions.append(audit_log.c.at >= self.since)
        if self.until is not None:
            conditions.append(audit_log.c.at < self.until)
        return conditions


def insert(conn: Connection, entry: AuditRecord, *, oldest: float, max_entries: int | None = None) -> int:
    """Store a change, and delete entries from before `oldest`.

    With `max_entries`, make room if there are more changes than that, and return how many further ones fit.
    """
    conn.execute(insert_into(audit_log).values(values_of(entry)))
    conn.execute(delete(audit_log).where(audit_log.c.at < oldest))
    return 0 if max_entries is None else _trim(conn, max_entries)


def insert_refusal(conn: Connection, entry: AuditRecord, *, since: float, max_of_key: int) -> None:
    """Store a refusal, together with the same one since then, and delete the oldest of its key over the limit."""
    of_key = (audit_log.c.key_id == entry.key_id, REFUSED)
    same = [audit_log.c[name] == getattr(entry, name) for name in ("action", "status", "address")]
    same.append(audit_log.c.object_id.is_not_distinct_from(entry.object_id))
    newest = select(func.max(audit_log.c.seq)).where(*of_key, *same, audit_log.c.at >= since)
    before = delete(audit_log).where(audit_log.c.seq == newest.scalar_subquery())
    times = conn.execute(before.returning(audit_log.c.times)).scalar()
    conn.execute(insert_into(audit_log).values(values_of(replace(entry, times=(times or 0) + 1))))
    over = select(audit_log.c.seq).where(*of_key).order_by(audit_log.c.seq.desc()).offset(max_of_key)
    conn.execute(delete(audit_log).where(audit_log.c.seq.in_(over)))


def _trim(conn: Connection, max_entries: int) -> int:
    """Delete the oldest changes of the owners with the most, a few more than needed; return how many further fit."""
    counted = select(audit_log.c.owner, func.count()).where(CHANGED).group_by(audit_log.c.owner)
    counts: Counter[str | None] = Counter()
    for owner, number in conn.execute(counted):
        counts[owner] = number
    if counts.total() <= max_entries:
        return max_entries - counts.total()
    over = counts.total() - max_entries + max_entries // 100
    while over > 0:
        (owner, most), *others = counts.most_common(2)
        ahead = most - (others[0][1] if others else 0)
        number = min(over, max(1, ahead, over // len(counts)))
        # What has no owner, as an upload with a signed URL, is not worth more than what is older.
        theirs = select(audit_log.c.seq).where(
            CHANGED, or_(audit_log.c.owner == owner, audit_log.c.owner.is_(None))
        )
        oldest = theirs.order_by(audit_log.c.seq).limit(number)
        gone = delete(audit_log).where(audit_log.c.seq.in_(oldest)).returning(audit_log.c.owner)
        counts.subtract(row.owner for row in conn.execute(gone).fetchall())
        over -= number
    return max_entries // 100


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

"""Uploaded files in the store."""

from collections.abc import Collection

from sqlalchemy import Connection, select
from sqlalchemy import delete as delete_from
from sqlalchemy import insert as insert_into

from openlaunch.store.records import FileRecord
from openlaunch.store.rows import fields_of, is_of, values_of
from openlaunch.store.tables import files

_FIELDS = fields_of(files)


def insert(conn: Connection, file: FileRecord) -> None:
    """Store a new file."""
    conn.execute(insert_into(files).values(values_of(file)))


def get(conn: Connection, file_id: str, owner: str) -> FileRecord | None:
    """Find the owner's file of this id."""
    row = conn.execute(select(*_FIELDS).where(files.c.id == file_id, files.c.owner == owner)).first()
    return None if row is None else FileRecord(**row._mapping)


def get_many(conn: Connection, ids: Collection[str], owner: str) -> list[FileRecord]:
    """Find those of the owner's files that have one of these ids, in their order."""
    query = select(*_FIELDS).where(files.c.id.in_(ids), is_of(files.c.owner, owner))
    known = {row.id: FileRecord(**row._mapping) for row in conn.execute(query)}
    return [known[each] for each in ids if each in known]


def ids_of_owner(
    conn: Connection,
    owner: str,
    purpose: str | None = None,
    after: str | None = None,
    limit: int | None = None,
    newest_first: bool = True,
) -> list[str]:
    """List the ids of the owner's files: of a purpose or all, behind one of them or all."""
    mine, seq = is_of(files.c.owner, owner), files.c.seq
    query = select(files.c.id).where(mine).order_by(seq.desc() if newest_first else seq).limit(limit)
    if purpose is not None:
        query = query.where(files.c.purpose == purpose)
    if after is not None:
        last = select(seq).where(mine, files.c.id == after).scalar_subquery()
        query = query.where(seq < last if newest_first else seq > last)
    return list(conn.scalars(query))


def delete(conn: Connection, file_id: str, owner: str) -> bool:
    """Delete the owner's file, and return whether there was one."""
    done = conn.execute(delete_from(files).where(files.c.id == file_id, files.c.owner == owner))
    return done.rowcount == 1

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
    """Find those of the owner's files that have one of these ids."""
    query = select(*_FIELDS).where(files.c.id.in_(ids), files.c.owner == owner)
    return [FileRecord(**row._mapping) for row in conn.execute(query)]


def list_by_owner(conn: Connection, owner: str) -> list[FileRecord]:
    """List the owner's files, newest first."""
    query = select(*_FIELDS).where(is_of(files.c.owner, owner)).order_by(files.c.seq.desc())
    return [FileRecord(**row._mapping) for row in conn.execute(query)]


def delete(conn: Connection, file_id: str, owner: str) -> bool:
    """Delete the owner's file, and return whether there was one."""
    done = conn.execute(delete_from(files).where(files.c.id == file_id, files.c.owner == owner))
    return done.rowcount == 1

"""Secrets of owners in the store, which sees them encrypted only."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, delete, select, update
from sqlalchemy import insert as insert_into

from openlaunch.store.records import SecretRecord
from openlaunch.store.rows import values_of
from openlaunch.store.tables import secrets


def put(conn: Connection, secret: SecretRecord) -> None:
    """Store a secret, in place of the owner's of that name."""
    values = values_of(secret)
    if conn.execute(update(secrets).where(*_is(secret.owner, secret.name)).values(values)).rowcount == 0:
        conn.execute(insert_into(secrets).values(values))


def of_owner(conn: Connection, owner: str, names: Iterable[str] | None = None) -> list[SecretRecord]:
    """List the owner's secrets, or those of these names, by name."""
    query = select(secrets).where(secrets.c.owner == owner).order_by(secrets.c.name)
    if names is not None:
        query = query.where(secrets.c.name.in_(list(names)))
    return [SecretRecord(**row) for row in conn.execute(query).mappings()]


def list_all(conn: Connection) -> list[SecretRecord]:
    """List everybody's, by owner and name."""
    query = select(secrets).order_by(secrets.c.owner, secrets.c.name)
    return [SecretRecord(**row) for row in conn.execute(query).mappings()]


def remove(conn: Connection, owner: str, name: str) -> bool:
    """Delete a secret; return False if there is none."""
    return conn.execute(delete(secrets).where(*_is(owner, name))).rowcount == 1


def _is(owner: str, name: str) -> tuple[Any, Any]:
    return secrets.c.owner == owner, secrets.c.name == name

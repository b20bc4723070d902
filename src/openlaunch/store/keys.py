"""API keys in the store."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, text, update
from sqlalchemy import insert as insert_into
from sqlalchemy.exc import IntegrityError

from openlaunch.errors import Conflict
from openlaunch.store.records import KeyRecord
from openlaunch.store.rows import values_of
from openlaunch.store.tables import api_keys, key_usage
from openlaunch.wire.keys import Role

_ADD_USAGE = text("""
INSERT INTO key_usage (key_id, day, requests) VALUES (:key_id, :day, :requests)
ON CONFLICT (key_id) DO UPDATE SET
  day = CASE WHEN key_usage.day > excluded.day THEN key_usage.day ELSE excluded.day END,
  requests = CASE WHEN key_usage.day = excluded.day THEN key_usage.requests + excluded.requests
                  WHEN key_usage.day > excluded.day THEN key_usage.requests ELSE excluded.requests END
RETURNING day, requests""")


def insert(conn: Connection, key: KeyRecord) -> None:
    """Store a new key; raise Conflict if it exists, be it revoked."""
    try:
        conn.execute(insert_into(api_keys).values(values_of(key) | {"role": key.role.value}))
    except IntegrityError as error:
        raise Conflict("the key exists") from error


def list_all(conn: Connection) -> list[KeyRecord]:
    """List every key, oldest first, also the revoked ones."""
    rows = conn.execute(select(api_keys).order_by(api_keys.c.created_at)).mappings()
    return [KeyRecord(**{**row, "role": Role(row["role"])}) for row in rows]


def active(conn: Connection) -> list[KeyRecord]:
    """List the keys that are not revoked."""
    return [key for key in list_all(conn) if key.revoked_at is None]


def owners(conn: Connection) -> set[str]:
    """Return everybody who has, or had, a key."""
    return set(conn.scalars(select(api_keys.c.owner).distinct()))


def change(conn: Connection, key_id: str, **values: Any) -> KeyRecord | None:
    """Change columns of a key that is not revoked, and return it; None if there is none."""
    mine = (api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    if values:
        conn.execute(update(api_keys).where(*mine).values(values))
    row = conn.execute(select(api_keys).where(*mine)).mappings().first()
    return None if row is None else KeyRecord(**{**row, "role": Role(row["role"])})


def revoke(conn: Connection, key_id: str, now: float) -> bool:
    """Revoke a key; return False if it is unknown or already revoked."""
    mine = (api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    return conn.execute(update(api_keys).where(*mine).values(revoked_at=now)).rowcount == 1


def usage(conn: Connection) -> dict[str, tuple[int, int]]:
    """Return, by key, the last day on which it made requests, and their number."""
    return {row.key_id: (row.day, row.requests) for row in conn.execute(select(key_usage))}


def add_usage(conn: Connection, made: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Add requests of keys on a day to what is stored, and return what `usage` returns of these keys then."""
    stored = {}
    for key_id, (day, count) in sorted(made.items()):  # in one order, whichever server does this
        row = conn.execute(_ADD_USAGE, {"key_id": key_id, "day": day, "requests": count}).one()
        stored[key_id] = row.day, row.requests
    return stored

"""Tokens of models that keys have used, by the day, in the store."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select, text

from openlaunch.store.tables import token_usage

KEPT_DAYS = 92

_ADD = text("""
INSERT INTO token_usage (key_id, owner, day, tokens) VALUES (:key_id, :owner, :day, :tokens)
ON CONFLICT (key_id, owner, day) DO UPDATE SET tokens = token_usage.tokens + excluded.tokens""")


def of_day(conn: Connection, day: int) -> list[tuple[str, str, int]]:
    """Return, by key and owner, the tokens of a day."""
    query = select(token_usage.c.key_id, token_usage.c.owner, token_usage.c.tokens)
    return [tuple(row) for row in conn.execute(query.where(token_usage.c.day == day))]


def add(conn: Connection, day: int, used: Sequence[tuple[str, str, int, int]]) -> list[tuple[str, str, int]]:
    """Add what keys have used, by key, owner and day: tokens. Return what `of_day` returns then of this day.

    What is old is deleted.
    """
    for key_id, owner, used_on, tokens in sorted(used):  # in one order, whichever server does this
        conn.execute(_ADD, {"key_id": key_id, "owner": owner, "day": used_on, "tokens": tokens})
    conn.execute(delete(token_usage).where(token_usage.c.day < day - KEPT_DAYS))
    return of_day(conn, day)

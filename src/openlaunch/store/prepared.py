"""Prepared statements, run by the driver itself: what every task passes through is worth the few microseconds.

The texts are plain SQL that SQLite and PostgreSQL share. What they raise is the driver's own error.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

Row = tuple[Any, ...]


def run(conn: Connection, statement: str, values: Row) -> int:
    """Run a statement, and return how many rows it has changed."""
    cursor = conn.connection.cursor()
    cursor.execute(statement, values)
    return cursor.rowcount


def run_many(conn: Connection, statement: str, rows: Sequence[Row]) -> int:
    """Run a statement once for each row of values, and return how many rows all have changed."""
    cursor = conn.connection.cursor()
    cursor.executemany(statement, rows)
    return cursor.rowcount


def fetch(conn: Connection, statement: str, values: Row) -> list[Row]:
    """Run a statement, and return all its rows."""
    cursor = conn.connection.cursor()
    cursor.execute(statement, values)
    return list(cursor.fetchall())

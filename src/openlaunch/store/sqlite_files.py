"""SQLite's database file from outside of a server: a copy of it, and whether one is whole."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

INCREMENTAL = 2
"""The kind of `auto_vacuum` with which a file shrinks in slices; it changes only when a database is written anew."""

_LOCK_SECONDS = 30.0


def copy_database(database: Path, target: Path) -> None:
    """Copy a database as it is at one moment, readable by this user alone; `target` must not be there.

    Writers continue meanwhile, because a reader does not block a write-ahead log.

    Raises:
        OSError: a file can't be read or written.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with (
            closing(
                sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=_LOCK_SECONDS)
            ) as source,
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy)  # in one step: in several, each write of the server would begin it anew
            copy.execute("PRAGMA journal_mode=DELETE").close()
            let_shrink(copy)
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


def let_shrink(connection: sqlite3.Connection) -> None:
    """Write a database anew that was made before it could shrink."""
    if connection.execute("PRAGMA auto_vacuum").fetchone() != (INCREMENTAL,):
        connection.execute(f"PRAGMA auto_vacuum={INCREMENTAL}").close()
        connection.execute("VACUUM").close()


def damage(path: Path) -> str | None:
    """Read all of a database, and say what is wrong with it."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.Error as error:
        return str(error)
    return None if found == "ok" else found

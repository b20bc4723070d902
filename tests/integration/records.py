"""Where servers of tests keep their records: with `OPENLAUNCH_TEST_STORE=postgres`, each in a database of its own."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from openlaunch.store.base import Store
from openlaunch.store.sqlite import SqliteStore

ON_POSTGRES = os.environ.get("OPENLAUNCH_TEST_STORE") == "postgres"


@contextmanager
def records_of(data_dir: Path | str | None) -> Iterator[dict[str, str]]:
    """Give the settings of a server on this data directory, None for one that is deleted at the end."""
    if data_dir is not None or not ON_POSTGRES:
        yield settings_of(Path(data_dir or ""))
        return
    from store_drivers import POSTGRES

    once = Path(tempfile.mkdtemp())
    try:
        yield settings_of(once)
    finally:
        POSTGRES.drop(once)
        once.rmdir()


def settings_of(data_dir: Path) -> dict[str, str]:
    """Return the settings of a server on this data directory, which has the same records in all of its lives."""
    if not ON_POSTGRES:
        return {}
    from store_drivers import POSTGRES

    return {"store": POSTGRES.url_of(data_dir.absolute())}


async def open_store(folder: Path) -> Store:
    """Open a store in the folder, or on the database of the folder."""
    if not ON_POSTGRES:
        return await SqliteStore.open(folder / "store.db")
    from openlaunch.store.postgres import PostgresStore

    return await PostgresStore.open(settings_of(folder)["store"])


def execute(data_dir: Path, statement: str) -> list[tuple[Any, ...]]:
    """Change or read the records of a data directory beside its server."""
    if not ON_POSTGRES:
        with closing(sqlite3.connect(data_dir / "openlaunch.db")) as database, database:
            return database.execute(statement).fetchall()
    import psycopg
    from store_drivers import POSTGRES

    with psycopg.connect(POSTGRES.url_of(data_dir.absolute())) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

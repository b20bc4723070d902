"""Where servers of tests keep their records: with `OPENLAUNCH_TEST_STORE=postgres`, each in a database of its own."""

import itertools
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

ON_POSTGRES = os.environ.get("OPENLAUNCH_TEST_STORE") == "postgres"

_NUMBERS = itertools.count()
_NAMES: dict[Path, str] = {}


@contextmanager
def records_of(data_dir: Path | str | None) -> Iterator[dict[str, str]]:
    """Give the settings of a server on this data directory, None for one that is deleted at the end."""
    if data_dir is not None or not ON_POSTGRES:
        yield settings_of(Path(data_dir or ""))
        return
    from postgres_server import shared_server

    name = _made()
    yield {"store": shared_server().url(name)}
    shared_server().execute(f"DROP DATABASE {name} WITH (FORCE)")


def settings_of(data_dir: Path) -> dict[str, str]:
    """Return the settings of a server on this data directory, which has the same records in all of its lives."""
    if not ON_POSTGRES:
        return {}
    from postgres_server import shared_server

    known = data_dir.absolute()
    if known not in _NAMES:
        _NAMES[known] = _made()
    return {"store": shared_server().url(_NAMES[known])}


def _made() -> str:
    from postgres_server import shared_server

    name = f"records_{next(_NUMBERS)}"
    shared_server().execute(f"CREATE DATABASE {name}")
    return name


def execute(data_dir: Path, statement: str) -> list[tuple[Any, ...]]:
    """Change or read the records of a data directory beside its server."""
    if not ON_POSTGRES:
        with closing(sqlite3.connect(data_dir / "openlaunch.db")) as database, database:
            return database.execute(statement).fetchall()
    import psycopg
    from postgres_server import shared_server

    with psycopg.connect(shared_server().url(_NAMES[data_dir.absolute()])) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []

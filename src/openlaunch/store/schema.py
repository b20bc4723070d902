"""Upgrades of a database to the tables of this version of the server."""

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, Index, MetaData, String, Table, inspect, select
from sqlalchemy.schema import CreateIndex, CreateTable

from openlaunch.errors import ConfigurationError
from openlaunch.store.queue_sql import queue_sql
from openlaunch.store.tables import metadata, tasks

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parent / "migrations"
_VERSION = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True, nullable=False)
)
_OURS = {"api_keys", "bundles", "endpoints"}
"""Tables that the database of every version has."""


def upgrade(conn: Connection) -> None:
    """Make the tables of an empty database, or run the migrations that it has not had yet.

    All happens in the transaction that `conn` is in.

    Raises:
        ConfigurationError: a newer version of the server has changed the database, or another program uses it.
    """
    known = [path.name[1:5] for path in sorted((_MIGRATIONS / "versions").glob("v*.py"))]
    names = set(inspect(conn).get_table_names())
    current = conn.scalar(select(_VERSION)) if _VERSION.name in names else None
    if names and not (current and names >= _OURS):
        raise ConfigurationError(
            f"the database has tables of another program ({', '.join(sorted(names)[:3])}): name one that is empty"
        )
    if current == known[-1]:
        return
    if current is None:
        _make_tables(conn)
        _VERSION.create(conn)
        conn.execute(_VERSION.insert().values(version_num=known[-1]))
        return
    if current not in known:
        raise ConfigurationError(
            f"the database has schema {current!r}, this server knows up to {known[-1]!r}: it was used by a newer "
            "version; upgrade this installation, or name another database or data directory"
        )
    migrate(conn, "head")


def migrate(conn: Connection, version: str) -> None:
    """Run the migrations up to a version."""
    from alembic import command  # it takes time and memory, and most starts do not need it

    command.upgrade(_config(conn), version)


def _make_tables(conn: Connection) -> None:
    # Not `create_all`: it makes a table's indexes in an order that differs from process to process, and SQLite
    # takes one of two that look equally good by that order.
    of_tasks = queue_sql(conn).tables
    for statement in of_tasks:
        conn.exec_driver_sql(statement)
    for table in metadata.sorted_tables:
        if of_tasks and table is tasks:
            continue
        conn.execute(CreateTable(table))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            _make_partial(conn, index)
            conn.execute(CreateIndex(index))


def _make_partial(conn: Connection, index: Index) -> None:
    """Have an index that is of some rows on SQLite be of the same rows on the connection's database."""
    # Not in `tables.py`: to look at a `postgresql_where` there, each server would import PostgreSQL's dialect.
    index.dialect_options[conn.dialect.name]["where"] = index.dialect_options["sqlite"]["where"]


def _config(conn: Connection) -> "Config":
    from alembic.config import Config

    config = Config(attributes={"connection": conn})
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config

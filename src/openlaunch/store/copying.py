"""Copies all records of one database into another, which may be of another kind."""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, insert, select, tuple_

from openlaunch.errors import ConfigurationError
from openlaunch.store.base import Store
from openlaunch.store.queue_sql import queue_sql
from openlaunch.store.tables import metadata, tasks

PAGE = 500
_UNKEPT = {"started_at"}
"""Columns that not every database keeps."""
_MODULUS = 1 << 256


@dataclass(frozen=True, slots=True)
class Content:
    """What a table holds: the number of its rows, and a sum of their SHA-256 that does not depend on their order."""

    rows: int
    digest: int


async def copy_records(source: Store, target: Store) -> dict[str, int]:
    """Copy every table, and return how many rows each has. Nothing changes the source meanwhile.

    All goes into one transaction, in which it is read again and compared: the target has everything afterwards, or
    nothing. A target that has the same already is left as it is, so that this can be run again.

    Raises:
        ConfigurationError: the target has other records, or keeps these not as they are.
    """
    wanted, found = await source.read(_contents), await target.read(_contents)
    if found != wanted:
        if any(content.rows for content in found.values()):
            used = ", ".join(name for name, content in found.items() if content.rows)
            raise ConfigurationError(
                f"the target has records already ({used}): name a database that is empty"
            )
        loop = asyncio.get_running_loop()

        def copy_from(reader: Connection) -> None:
            writing = target.write(lambda writer: _copy(reader, writer, wanted))
            asyncio.run_coroutine_threadsafe(writing, loop).result()

        await source.read(copy_from)
    return {name: content.rows for name, content in wanted.items()}


async def count_records(store: Store) -> dict[str, int]:
    """Return how many rows each table has."""
    return {name: content.rows for name, content in (await store.read(_contents)).items()}


def _copy(reader: Connection, writer: Connection, wanted: Mapping[str, Content]) -> None:
    sql = queue_sql(writer)
    for table in metadata.sorted_tables:
        for page in _pages(reader, table):
            if table is tasks:
                sql.restore(writer, page)
            else:
                writer.execute(insert(table), page)
    sql.number_on(writer, [table.name for table in metadata.sorted_tables if "seq" in table.c])
    found = _contents(writer)
    if wrong := sorted(name for name in wanted if found[name] != wanted[name]):
        raise ConfigurationError(f"the target does not keep these as they are, and was left empty: {wrong}")


def _contents(conn: Connection) -> dict[str, Content]:
    return {table.name: _content(conn, table) for table in metadata.sorted_tables}


def _content(conn: Connection, table: Table) -> Content:
    rows = total = 0
    for page in _pages(conn, table):
        rows += len(page)
        total += sum(_digest(row) for row in page)
    return Content(rows, total % _MODULUS)


def _pages(conn: Connection, table: Table) -> Iterator[Sequence[dict[str, Any]]]:
    """Yield all rows by their primary key, so that no statement is under way for long."""
    key = tuple_(*table.primary_key.columns)
    names = [column.name for column in table.primary_key.columns]
    query = select(*table.c).order_by(*table.primary_key.columns).limit(PAGE)
    page = [dict(row) for row in conn.execute(query).mappings()]
    while page:
        yield page
        last = tuple_(*(page[-1][name] for name in names))
        page = [dict(row) for row in conn.execute(query.where(key > last)).mappings()]


def _digest(row: Mapping[str, Any]) -> int:
    kept = {name: _plain(value) for name, value in row.items() if name not in _UNKEPT}
    return int.from_bytes(hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).digest(), "big")


def _plain(value: Any) -> Any:
    """Return a value as every database gives it back: PostgreSQL's texts have no NUL."""
    if isinstance(value, bytes | memoryview):
        return hashlib.sha256(value).hexdigest()
    return value.replace("\0", "\N{REPLACEMENT CHARACTER}") if isinstance(value, str) else value

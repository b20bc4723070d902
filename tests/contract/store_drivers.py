"""The stores that the contract suites run over: a driver is one more entry in `OPENERS`."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import psycopg
from postgres_server import shared_server
from sqlalchemy import Connection

from openlaunch.store.base import Store
from openlaunch.store.postgres import PostgresStore
from openlaunch.store.sqlite import SqliteStore
from openlaunch.store.tables import metadata, tasks

T = TypeVar("T")
Opener = Callable[..., AbstractAsyncContextManager[Store]]


@asynccontextmanager
async def open_sqlite(folder: Path, max_pending: int = 10_000) -> AsyncIterator[Store]:
    """A store on a file in the folder, which is made when it is not there."""
    store = await SqliteStore.open(folder / "store.db", max_pending=max_pending)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def open_postgres(folder: Path, max_pending: int = 10_000) -> AsyncIterator[Store]:
    """A store on the database of the folder, which is empty at first."""
    store = await PostgresStore.open(POSTGRES.url_of(folder), max_pending=max_pending)
    try:
        yield store
    finally:
        await store.close()


class PostgresDatabases:
    """Databases of the shared server: one for each folder that a test names, emptied for the next test."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._free: list[str] = []
        self._taken: dict[Path, str] = {}

    def url_of(self, folder: Path) -> str:
        if folder not in self._taken:
            self._taken[folder] = self._free.pop() if self._free else self._made()
        return shared_server().url(self._taken[folder])

    def _made(self) -> str:
        name = f"test_{next(self._numbers)}"
        shared_server().execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name

    @cached_property
    def _template(self) -> str:
        name = "template_of_tests"
        shared_server().execute(f"CREATE DATABASE {name}")

        async def make_tables() -> None:
            await (await PostgresStore.open(shared_server().url(name))).close()

        with ThreadPoolExecutor(1) as thread:  # the caller's may be in an event loop
            thread.submit(asyncio.run, make_tables()).result()
        self._new = _shape(name)
        return name

    def drop(self, folder: Path) -> None:
        """Delete the folder's database, whoever still uses it."""
        shared_server().execute(f"DROP DATABASE {self._taken.pop(folder)} WITH (FORCE)")

    def give_back(self) -> None:
        """Empty what the last test has used: some milliseconds, where a new database takes a tenth of a second."""
        for name in self._taken.values():
            if _shape(name) == self._new:
                shared_server().execute(_empty(), database=name)
                self._free.append(name)
            else:
                shared_server().execute(f"DROP DATABASE {name} WITH (FORCE)")
        self._taken.clear()


def _empty() -> str:
    names = [table.name for table in reversed(metadata.sorted_tables) if table is not tasks]
    return ";".join(f"DELETE FROM {name}" for name in (*names, "task_results", "task_inputs", "queue"))


def _shape(database: str) -> object:
    tables = "SELECT array_agg(tablename ORDER BY tablename) FROM pg_tables WHERE schemaname = 'public'"
    with psycopg.connect(shared_server().url(database)) as connection:
        return connection.execute(f"SELECT ({tables}), version_num FROM alembic_version").fetchall()


POSTGRES = PostgresDatabases()
OPENERS: dict[str, Opener] = {"sqlite": open_sqlite, "postgres": open_postgres}


class Database:
    """A store for tests that await nothing."""

    def __init__(self, store: Store, runner: asyncio.Runner) -> None:
        self._store = store
        self._runner = runner

    def write(self, op: Callable[[Connection], T]) -> T:
        """Run the operation in a transaction of its own."""
        return self._runner.run(self._store.write(op))

    def write_at_once(self, ops: list[Callable[[Connection], T]]) -> list[T]:
        """Run the operations as they would be if many asked at the same time."""

        async def all_of_them() -> list[T]:
            return await asyncio.gather(*(self._store.write(op) for op in ops))

        return self._runner.run(all_of_them())

    def read(self, op: Callable[[Connection], T]) -> T:
        """Run the operation on a reader's connection."""
        return self._runner.run(self._store.read(op))


@contextmanager
def database(opener: Opener, folder: Path) -> Iterator[Database]:
    """The store, for tests that await nothing."""
    with asyncio.Runner() as runner:
        opening = opener(folder)
        store = runner.run(opening.__aenter__())
        try:
            yield Database(store, runner)
        finally:
            runner.run(opening.__aexit__(None, None, None))

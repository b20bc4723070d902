"""The stores that the contract suites run over: a driver is one more entry in `OPENERS`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from openlaunch.store.base import Store
from openlaunch.store.sqlite import SqliteStore

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


OPENERS: dict[str, Opener] = {"sqlite": open_sqlite}


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

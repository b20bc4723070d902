"""The SQLite driver: one writer thread that commits in groups, and a few readers."""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import QueuePool, StaticPool

from openlaunch.errors import ConfigurationError, Unavailable
from openlaunch.store.schema import upgrade

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_GROUP = 512
"""The most operations that one transaction takes."""
READERS = 4
BUSY_TIMEOUT_MS = 5000


class _Write:
    """An operation on its way to disk, and the future of its result."""

    __slots__ = ("error", "future", "op", "result")

    def __init__(self, op: Callable[[Connection], Any], future: "asyncio.Future[Any]") -> None:
        self.op = op
        self.future = future
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self, connection: Connection) -> None:
        self.error = None
        self.result = self.op(connection)

    def resolve(self) -> None:
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class SqliteStore:
    """`store.base.Store` on one SQLite file: WAL, synchronous=FULL. Used from one event loop."""

    def __init__(self, engine: Engine, readers: Engine, max_pending: int) -> None:
        self._writer_engine = engine
        self._reader_engine = readers
        self._max_pending = max_pending
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")
        self._pending = 0
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self.commits = 0
        """Transactions committed so far."""
        self._thread = threading.Thread(target=self._write_loop, name="store-write", daemon=True)
        self._thread.start()

    @classmethod
    async def open(cls, path: Path, *, max_pending: int = 10_000) -> "SqliteStore":
        """Open the database, made and brought up to date where needed; mode 0600.

        Raises:
            ConfigurationError: the file can't be opened, or a newer version of Openlaunch made it.
        """
        engine, readers = await asyncio.to_thread(_open_engines, path)
        return cls(engine, readers, max_pending)

    async def write(self, op: Callable[[Connection], T]) -> T:
        if self._closed:
            raise Unavailable("the server is stopping", code="stopping")
        if self._pending >= self._max_pending:
            raise Unavailable(
                f"{self._pending} writes wait for the disk already, which is the limit",
                code="store_overloaded",
                retry_after=1,
            )
        future: asyncio.Future[T] = self._loop.create_future()
        self._pending += 1
        self._queue.put(_Write(op, future))
        return await future

    async def read(self, op: Callable[[Connection], T]) -> T:
        return await self._loop.run_in_executor(self._readers, self._read, op)

    def _read(self, op: Callable[[Connection], T]) -> T:
        try:
            with self._reader_engine.connect() as connection:
                return op(connection)
        except DBAPIError as error:
            raise _unavailable(error) from error

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        self._readers.shutdown()
        self._reader_engine.dispose()
        self._writer_engine.dispose()

    # The writer thread.

    def _write_loop(self) -> None:
        while True:
            group, last = self._next_group()
            if group:
                self._commit(group)
                self._loop.call_soon_threadsafe(self._resolve, group)
            if last:
                return

    def _next_group(self) -> tuple[list[_Write], bool]:
        """Wait for one operation, and take with it whatever else has arrived."""
        group: list[_Write] = []
        item = self._queue.get()
        while item is not None:
            group.append(item)
            if len(group) == MAX_GROUP:
                return group, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _commit(self, group: Sequence[_Write]) -> None:
        """Commit all together; when one fails, each by itself, so that it undoes only its own changes."""
        try:
            self._transaction(group)
        except Exception as error:
            if len(group) == 1:
                group[0].error = _unavailable(error) if isinstance(error, DBAPIError) else error
                return
            for write in group:
                self._commit([write])

    def _transaction(self, group: Sequence[_Write]) -> None:
        with self._writer_engine.begin() as connection:
            for write in group:
                write.run(connection)
        self.commits += 1

    def _resolve(self, group: Sequence[_Write]) -> None:
        self._pending -= len(group)
        for write in group:
            write.resolve()


def _open_engines(path: Path) -> tuple[Engine, Engine]:
    try:
        path.touch(mode=0o600)
        # The one connection of the writer is made here and used in the writer's thread only.
        engine = create_engine(
            f"sqlite:///{path}", poolclass=StaticPool, connect_args={"check_same_thread": False, "timeout": 5}
        )
        event.listen(engine, "connect", _set_pragmas)
        event.listen(engine, "begin", lambda conn: conn.exec_driver_sql("BEGIN IMMEDIATE"))
        with engine.begin() as connection:
            upgrade(connection)
        readers = create_engine(
            f"sqlite:///{path}",
            poolclass=QueuePool,
            pool_size=READERS,
            connect_args={"check_same_thread": False, "timeout": 5},
        )
        event.listen(readers, "connect", _set_pragmas)
    except (OSError, DBAPIError) as error:
        reason = error.orig if isinstance(error, DBAPIError) else error.strerror
        raise ConfigurationError(f"the database {path} can't be opened: {reason}") from error
    return engine, readers


def _set_pragmas(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions are begun by us: the driver would begin them too late
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "cache_size=-16384",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _unavailable(error: DBAPIError) -> Exception:
    if isinstance(error, IntegrityError) or not isinstance(error, OperationalError | DBAPIError):
        return error
    log.error("the database failed: %s", error.orig)
    return Unavailable(
        f"the database can't be used: {error.orig}; look at the disk of the server's data directory",
        code="store_unavailable",
        retry_after=5,
    )

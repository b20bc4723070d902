"""The SQLite driver: one writer thread that commits in groups, and a few readers."""

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from openlaunch.errors import ConfigurationError, Unavailable
from openlaunch.store.base import Space
from openlaunch.store.group_commit import Group, Operation, Outcome
from openlaunch.store.queue_sql import options
from openlaunch.store.schema import upgrade
from openlaunch.store.sqlite_files import INCREMENTAL, let_shrink
from openlaunch.store.sqlite_queue import SqliteQueueSql
from openlaunch.store.threads import READERS, ThreadedStore

T = TypeVar("T")
log = logging.getLogger(__name__)

DAMAGED = "store_damaged"
"""The code of the error that says that the file itself is damaged."""

CHECKED_BYTES = 32 * 1024 * 1024
"""A database up to this size is read whole before a server starts on it: some tenths of a second at most."""

MIN_FREE_PAGES = 1024
"""Free pages that the file keeps, of 4 KiB each."""

SLICE_PAGES = 256
"""Pages by which the file shrinks in one transaction: they are moved, in a few milliseconds."""

MAX_IDLE_WAL_BYTES = 64 * 1024 * 1024
"""Size to which a larger write-ahead log is cut once all of it is in the database."""

_MAGIC = b"SQLite format 3\x00"


class SqliteStore(ThreadedStore):
    """`store.base.Store` on one SQLite file: WAL, synchronous=FULL. Used from one event loop."""

    is_service = False

    def __init__(self, path: Path, engine: Engine, readers: Engine, max_pending: int) -> None:
        self._path = path
        self._damage: str | None = None
        """The fault that was found in the file itself; None while none was."""
        super().__init__(engine, readers, max_pending)

    @classmethod
    async def open(
        cls, path: Path, *, max_pending: int = 20_000, busy_timeout_seconds: float = 5
    ) -> "SqliteStore":
        """Open the database, made and brought up to date where needed; mode 0600.

        This waits up to `busy_timeout_seconds` for another process's lock on the file.

        Raises:
            ConfigurationError: the file can't be opened or is damaged, or a newer version of Openlaunch made it.
        """
        writer, readers = await asyncio.to_thread(_open_engines, path, busy_timeout_seconds)
        return cls(path, writer, readers, max_pending)

    async def shrink(self) -> bool:
        cut, left = await self.write(_shrink)
        if cut and not left:
            await self.read(_checkpoint)  # the file ends sooner once it has all pages of the write-ahead log
        return left > 0

    async def space(self) -> Space:
        taken = self._path.stat().st_blocks * 512
        return Space(taken, "it shrinks as tasks go", await self.read(_free_bytes))

    async def problem(self) -> str | None:
        return self._damage or await asyncio.to_thread(_file_problem, self._path)

    def _commit(self, operations: Iterator[Operation]) -> list[Outcome]:
        with self._engines[0].connect() as connection:
            return Group(operations).commit(connection)

    def _explained(self, error: Exception) -> Exception:
        explained = _explained(error)
        if isinstance(explained, Unavailable) and explained.code == DAMAGED:
            self._damage = explained.message
        return explained


def _file_problem(path: Path) -> str | None:
    """Say what is wrong with the file that open connections, which have it in their caches, may not see yet."""
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        return f"the database file can't be read: {error.strerror}"
    return (
        None if magic == _MAGIC else "the database file is damaged: bring a backup back, openlaunch restore"
    )


def _open_engines(path: Path, busy_timeout_seconds: float) -> tuple[Engine, Engine]:
    """Open the writer's engine, of one connection that is used in one thread at a time, and the readers'."""
    url = URL.create("sqlite", database=str(path))
    common: dict[str, Any] = {
        "connect_args": {"check_same_thread": False, "timeout": busy_timeout_seconds},
        "hide_parameters": True,
        "execution_options": options(SqliteQueueSql()),
    }
    writer = create_engine(url, poolclass=StaticPool, **common)
    event.listen(writer, "connect", _set_up_writer)
    event.listen(writer, "begin", lambda conn: conn.exec_driver_sql("BEGIN IMMEDIATE"))
    readers = create_engine(url, poolclass=QueuePool, pool_size=READERS, **common)
    event.listen(readers, "connect", _set_up_reader)
    try:
        path.touch(mode=0o600)
        with writer.begin() as connection:
            small = path.stat().st_size <= CHECKED_BYTES
            if small:
                _check_pages(connection)
            upgrade(connection)
        if small:
            with writer.connect() as connection:
                let_shrink(cast("sqlite3.Connection", connection.connection.driver_connection))
    except (OSError, DBAPIError) as error:
        writer.dispose()
        reason = (
            f"{error.orig}; {_what_to_do(error.orig)}" if isinstance(error, DBAPIError) else error.strerror
        )
        raise ConfigurationError(f"the database {path} can't be opened: {reason}") from error
    except ConfigurationError:
        writer.dispose()
        raise
    return writer, readers


def _check_pages(connection: Connection) -> None:
    """Read all of the database, and raise DatabaseError if it is damaged."""
    found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if found != "ok":
        damage = sqlite3.DatabaseError(found)
        damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
        raise DatabaseError(None, None, damage)


def _shrink(connection: Connection) -> tuple[int, int]:
    """Cut free pages off the end; return how many, and how many more to cut. Some stay for what is written next."""
    pragma = connection.exec_driver_sql
    pages, free = (pragma(f"PRAGMA {name}").scalar_one() for name in ("page_count", "freelist_count"))
    surplus = max(0, free - max(MIN_FREE_PAGES, pages // 10))
    cut = min(surplus, SLICE_PAGES)
    cursor = connection.connection.cursor()
    for _ in range(cut):
        # One each: Python makes only the first step of a statement without rows.
        cursor.execute("PRAGMA incremental_vacuum(1)")
    shrinks = pragma("PRAGMA freelist_count").scalar_one() < free
    return cut, surplus - cut if shrinks else 0


def _free_bytes(connection: Connection) -> int:
    pragma = connection.exec_driver_sql
    return int(pragma("PRAGMA freelist_count").scalar_one() * pragma("PRAGMA page_size").scalar_one())


def _checkpoint(connection: Connection) -> None:
    connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _set_up_writer(connection: sqlite3.Connection, _: object) -> None:
    # Whether a database can shrink is settled when it is made, before anything else is written.
    first = (f"auto_vacuum={INCREMENTAL}", "journal_mode=WAL", f"journal_size_limit={MAX_IDLE_WAL_BYTES}")
    _set_pragmas(connection, *first, "synchronous=FULL", "foreign_keys=ON", "cache_size=-16384")


def _set_up_reader(connection: sqlite3.Connection, _: object) -> None:
    _set_pragmas(connection, "query_only=ON", "cache_size=-16384")


def _set_pragmas(connection: sqlite3.Connection, *pragmas: str) -> None:
    connection.isolation_level = None  # transactions are begun by us: the driver would begin them too late
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").close()


def _explained(error: Exception) -> Exception:
    """Make the error for callers: Unavailable if the database failed; a faulty statement's error stays as it is."""
    cause = _driver_error(error)
    if type(cause) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
        return error
    log.error("the database failed: %s", cause)
    what, damaged = _what_to_do(cause), _is_damaged(cause)
    return Unavailable(
        f"the database can't be used: {cause}; {what}",
        code=DAMAGED if damaged else "store_unavailable",
        retry_after=None if damaged else 5,
    )


_ADVICE = {
    sqlite3.SQLITE_BUSY: "another process holds a lock on it, and has to let go",
    sqlite3.SQLITE_LOCKED: "another process holds a lock on it, and has to let go",
    sqlite3.SQLITE_FULL: "make room on the disk of the server's data directory; the server then continues",
    sqlite3.SQLITE_READONLY: "make the server's data directory writable; the server then continues",
    sqlite3.SQLITE_CORRUPT: "its file is damaged: stop the server, and bring a backup back with openlaunch restore",
    sqlite3.SQLITE_NOTADB: "its file is damaged: stop the server, and bring a backup back with openlaunch restore",
}


def _driver_error(error: Exception) -> BaseException | None:
    """Return SQLite's own error, if it is one or stands behind one of SQLAlchemy's."""
    return error.orig if isinstance(error, DBAPIError) else error


def _what_to_do(error: BaseException | None) -> str:
    return _ADVICE.get(_code(error), "look at the disk of the server's data directory")


def _is_damaged(error: BaseException | None) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: BaseException | None) -> int:
    """Return SQLite's primary result code: the extended ones have more above its eight bits."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF

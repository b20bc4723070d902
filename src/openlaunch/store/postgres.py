"""The PostgreSQL driver: one connection that commits in groups, and a few that only read."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import psycopg
from psycopg.types.string import StrBinaryDumper, StrDumper
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from openlaunch.errors import ConfigurationError, Unavailable
from openlaunch.store.group_commit import Group, Operation, Outcome
from openlaunch.store.postgres_queue import PostgresQueueSql
from openlaunch.store.queue_sql import options
from openlaunch.store.schema import upgrade
from openlaunch.store.threads import READERS, Readers, Writer

T = TypeVar("T")
log = logging.getLogger(__name__)

OLDEST = 14
"""The oldest version of PostgreSQL that will do."""

CONNECT_SECONDS = 5
MAX_RUNS = 5
"""How often a transaction is run that PostgreSQL broke off because of another one."""

_PLANS = " ".join(
    [
        "-c jit=off",
        *(f"-c enable_{one}=off" for one in ("seqscan", "sort", "bitmapscan", "hashjoin", "mergejoin")),
    ]
)
"""Without them PostgreSQL reads all tasks for a claim, or a page, as long as it has no statistics of the tables."""
_WRITER = f"{_PLANS} -c synchronous_commit=on -c idle_in_transaction_session_timeout=10s"
_READER = f"{_PLANS} -c default_transaction_read_only=on -c statement_timeout=60s"


class PostgresStore:
    """`store.base.Store` on a PostgreSQL database. Used from one event loop."""

    def __init__(self, writer: Engine, readers: Engine, max_pending: int) -> None:
        self._engines = writer, readers
        self._writer = Writer(self._commit, _explained, max_pending)
        self._readers = Readers(readers, _explained, max_pending)

    @classmethod
    async def open(cls, url: str, *, max_pending: int = 20_000) -> "PostgresStore":
        """Open the database, in which the tables are made and brought up to date where needed.

        Raises:
            ConfigurationError: the database can't be used, or a newer version of Openlaunch has changed it.
        """
        writer, readers = await asyncio.to_thread(_open_engines, url)
        return cls(writer, readers, max_pending)

    async def write(self, op: Callable[[Connection], T], owner: str = "") -> T:
        return await self._writer.write(op, owner)

    async def read(self, op: Callable[[Connection], T], owner: str = "") -> T:
        return await self._readers.read(op, owner)

    async def shrink(self) -> bool:
        return False  # autovacuum is PostgreSQL's own

    async def free_bytes(self) -> int:
        return 0

    async def problem(self) -> str | None:
        return None

    async def close(self) -> None:
        self._readers.refuse()
        await self._writer.close()
        self._readers.close()
        for engine in self._engines:
            engine.dispose()

    def _commit(self, operations: Iterator[Operation]) -> list[Outcome]:
        group = Group(operations, _ends_transaction)
        for _ in range(MAX_RUNS - 1):
            try:
                with self._engines[0].connect() as connection:
                    return group.commit(connection)
            except (DBAPIError, psycopg.Error) as error:
                if not isinstance(_driver_error(error), _RUN_AGAIN):
                    raise
        with self._engines[0].connect() as connection:
            return group.commit(connection)


_RUN_AGAIN = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)


def _ends_transaction(error: Exception) -> bool:
    return isinstance(_driver_error(error), psycopg.OperationalError)


def _open_engines(url: str) -> tuple[Engine, Engine]:
    """Open the writer's engine, of one connection that is used in one thread at a time, and the readers'."""
    writer = _engine(url, _WRITER, poolclass=StaticPool)
    event.listen(writer, "begin", _begin)
    readers = _engine(url, _READER, poolclass=QueuePool, pool_size=READERS)
    try:
        with writer.begin() as connection:
            upgrade(connection)
    except DBAPIError as error:
        writer.dispose()
        raise ConfigurationError(f"the database can't be opened: {error.orig}") from None
    except ConfigurationError:
        writer.dispose()
        raise
    return writer, readers


def _engine(url: str, session: str, **pool: Any) -> Engine:
    return create_engine(
        "postgresql+psycopg://",
        creator=lambda: _connect(url, session),
        use_native_hstore=False,
        isolation_level="AUTOCOMMIT",  # transactions are begun by us, and readers need none
        hide_parameters=True,
        execution_options=options(PostgresQueueSql()),
        **pool,
    )


def _connect(url: str, session: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(url, options=session, connect_timeout=CONNECT_SECONDS)
    for dumper in (_Text, _BinaryText):
        connection.adapters.register_dumper(str, dumper)
    return connection


def _begin(conn: Connection) -> None:
    conn.exec_driver_sql("BEGIN")


class _Text(StrDumper):
    """Text as PostgreSQL takes it: it has no NUL, which is in the messages of some models' failures."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


class _BinaryText(StrBinaryDumper):
    """The same in the binary form."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


def _driver_error(error: Exception) -> BaseException | None:
    """Return psycopg's own error, if it is one or stands behind one of SQLAlchemy's."""
    return error.orig if isinstance(error, DBAPIError) else error


def _explained(error: Exception) -> Exception:
    """Make the error for callers: Unavailable if the database failed; a faulty statement's error stays as it is."""
    cause = _driver_error(error)
    if not isinstance(cause, (psycopg.OperationalError, psycopg.InternalError)):
        return error
    log.error("the database failed: %s", cause)
    return Unavailable("the database can't be used", code="store_unavailable", retry_after=2)

"""The PostgreSQL driver: one connection that commits in groups, and a few that only read."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, UpdateBase, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool, StaticPool

from openlaunch.errors import ConfigurationError
from openlaunch.store.base import Space
from openlaunch.store.group_commit import Group, Operation, Outcome
from openlaunch.store.postgres_problems import NoAnswer, driver_error, explained, is_of_database, sentence
from openlaunch.store.postgres_queue import PostgresQueueSql
from openlaunch.store.postgres_session import Database, WriterSession
from openlaunch.store.queue_sql import options
from openlaunch.store.schema import upgrade
from openlaunch.store.threads import READERS, ThreadedStore

T = TypeVar("T")
log = logging.getLogger(__name__)

MAX_RUNS = 5
"""The most runs of a transaction that PostgreSQL breaks off because of another one."""

VACUUM_AFTER = 5_000
"""Tasks that leave the queue between two vacuums of it. At some thousand a second it would grow without them."""

SETTLE_SECONDS = 5.0
"""How long to wait for PostgreSQL to say what became of a transaction whose connection broke at its end."""

_AGAIN = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
_FAULTS = (DBAPIError, psycopg.Error)
_LACKING = """
SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND NOT (
  SELECT bool_and(has_table_privilege(quote_ident(schemaname) || '.' || quote_ident(tablename), kind))
  FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS kind)"""


class PostgresStore(ThreadedStore):
    """`store.base.Store` on a PostgreSQL database. Used from one event loop."""

    is_service = True

    def __init__(
        self,
        name: str,
        session: WriterSession,
        queue: PostgresQueueSql,
        writer: Engine,
        readers: Engine,
        max_pending: int,
    ) -> None:
        self.name = name
        """The database and where it is, for messages."""
        self._session = session
        self._queue = queue
        self._away = False
        """Whether PostgreSQL failed at the last attempt to write."""
        self._changed: set[str] = set()
        self.on_changed: Callable[[set[str]], None] = lambda tables: None
        """Called with the names of tables that other servers of a cluster should read again; in a thread."""
        super().__init__(writer, readers, max_pending)

    @classmethod
    async def open(cls, url: str, *, shared: bool = False, max_pending: int = 20_000) -> "PostgresStore":
        """Open the database, in which the tables are made and brought up to date where needed.

        `shared`: other servers may open it, too, that say the same.

        Raises:
            ConfigurationError: the database can't be used, or a newer version of Openlaunch has changed it.
        """
        database = Database(url)
        session = WriterSession(database, shared=shared)
        queue = PostgresQueueSql()
        writer = _engine(queue, session.connect, poolclass=StaticPool)
        event.listen(writer, "begin", session.begin)
        event.listen(writer, "commit", session.commit)
        readers = _engine(queue, database.reader, poolclass=QueuePool, pool_size=READERS)
        await asyncio.to_thread(_prepare, writer, database, session)
        store = cls(database.name, session, queue, writer, readers, max_pending)
        if shared:
            event.listen(writer, "after_execute", store._note_change)
        return store

    def _note_change(self, conn: Connection, statement: Any, *_: Any) -> None:
        """Note which table a statement changes. It may be rolled back yet: others then read what they know."""
        if isinstance(statement, UpdateBase):
            self._changed.add(str(statement.table))

    async def read(self, op: Callable[[Connection], T], owner: str = "") -> T:
        return await super().read(lambda conn: _read(conn, op), owner)

    async def ahead_of(self, clock: Callable[[], float]) -> float:
        return await self.read(lambda conn: _ahead(conn, clock))

    async def shrink(self) -> bool:
        return False  # PostgreSQL's autovacuum makes room

    async def space(self) -> Space:
        query = "SELECT pg_database_size(current_database())"
        size = await self.read(lambda conn: conn.exec_driver_sql(query).scalar_one())
        return Space(bytes=size, goes="in PostgreSQL: autovacuum frees what is deleted")

    async def problem(self) -> str | None:
        return None

    def _commit(self, operations: Iterator[Operation]) -> list[Outcome]:
        try:
            outcomes = self._committed(Group(operations, is_of_database))
        except (*_FAULTS, NoAnswer) as error:
            if not self._away:
                log.error("PostgreSQL failed: %s", sentence(error.__cause__ or error))
            self._away = True
            raise
        if self._away:
            log.info("PostgreSQL can be written again")
        self._away = False
        if self._changed:
            changed, self._changed = self._changed, set()
            self.on_changed(changed)
        if self._queue.ended >= VACUUM_AFTER:
            self._vacuum()
        return outcomes

    def _explained(self, error: Exception) -> Exception:
        return explained(error)

    def _vacuum(self) -> None:
        """Free what tasks that have left the queue still take in it, as autovacuum would, once a minute."""
        self._queue.ended = 0
        with suppress(*_FAULTS), self._engines[0].connect() as connection:
            driver: Any = connection.connection.driver_connection  # SQLAlchemy would begin a transaction
            driver.execute("VACUUM (SKIP_LOCKED) queue")

    def _committed(self, group: Group) -> list[Outcome]:
        """Commit the group: once more where another transaction was in its way, or its connection was lost."""
        for run in range(1, MAX_RUNS + 1):
            with self._engines[0].connect() as connection:
                try:
                    return group.commit(connection)
                except _FAULTS as error:
                    failure, lost = error, _discard_if_lost(connection)
            if lost and group.at_commit and self._has_committed():
                break
            if run == MAX_RUNS or not (lost or isinstance(driver_error(failure), _AGAIN)):
                raise failure
        return group.outcomes

    def _has_committed(self) -> bool:
        """Return what became of the transaction whose connection was lost; wait for PostgreSQL to say so."""
        mark, deadline = self._session.mark, time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                with self._engines[0].connect() as connection:
                    return self._session.has_committed(connection, mark)
            except _FAULTS as error:
                if time.monotonic() > deadline:
                    raise NoAnswer from error
                time.sleep(0.1)


def _read(conn: Connection, op: Callable[[Connection], T]) -> T:
    """Read, on a new connection if this one turns out to be lost."""
    for _ in range(READERS):
        try:
            return op(conn)
        except _FAULTS as error:
            timed_out = conn.invalidated and isinstance(driver_error(error), psycopg.errors.ConnectionTimeout)
            if timed_out or not _discard_if_lost(conn):
                raise
            conn.rollback()
    return op(conn)


def _ahead(conn: Connection, clock: Callable[[], float]) -> float:
    """Compare the clocks a few times, and return the difference of the quickest answer, which is the most exact."""
    looks: list[tuple[float, float]] = []
    for _ in range(3):
        began = clock()
        there = conn.exec_driver_sql("SELECT extract(epoch FROM clock_timestamp())::float8").scalar_one()
        ended = clock()
        looks.append((ended - began, there - (began + ended) / 2))
    return min(looks)[1]


def _discard_if_lost(connection: Connection) -> bool:
    """Have SQLAlchemy make a new connection in place of one that is closed, and return whether this is."""
    if not connection.invalidated and connection.connection.driver_connection.closed:  # type: ignore[union-attr]
        connection.invalidate()
    return connection.invalidated


def _engine(queue: PostgresQueueSql, connect: Callable[[], psycopg.Connection[Any]], **pool: Any) -> Engine:
    return create_engine(
        "postgresql+psycopg://",
        creator=connect,
        use_native_hstore=False,
        isolation_level="AUTOCOMMIT",  # the writer's transactions are begun by us, and readers need none
        hide_parameters=True,
        execution_options=options(queue),
        **pool,
    )


def _prepare(writer: Engine, database: Database, session: WriterSession) -> None:
    """Make the tables, or bring them up to date; raise ConfigurationError where that can't be."""
    try:
        with writer.connect() as connection:
            with connection.begin():
                session.begin_making(connection)
                upgrade(connection)
                lacking = connection.exec_driver_sql(_LACKING).scalars().all()
                if lacking:
                    raise ConfigurationError(
                        f"the user may not read and write {', '.join(sorted(lacking)[:3])}: connect as the user "
                        "who made the tables, or GRANT ALL ON ALL TABLES IN SCHEMA … TO this one"
                    )
                session.join(connection)
            session.end_making(connection)
    except _FAULTS as error:
        writer.dispose()
        raise ConfigurationError(f"the {database.name} can't be used: {sentence(error)}") from None
    except ConfigurationError as error:
        writer.dispose()
        raise ConfigurationError(f"the {database.name} can't be used: {error}") from None

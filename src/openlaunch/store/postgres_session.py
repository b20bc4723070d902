"""Connections to PostgreSQL: what the URL says, how each is set up, and the one that alone may write."""

import os
import secrets
import socket
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrBinaryDumper, StrDumper
from sqlalchemy import Connection

from openlaunch.errors import ConfigurationError
from openlaunch.store.postgres_problems import EXAMPLE, Unusable
from openlaunch.store.postgres_url import is_url

OLDEST = 14
"""The oldest version of PostgreSQL that will do."""

LOCK = 0x0A11A0C4
"""The first half of the number of the advisory lock; the second is of the schema."""

LOCK_SECONDS = 5.0
"""How long to wait for the lock of a server that has just died."""

_SEEN_SECONDS = 9
"""After this time a peer that answers nothing counts as dead, on both sides: a pulled cable, a frozen machine."""

ANSWER_SECONDS = 3.0
"""How long to wait for one statement: each is short. A frozen PostgreSQL answers nothing, and closes nothing."""

READ_SECONDS = 60.0
"""How long PostgreSQL may read for one statement."""

_DEFAULTS = {
    "connect_timeout": "3",
    "keepalives_idle": "3",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": str(_SEEN_SECONDS * 1000),
}
"""What a URL may set otherwise."""

_SESSION = (
    "-c jit=off -c synchronous_commit=on -c tcp_keepalives_idle=3 -c tcp_keepalives_interval=2"
    f" -c tcp_keepalives_count=3 -c tcp_user_timeout={_SEEN_SECONDS * 1000}"
)
_PLANS = " ".join(
    f"-c enable_{one}=off" for one in ("seqscan", "sort", "bitmapscan", "hashjoin", "mergejoin")
)
"""Without them PostgreSQL reads all tasks for a claim, or a page, as long as it has no statistics of the tables."""
_PLANNED_ONCE = "-c plan_cache_mode=force_generic_plan"
"""A statement of the queue has one plan, which takes longer to make than to run."""
_WRITER = f"{_SESSION} {_PLANS} {_PLANNED_ONCE} -c idle_in_transaction_session_timeout=10s -c lock_timeout=2s"
_READER = f"{_SESSION} {_PLANS} -c default_transaction_read_only=on -c statement_timeout={READ_SECONDS:g}s"

_LOOK = """
SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding'),
       pg_is_in_recovery() OR current_setting('transaction_read_only')::bool,
       current_schema() IS NULL"""
_TAKE_LOCK = "SELECT pg_try_advisory_lock(%s, hashtext(current_schema()))"
_SHARE_LOCK = "SELECT pg_try_advisory_lock_shared(%s, hashtext(current_schema()))"
_TAKE_MAKING = "SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))"
_OTHER_SESSION = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"
_HOLDER = """
SELECT pid, application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = %s AND objid = hashtext(current_schema())::bit(32)::bigint
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
# Several statements in one message take no values beside them; a mark is hexadecimal.
_COMMIT = """
UPDATE last_commit SET mark = '{}' WHERE writer = '{}' AND pg_current_xact_id_if_assigned() IS NOT NULL; COMMIT"""
_ADD_WRITER = "INSERT INTO last_commit VALUES (%s, '') ON CONFLICT DO NOTHING"


def _is_over(began: float) -> bool:
    return time.monotonic() > began + ANSWER_SECONDS


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is closed where an answer does not come: PostgreSQL or its machine may stand still."""

    is_over: Callable[[float], bool] = staticmethod(_is_over)
    """Says of a wait that began at this time whether it is given up."""

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
        return super().wait(self._bounded(gen), *args, **options)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        began = time.monotonic()
        try:
            waits_for = next(gen)
            while True:
                ready = yield waits_for
                if not ready and self.is_over(began):
                    self.close()
                    raise psycopg.errors.ConnectionTimeout("PostgreSQL does not answer")
                waits_for = gen.send(ready)
        except StopIteration as end:
            return end.value


class Database:
    """The database that a URL names."""

    def __init__(self, url: str) -> None:
        """Read the URL; raise ConfigurationError where it is not one."""
        self._given = _parsed(url)
        self._silent_at = 0.0
        """When a new connection was last waited for, and did not come."""

    def __repr__(self) -> str:
        """Name the database, without the password."""
        return f"Database({self.name})"

    @property
    def name(self) -> str:
        """The database and where it is, for messages."""
        given = self._given
        place = given.get("host") or given.get("hostaddr") or "this machine"
        return f"PostgreSQL database {given.get('dbname', '')!r} at {place}:{given.get('port', 5432)}"

    def connect(self, session: str, application: str) -> "BoundedConnection":
        """Connect with settings for the session, in front of those of the URL."""
        given = {**_DEFAULTS, "application_name": application, **self._given}
        given["client_encoding"] = "utf8"
        given["options"] = f"{session} {given.get('options', '')}".strip()
        try:
            connection = BoundedConnection.connect(**given, autocommit=True)
        except psycopg.errors.ConnectionTimeout:
            self._silent_at = time.monotonic()
            raise
        for dumper in (_Text, _BinaryText):
            connection.adapters.register_dumper(str, dumper)
        return connection

    def reader(self) -> "BoundedConnection":
        """Connect for reading alone."""
        connection = self.connect(_READER, "openlaunch reader")
        connection.is_over = self._is_read_over
        return connection

    def _is_read_over(self, began: float) -> bool:
        """Return whether an answer will not come: a read may take long, unless PostgreSQL is found to be away."""
        return began < self._silent_at or time.monotonic() > began + READ_SECONDS + ANSWER_SECONDS


class WriterSession:
    """The connection that writes. It holds a lock, so that one server alone writes; a new one takes its place.

    The servers of a cluster share the lock, and each has a row for its marks.
    """

    def __init__(self, database: Database, *, shared: bool = False) -> None:
        self.mark = ""
        """What the last transaction that came to its COMMIT has left in the database, if it is committed."""
        self._shared = shared
        self._writer = secrets.token_hex(8) if shared else ""
        self._database = database
        self._application = f"openlaunch {socket.gethostname()[:30]} {os.getpid()} {secrets.token_hex(3)}"

    def connect(self) -> BoundedConnection:
        """Connect and take the lock; raise `Unusable` where this database will not do or another server has it."""
        connection = self._database.connect(_WRITER, self._application)
        try:
            _check(connection)
            if self._shared:
                self._end_lost_session(connection)
            self._take_lock(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_lock(self, connection: psycopg.Connection[Any]) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        take = _SHARE_LOCK if self._shared else _TAKE_LOCK
        while not _one(connection, take, (LOCK,))[0]:
            holders = connection.execute(_HOLDER, (LOCK,)).fetchall()
            for pid, application in holders:
                if application == self._application:  # this server's, lost: PostgreSQL has not noticed yet
                    connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            if time.monotonic() > deadline:
                who = ", ".join(application for _, application in holders) or "unknown"
                raise Unusable(
                    f"another server uses it: stop that one ({who}) first, or name another database. A server whose "
                    f"machine or network has failed is forgotten after {_SEEN_SECONDS} s"
                )
            time.sleep(0.1)

    def _end_lost_session(self, connection: psycopg.Connection[Any]) -> None:
        """End this server's last session, which PostgreSQL may not know to be lost: the lock would not show it."""
        deadline = time.monotonic() + LOCK_SECONDS
        while found := connection.execute(_OTHER_SESSION, (self._application,)).fetchall():
            for (pid,) in found:
                connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            if time.monotonic() > deadline:
                raise Unusable("it does not end the session that this server lost: try again, or restart it")
            time.sleep(0.02)

    def begin(self, conn: Connection) -> None:
        """Begin a transaction."""
        _driver(conn).execute("BEGIN")

    def begin_making(self, conn: Connection) -> None:
        """Have other servers wait that would make the tables at the same time, until the transaction ends.

        Until `end_making` this waits for all, however long it takes.
        """
        _driver(conn).is_over = lambda began: False
        _driver(conn).execute("SET LOCAL lock_timeout = 0")
        _driver(conn).execute(_TAKE_MAKING, (LOCK + 1,))

    def join(self, conn: Connection) -> None:
        """Make the row for this server's marks."""
        _driver(conn).execute(_ADD_WRITER, (self._writer,))

    def end_making(self, conn: Connection) -> None:
        """Give up, from now on, what is not answered in time."""
        _driver(conn).is_over = _is_over

    def commit(self, conn: Connection) -> None:
        """Commit, in one round trip with a mark of the transaction, if that has changed anything.

        Not the number that PostgreSQL gives it: after a crash it may give that to another one.
        """
        self.mark = secrets.token_hex(8)
        _driver(conn).execute(_COMMIT.format(self.mark, self._writer))

    def has_committed(self, conn: Connection, mark: str) -> bool:
        """Return whether the transaction of a connection that was lost is committed.

        It is decided: the lost session has ended before a new one could take the lock.
        """
        query = "SELECT mark FROM last_commit WHERE writer = %s"
        return bool(_one(_driver(conn), query, (self._writer,))[0] == mark)


def _parsed(url: str) -> dict[str, Any]:
    given = None
    if is_url(url):
        with suppress(psycopg.Error):  # its text has all of the URL in it, and so the password
            given = conninfo_to_dict(url)
    if given is None:
        raise ConfigurationError(
            f"the store is not the URL of a PostgreSQL database, such as {EXAMPLE}: what is special in a user or "
            "password, such as @ / : ? #, is written as %40 %2F %3A %3F %23"
        )
    return given


def _check(connection: psycopg.Connection[Any]) -> None:
    version, encoding, read_only, no_schema = _one(connection, _LOOK)
    if version < OLDEST:
        raise Unusable(f"it is PostgreSQL {version}: {OLDEST} is the oldest that will do; upgrade it")
    if encoding != "UTF8":
        raise Unusable(f"its encoding is {encoding}: make one with CREATE DATABASE … ENCODING 'UTF8'")
    if read_only:
        raise Unusable("it can only be read: name the primary server, or add target_session_attrs=read-write")
    if no_schema:
        raise Unusable("it has none of the schemas in its search_path: make one with CREATE SCHEMA")


def _one(connection: Any, query: str, values: tuple[Any, ...] = ()) -> Any:
    return connection.execute(query, values).fetchone()


def _driver(conn: Connection) -> Any:
    """Return psycopg's connection."""
    return conn.connection.driver_connection


class _Text(StrDumper):
    """Text as PostgreSQL takes it: it has no NUL, which is in the messages of some models' failures."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))


class _BinaryText(StrBinaryDumper):
    """Text as PostgreSQL takes it, in the binary form."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\N{REPLACEMENT CHARACTER}"))

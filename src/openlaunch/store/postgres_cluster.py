"""Leases and messages of a cluster's servers, on two connections of their own: no transaction waits before them."""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import psycopg
from psycopg import sql

from openlaunch.errors import ConfigurationError
from openlaunch.store.cluster import Beat, Server
from openlaunch.store.postgres_problems import explained
from openlaunch.store.postgres_session import ANSWER_SECONDS, BoundedConnection, Database

T = TypeVar("T")

TABLES = (
    'CREATE TABLE cluster (name text COLLATE "C" NOT NULL, url_secret bytea NOT NULL)',
    'CREATE TABLE leader (epoch bigint NOT NULL, holder text COLLATE "C" NOT NULL, until float8 NOT NULL)',
    "INSERT INTO leader VALUES (0, '', 0)",
    """CREATE TABLE gateways (
      id text COLLATE "C" PRIMARY KEY, address text COLLATE "C" NOT NULL, until float8 NOT NULL)""",
)
"""`until` is by the database's clock, with which alone it is compared."""

_SESSION = "-c jit=off -c lock_timeout=2s"
"""Options of a session; the limit on locks ends statements whose caller no longer waits."""
CONNECT_AGAIN_SECONDS = 0.2
LISTEN_SECONDS = 0.5
"""How long the listening thread waits before it looks whether it is to end."""

_NOW = "extract(epoch FROM clock_timestamp())::float8"
_GATEWAY = f"""
INSERT INTO gateways VALUES (%(id)s, %(address)s, {_NOW} + %(seconds)s)
ON CONFLICT (id) DO UPDATE SET until = excluded.until RETURNING xmax = 0"""  # noqa: S608
_LEAD = f"""
UPDATE leader SET holder = %(id)s, until = {_NOW} + %(seconds)s,
  epoch = CASE WHEN holder = %(id)s THEN epoch ELSE epoch + 1 END
WHERE holder = %(id)s OR until <= {_NOW} RETURNING epoch"""  # noqa: S608
_LOOK = f"""
SELECT (SELECT until FROM leader) - {_NOW}, count(*) FILTER (WHERE until > {_NOW} AND id <> %(id)s),
       count(*) FILTER (WHERE until <= {_NOW}) FROM gateways"""  # noqa: S608
_HAND_OVER = f"UPDATE leader SET until = {_NOW} WHERE holder = %(id)s"  # noqa: S608
_SERVERS = f"""
SELECT id, address, EXISTS (SELECT FROM leader WHERE holder = id AND until > {_NOW}) FROM gateways
WHERE until > {_NOW} ORDER BY address"""  # noqa: S608
_LEAVE = "DELETE FROM gateways WHERE id = %(id)s"
_SEND = "SELECT pg_notify(%s, message) FROM unnest(%s::text[]) AS message"
_JOIN = """
INSERT INTO cluster SELECT %(name)s, %(secret)s WHERE NOT EXISTS (SELECT FROM cluster)"""


class PostgresCluster:
    """`store.cluster.ClusterRecords` on PostgreSQL."""

    def __init__(self, url: str, name: str, address: str, seconds: float, answer_seconds: float) -> None:
        """Take the database's URL, the name of the cluster, where this server is, and how long leases last.

        What is not answered in `answer_seconds` is given up, and its connection with it: a renewal comes after it.
        """
        self.gateway = secrets.token_hex(8)
        self._answer_seconds = answer_seconds
        self._database, self._name = Database(url), name
        self._row = {"id": self.gateway, "address": address, "seconds": seconds}
        self._connection: BoundedConnection | None = None
        self._channel = ""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="cluster")
        self._closed = threading.Event()
        self._listener: threading.Thread | None = None

    async def beat(self, *, lead: bool) -> Beat:
        return await self._run(lambda conn: self._beat(conn, lead))

    def _beat(self, conn: psycopg.Connection[Any], lead: bool) -> Beat:
        (was_missing,) = _one(conn, _GATEWAY, self._row)
        led = _one(conn, _LEAD, self._row) if lead else None
        left, others, dead = _one(conn, _LOOK, self._row)
        return Beat(was_missing, led[0] if led else 0, left, others, dead)

    async def hand_over(self) -> None:
        await self._run(lambda conn: conn.execute(_HAND_OVER, self._row))

    async def servers(self) -> list[Server]:
        rows = await self._run(lambda conn: conn.execute(_SERVERS).fetchall())
        return [Server(*row) for row in rows]

    async def leave(self) -> None:
        await self._run(lambda conn: conn.execute(_LEAVE, self._row))

    async def send(self, messages: Sequence[str]) -> None:
        await self._run(lambda conn: conn.execute(_SEND, [self._channel, list(messages)]))

    async def url_secret(self, own: bytes) -> bytes:
        def join(conn: psycopg.Connection[Any]) -> tuple[str, bytes]:
            with conn.transaction():
                conn.execute("LOCK TABLE cluster")
                conn.execute(_JOIN, {"name": self._name, "secret": own})
                name, secret = _one(conn, "SELECT name, url_secret FROM cluster")
                return name, secret

        name, secret = await self._run(join, ANSWER_SECONDS)
        if name != self._name:
            raise ConfigurationError(
                f"the {self._database.name} is of another cluster: its servers have another "
                "OPENLAUNCH_CLUSTER_TOKEN; give that one, or name another database"
            )
        return secret

    async def _run(self, op: Callable[[psycopg.Connection[Any]], T], seconds: float = 0.0) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._in_thread, op, seconds or self._answer_seconds
            )
        except psycopg.Error as error:
            raise explained(error) from error

    def _in_thread(self, op: Callable[[psycopg.Connection[Any]], T], seconds: float) -> T:
        if self._connection is None or self._connection.closed:
            self._connection = self._database.connect(_SESSION, "openlaunch cluster")
            self._channel = _channel(self._connection)
        ends = time.monotonic() + seconds
        self._connection.is_over = lambda began: time.monotonic() > ends
        try:
            return op(self._connection)
        except psycopg.Error:
            self._connection.close()  # whatever state it is in, the next call has a new one
            raise

    def listen(self, heard: Callable[[str], None], gap: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def run() -> None:
            while not self._closed.is_set():
                with suppress(psycopg.Error):
                    self._listen(loop, heard, gap)
                self._closed.wait(CONNECT_AGAIN_SECONDS)

        self._listener = threading.Thread(target=run, name="cluster-listen", daemon=True)
        self._listener.start()

    def _listen(
        self, loop: asyncio.AbstractEventLoop, heard: Callable[[str], None], gap: Callable[[], None]
    ) -> None:
        with self._database.connect(_SESSION, "openlaunch listener") as conn:
            conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(_channel(conn))))
            loop.call_soon_threadsafe(gap)  # what was sent before is lost
            while not self._closed.is_set():
                for notification in conn.notifies(timeout=LISTEN_SECONDS):
                    loop.call_soon_threadsafe(heard, notification.payload)

    async def close(self) -> None:
        self._closed.set()
        if self._listener is not None:
            await asyncio.to_thread(self._listener.join)
        await asyncio.to_thread(self._thread.shutdown)
        if self._connection is not None:
            self._connection.close()


def _one(conn: psycopg.Connection[Any], query: str, values: Any = ()) -> Any:
    return conn.execute(query.encode(), values).fetchone()


def _channel(conn: psycopg.Connection[Any]) -> str:
    """Return the name under which the servers on the connection's schema hear each other."""
    (schema,) = _one(conn, "SELECT current_schema()")
    return f"openlaunch {schema}"[:63]

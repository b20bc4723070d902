"""A store in PostgreSQL whose connections are lost, or do not answer."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import psycopg
import pytest
from postgres_server import PostgresServer, shared_server
from postgres_stores import open_and_close, opened
from sqlalchemy import Connection
from store_calls import add, names

from openlaunch.errors import Unavailable
from openlaunch.store import postgres_session
from openlaunch.store.base import OUTCOME_UNKNOWN
from openlaunch.store.threads import MAX_GROUP


def test_writes_at_once_share_transactions(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            before = store.transactions
            await asyncio.gather(*(store.write(add(f"k{n}")) for n in range(2 * MAX_GROUP)))
            assert store.transactions - before < MAX_GROUP  # a busy machine has few in each

    asyncio.run(test())


class Counted:
    """An operation that says how often it has run."""

    def __init__(self, name: str, before: Callable[[Connection], object] = lambda conn: None) -> None:
        self._add, self._before = add(name), before
        self.runs = 0

    def __call__(self, conn: Connection) -> str:
        self.runs += 1
        self._add(conn)
        if self.runs == 1:
            self._before(conn)
        return "done"


def test_a_connection_that_was_lost_between_operations_is_made_anew(url: str, name: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            await store.write(add("a"))
            await store.read(names)
            end_sessions(name)
            assert await store.read(names) == ["a"]
            await store.write(add("b"))
            assert await store.read(names) == ["a", "b"]

    asyncio.run(test())


def end_sessions(name: str) -> None:
    """End all connections to a database, as an administrator does, and a failing proxy."""
    others = f"FROM pg_stat_activity WHERE datname = '{name}'"
    shared_server().execute(f"SELECT pg_terminate_backend(pid) {others}")


def test_a_transaction_whose_connection_was_lost_runs_again(url: str, name: str) -> None:
    operation = Counted("a", lambda conn: end_sessions(name))

    async def test() -> None:
        async with opened(url) as store:
            first, second = await asyncio.gather(store.write(operation), store.write(add("b")))
            assert (first, second) == ("done", "b")
            assert (operation.runs, await store.read(names)) == (2, ["a", "b"])

    asyncio.run(test())


def test_a_transaction_that_another_one_broke_off_runs_again(url: str) -> None:
    lock = threading.Event()

    def other() -> None:
        """Take two rows in the other order: PostgreSQL ends one of the two transactions."""
        with psycopg.connect(url) as connection:
            connection.execute("SET deadlock_timeout = '10s'")
            connection.execute("UPDATE api_keys SET prefix = 'y' WHERE id = 'b'")
            lock.set()
            connection.execute("UPDATE api_keys SET prefix = 'y' WHERE id = 'a'")

    def crossed(conn: Connection) -> None:
        change = "UPDATE api_keys SET prefix = 'z' WHERE id = %s"
        conn.exec_driver_sql(change, ("a",))
        thread = threading.Thread(target=other)
        thread.start()
        lock.wait(30)
        threads.append(thread)
        conn.exec_driver_sql(change, ("b",))

    threads: list[threading.Thread] = []
    operation = Counted("c", crossed)

    async def test() -> None:
        async with opened(f"{url}?options=-cdeadlock_timeout%3D50ms") as store:
            await store.write(add("a"))
            await store.write(add("b"))
            assert await store.write(operation) == "done"
            assert (operation.runs, await store.read(names)) == (2, ["a", "b", "c"])

    asyncio.run(test())
    threads[0].join()


async def until(server: PostgresServer, condition: str) -> None:
    """Wait until one of the server's sessions is like this."""
    deadline = time.monotonic() + 60
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        query = f"SELECT pid FROM pg_stat_activity WHERE {condition}"
        while not connection.execute(query.encode()).fetchone():
            assert time.monotonic() < deadline, condition
            await asyncio.sleep(0.01)


def test_a_commit_whose_answer_was_lost_is_not_run_again(server: PostgresServer) -> None:
    """PostgreSQL waits for a standby that is not there once all is on its own disk: committed, and not answered."""
    operation = Counted("a")

    async def test() -> None:
        async with opened(server.url("answerless")) as store:
            server.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
            writing = asyncio.create_task(store.write(operation))
            await until(server, "wait_event = 'SyncRep'")
            server.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            )
            assert await writing == "done"
            assert (operation.runs, await store.read(names)) == (1, ["a"])

    server.execute("CREATE DATABASE answerless")
    asyncio.run(test())


def test_a_commit_that_failed_with_its_connection_is_run_again(server: PostgresServer) -> None:
    operation = Counted("a")
    slow = """
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON api_keys DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION slow()"""

    async def test() -> None:
        async with opened(server.url("slow")) as store:
            server.execute(slow, database="slow")
            writing = asyncio.create_task(store.write(operation))
            await until(server, "wait_event = 'PgSleep'")
            server.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'",
                "DROP FUNCTION slow CASCADE",
                database="slow",
            )
            assert await writing == "done"
            # Three times, where the second began before the trigger was gone, and was given up.
            assert operation.runs in (2, 3)
            assert await store.read(names) == ["a"]

    server.execute("CREATE DATABASE slow")
    asyncio.run(test())


def test_while_postgresql_is_away_all_is_unavailable_and_afterwards_all_goes_on(
    server: PostgresServer,
) -> None:
    server.execute("CREATE DATABASE away")

    async def refused(attempt: Awaitable[object]) -> None:
        with pytest.raises(Unavailable) as refusal:
            await attempt
        assert (refusal.value.code, refusal.value.retry_after) == ("store_unavailable", 2)
        assert "127.0.0.1" not in refusal.value.message

    async def test() -> None:
        async with opened(server.url("away")) as store:
            await store.write(add("a"))
            server.kill()
            for _ in range(2):
                await refused(store.write(add("b")))
                await refused(store.read(names))
            await asyncio.to_thread(server.start)
            await store.write(add("c"))
            assert await store.read(names) == ["a", "c"]

    asyncio.run(test())


@pytest.mark.usefixtures("impatient")
def test_a_postgresql_that_stands_still_is_not_waited_for(server: PostgresServer) -> None:
    server.execute("CREATE DATABASE still")

    async def refused(attempt: Awaitable[object]) -> None:
        with pytest.raises(Unavailable) as refusal:
            await attempt
        assert (refusal.value.code, refusal.value.retry_after) == ("store_unavailable", 2)

    async def test() -> None:
        async with opened(f"{server.url('still')}?connect_timeout=2") as store:
            await store.write(add("a"))
            await store.read(names)  # on a connection that is there when PostgreSQL freezes
            with server.frozen():
                await asyncio.gather(refused(store.write(add("b"))), refused(store.read(names)))
                await refused(store.write(add("b")))
            await store.write(add("c"))
            assert await store.read(names) == ["a", "c"]

    asyncio.run(test())


@pytest.mark.usefixtures("impatient")
def test_who_waits_for_a_commit_of_a_frozen_postgresql_learns_that_it_is_not_known(
    server: PostgresServer,
) -> None:
    slow = """
        CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(2); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON api_keys DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION slow()"""
    operation = Counted("a")

    async def test() -> None:
        async with opened(f"{server.url('unknown')}?connect_timeout=2") as store:
            server.execute(slow, database="unknown")
            writing = asyncio.create_task(store.write(operation))
            await until(server, "wait_event = 'PgSleep'")
            with server.frozen():
                with pytest.raises(Unavailable, match="whether this is stored") as refusal:
                    await writing
                assert refusal.value.code == OUTCOME_UNKNOWN
            server.execute("DROP TRIGGER slow ON api_keys", database="unknown")
            await store.write(add("b"))
            found = await store.read(names)
            await store.write(add("c"))
            assert await store.read(names) == [*found, "c"], "it was decided before the next write"
            assert operation.runs == 1

    server.execute("CREATE DATABASE unknown")
    asyncio.run(test())


def test_a_table_that_another_session_has_locked_is_not_waited_for(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            with psycopg.connect(url) as other:
                other.execute("LOCK TABLE api_keys")
                with pytest.raises(Unavailable, match="another session of it holds a lock"):
                    await store.write(add("a"))
            await store.write(add("b"))
            assert await store.read(names) == ["b"]

    asyncio.run(test())


def test_the_next_server_waits_for_the_lock_of_one_that_has_just_died(url: str) -> None:
    """PostgreSQL notices the death of a connection's process in a moment, and not at once."""
    gone = psycopg.connect(url, autocommit=True)
    gone.execute("SELECT pg_advisory_lock(%s, hashtext(current_schema()))", (postgres_session.LOCK,))
    threading.Timer(0.3, gone.close).start()
    asyncio.run(open_and_close(url))


def test_a_disk_that_is_full_is_told(url: str) -> None:
    def full(conn: Connection) -> None:
        conn.exec_driver_sql(
            "DO $$ BEGIN RAISE 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
        )

    async def test() -> None:
        async with opened(url) as store:
            with pytest.raises(Unavailable, match="its disk is full: make room there"):
                await store.write(full)
            await store.write(add("a"))

    asyncio.run(test())

"""What is PostgreSQL's own in the store: what is refused at the start, the lock, and lost connections."""

import asyncio
import itertools
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import psycopg
import pytest
from postgres_server import WITH_PASSWORD, PostgresServer, shared_server
from sqlalchemy import Connection

from openlaunch.errors import ConfigurationError, Unavailable
from openlaunch.nodes import leases
from openlaunch.store import keys, postgres, postgres_session
from openlaunch.store.base import OUTCOME_UNKNOWN
from openlaunch.store.cluster import check_leads
from openlaunch.store.postgres import PostgresStore
from openlaunch.store.postgres_cluster import PostgresCluster
from openlaunch.store.records import KeyRecord
from openlaunch.store.threads import MAX_GROUP
from openlaunch.wire.keys import Role

SECRET = "s3cret-word"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url)
    try:
        async with asyncio.timeout(100):
            yield store
    finally:
        await store.close()


def refusal(url: str) -> str:
    """Why a store is not opened."""

    async def test() -> None:
        async with opened(url):
            pytest.fail("opened")

    with pytest.raises(ConfigurationError) as refused:
        asyncio.run(test())
    assert SECRET not in f"{refused.value!r} {refused.value.__cause__} {refused.value.__context__}"
    return str(refused.value)


NUMBERS = itertools.count()


@pytest.fixture
def name() -> Iterator[str]:
    """A database of the shared server that has nothing in it."""
    name = f"own_{next(NUMBERS)}"
    shared_server().execute(f"CREATE DATABASE {name}")
    yield name
    shared_server().execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def url(name: str) -> str:
    return shared_server().url(name)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that may be killed."""
    with PostgresServer() as server:
        yield server


def add(name: str) -> Callable[[Connection], None]:
    record = KeyRecord(name, "ada", Role.USER, "x", name.encode(), created_at=1)
    return lambda conn: keys.insert(conn, record)


def names(conn: Connection) -> list[str]:
    return sorted(key.id for key in keys.list_all(conn))


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://ada:{SECRET}@db/x",
        f"postgresql://ada:{SECRET}@[::1/x",
        f"postgresql://ada:{SECRET}@db/x?no_such_option=1",
        f"postgresql:ada:{SECRET}",
        "records.db",
        "",
    ],
)
def test_what_is_no_url_of_postgresql_is_refused(url: str) -> None:
    assert "postgresql://USER@HOST:5432/NAME" in refusal(url)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        (f"postgresql://ada:{SECRET}@nowhere.invalid/x", "at nowhere.invalid:5432.*the host is unknown"),
        (f"postgresql://ada:{SECRET}@127.0.0.1:1/x", "nothing listens at that host and port"),
        (f"postgresql://ada:{SECRET}@/x?host=/no-such-folder", "there is no socket in that folder"),
    ],
)
def test_a_server_that_is_not_there_is_refused(url: str, sentence: str) -> None:
    assert re.search(sentence, refusal(url))


def test_a_database_and_a_user_that_are_not_there_are_refused(url: str) -> None:
    assert "with createdb or createuser, or correct the URL" in refusal(shared_server().url("nosuch"))
    assert "with createdb or createuser, or correct the URL" in refusal(url.replace("postgres@", "eve@"))


def test_a_wrong_and_a_missing_password_are_refused_and_a_right_one_is_not(url: str, name: str) -> None:
    create = f"CREATE ROLE {WITH_PASSWORD} LOGIN PASSWORD '{SECRET}'"
    shared_server().execute(create, f"ALTER DATABASE {name} OWNER TO {WITH_PASSWORD}")
    try:
        user = url.replace("postgres@", f"{WITH_PASSWORD}:wrong@")
        assert "user or password is wrong: correct" in refusal(user)
        assert "a password is needed: give it in" in refusal(user.replace(":wrong", ""))

        async def test() -> None:
            async with opened(user.replace("wrong", SECRET)) as store:
                assert SECRET not in f"{store.name} {vars(store)}"

        asyncio.run(test())
    finally:
        shared_server().execute(f"ALTER DATABASE {name} OWNER TO postgres")
        shared_server().execute(f"DROP OWNED BY {WITH_PASSWORD}", f"DROP ROLE {WITH_PASSWORD}", database=name)


def test_a_user_without_rights_is_refused(url: str, name: str) -> None:
    shared_server().execute("CREATE ROLE guest LOGIN", f"REVOKE CREATE ON DATABASE {name} FROM PUBLIC")
    shared_server().execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=name)
    guest = url.replace("postgres@", "guest@")
    try:
        assert "GRANT CREATE ON SCHEMA public" in refusal(guest)
        asyncio.run(open_and_close(url))
        shared_server().execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", database=name)
        assert "may not read and write alembic_version, answers" in refusal(guest)
    finally:
        shared_server().execute("DROP OWNED BY guest", database=name)
        shared_server().execute("DROP ROLE guest")


async def open_and_close(url: str) -> None:
    async with opened(url):
        pass


def test_an_old_server_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_session, "OLDEST", 99)
    assert "99 is the oldest that will do" in refusal(url)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ("SET default_transaction_read_only = on", "it can only be read"),
        ("SET search_path = nowhere", "none of the schemas in its search_path"),
    ],
)
def test_a_database_that_will_not_do_is_refused(url: str, name: str, changes: str, sentence: str) -> None:
    shared_server().execute(f"ALTER DATABASE {name} {changes}")
    assert sentence in refusal(url)


def test_another_encoding_is_refused(name: str) -> None:
    create = f"CREATE DATABASE {name}_ascii ENCODING 'SQL_ASCII' TEMPLATE template0"
    shared_server().execute(create)
    try:
        assert "its encoding is SQL_ASCII" in refusal(shared_server().url(f"{name}_ascii"))
    finally:
        shared_server().execute(f"DROP DATABASE {name}_ascii WITH (FORCE)")


@pytest.mark.parametrize(
    "tables",
    [
        ["CREATE TABLE orders (id int)"],
        ["CREATE TABLE alembic_version (version_num text)", "CREATE TABLE orders (id int)"],
        ["CREATE TABLE alembic_version (version_num text)", "INSERT INTO alembic_version VALUES ('0001')"],
    ],
)
def test_a_database_of_another_program_is_refused(url: str, name: str, tables: list[str]) -> None:
    shared_server().execute(*tables, database=name)
    assert "tables of another program" in refusal(url)


def test_a_second_server_is_refused_until_the_first_has_stopped(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_session, "LOCK_SECONDS", 0.2)

    async def test() -> None:
        async with opened(url):
            with pytest.raises(
                ConfigurationError, match=r"another server uses it: stop that one \(openlaunch"
            ):
                await PostgresStore.open(url)
        await open_and_close(url)

    asyncio.run(test())


def test_another_schema_of_the_database_is_another_store(url: str, name: str) -> None:
    shared_server().execute("CREATE SCHEMA second", database=name)

    async def test() -> None:
        async with opened(url) as first, opened(f"{url}?options=-csearch_path%3Dsecond") as second:
            await second.write(add("k"))
            assert (await first.read(names), await second.read(names)) == ([], ["k"])

    asyncio.run(test())


def test_readers_can_not_write(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            with pytest.raises(Unavailable):
                await store.read(add("k"))
            assert await store.read(names) == []

    asyncio.run(test())


def test_text_keeps_all_but_what_postgresql_has_no_place_for(url: str) -> None:
    async def test() -> None:
        async with opened(url) as store:
            await store.write(add("a\0b"))
            assert await store.read(names) == ["a\N{REPLACEMENT CHARACTER}b"]

    asyncio.run(test())


def test_text_is_ordered_by_its_bytes_whatever_the_language_of_the_database(url: str) -> None:
    """An index in the order of a language is wrong once the system's idea of that order has changed."""
    query = """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'"""

    async def test() -> None:
        async with opened(url) as store:
            assert await store.read(lambda conn: conn.exec_driver_sql(query).fetchall()) == []

    asyncio.run(test())


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
            assert (first, second) == ("done", None)
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


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store soon gives up what waits for an answer."""
    monkeypatch.setattr(postgres_session, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(postgres, "SETTLE_SECONDS", 0.5)


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


def test_a_transaction_of_a_leader_ends_before_another_one_leads(url: str) -> None:
    tried: list[type[BaseException]] = []

    def take_over_within(conn: Connection) -> None:
        check_leads(conn, 7)
        with psycopg.connect(url, options="-c lock_timeout=50ms") as other:
            with pytest.raises(psycopg.errors.LockNotAvailable) as failed:
                other.execute("UPDATE leader SET epoch = 8")
            tried.append(failed.type)

    async def test() -> None:
        async with opened(url) as store:
            await store.write(lambda conn: check_leads(conn, 0))  # a server that is alone
            with pytest.raises(Unavailable, match="another server of the cluster leads"):
                await store.write(lambda conn: check_leads(conn, 7))
            with psycopg.connect(url) as other:
                other.execute("UPDATE leader SET epoch = 7")
            await store.write(take_over_within)
            assert tried

    asyncio.run(test())


def cluster_at(url: str) -> PostgresCluster:
    return PostgresCluster(url, "one", "http://127.0.0.1:1", 60.0, leases.ANSWER_SECONDS)


def test_a_renewal_that_is_not_answered_is_given_up_before_the_lease_ends(url: str) -> None:
    async def test() -> None:
        async with opened(url):
            server = cluster_at(url)
            assert (await server.beat(lead=True)).epoch == 1
            with psycopg.connect(url) as other:
                other.execute("LOCK TABLE gateways")
                with pytest.raises(
                    Unavailable, match="does not answer"
                ):  # and not: that it waited for the lock
                    await server.beat(lead=True)
            assert (await server.beat(lead=True)).epoch == 1
            await server.close()

    asyncio.run(test())


def test_a_leader_keeps_its_epoch_though_an_answer_was_lost(url: str) -> None:
    async def test() -> None:
        async with opened(url):
            first, second = (cluster_at(url) for _ in range(2))
            assert (await first.beat(lead=False)).epoch == 0
            assert (await first.beat(lead=True)).epoch == 1
            assert (await first.beat(lead=True)).epoch == 1  # the same, if the answer before was lost
            assert (await second.beat(lead=True)).epoch == 0
            await first.hand_over()
            assert (await second.beat(lead=True)).epoch == 2
            assert (await first.beat(lead=True)).epoch == 0
            await first.close()
            await second.close()

    asyncio.run(test())

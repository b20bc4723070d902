"""Which databases are refused as a store, and what one does that no other database does."""

import asyncio
import re

import pytest
from postgres_server import WITH_PASSWORD, shared_server
from postgres_stores import open_and_close, opened
from psycopg.conninfo import conninfo_to_dict
from store_calls import add, names

from openlaunch.errors import ConfigurationError, Unavailable
from openlaunch.store import postgres_session
from openlaunch.store.postgres import PostgresStore
from openlaunch.store.postgres_url import without_password

SECRET = "s3cret-word"


def refusal(url: str) -> str:
    """Why a store is not opened."""

    async def test() -> None:
        async with opened(url):
            pytest.fail("opened")

    with pytest.raises(ConfigurationError) as refused:
        asyncio.run(test())
    assert SECRET not in f"{refused.value!r} {refused.value.__cause__} {refused.value.__context__}"
    return str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://ada:{SECRET}@db/x",
        f"postgresql://ada:{SECRET}@[::1/x",
        f"postgresql://ada:{SECRET}@db/x?no_such_option=1",
        f"postgresql:ada:{SECRET}",
        f"postgresql://ada:{SECRET}/x",
        f"postgresql://ada:a/{SECRET}@db/x",
        f"postgresql://ada:a@{SECRET}@db/x",
        "records.db",
        "",
    ],
)
def test_what_is_no_url_of_postgresql_is_refused(url: str) -> None:
    assert "postgresql://USER@HOST:5432/NAME" in refusal(url)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://ada:{SECRET}?#:@db/x",
        f"postgresql://ada:{SECRET}%40%2F@db:5432,[::1]:1/x?options=-c%20search_path%3Done%2Btwo",
        f"postgres://db/x?application_name=a+b&password={SECRET}&host=",
        f"postgresql://ada:other@/x?password={SECRET}",
        f"postgresql://ada:{SECRET}@",
    ],
)
def test_a_url_without_its_password_says_what_it_said(url: str) -> None:
    plain, password = without_password(url)
    assert SECRET not in plain
    assert {**conninfo_to_dict(plain), "password": password} == conninfo_to_dict(url)


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

"""What is SQLite's own in the store: the file, its locks, and how few transactions it takes."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from openlaunch.errors import ConfigurationError, Unavailable
from openlaunch.store import keys
from openlaunch.store.records import KeyRecord
from openlaunch.store.sqlite import MIN_FREE_PAGES, SqliteStore
from openlaunch.store.threads import MAX_GROUP
from openlaunch.wire.keys import Role


@asynccontextmanager
async def opened(path: Path, busy_timeout_seconds: float = 5) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path, busy_timeout_seconds=busy_timeout_seconds)
    try:
        async with asyncio.timeout(60):
            yield store
    finally:
        await store.close()


def add(conn: Connection, name: str) -> str:
    keys.insert(conn, KeyRecord(name, "ada", Role.USER, "x", name.encode(), created_at=1))
    return name


def fail(conn: Connection) -> None:
    add(conn, "undone")
    raise ValueError("mine")


async def write_many(store: SqliteStore, count: int, failing: int = 0) -> int:
    """Write `count` keys at once, among them operations that fail; how many transactions that took."""
    before = store.transactions
    writes = [store.write(lambda conn, n=n: add(conn, f"k{n}")) for n in range(count)]
    faulty = [store.write(fail) for _ in range(failing)]
    outcomes = await asyncio.gather(*writes, *faulty, return_exceptions=True)
    assert sum(isinstance(outcome, ValueError) for outcome in outcomes) == failing
    return store.transactions - before


def test_writes_at_once_share_transactions(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            assert await write_many(store, 2 * MAX_GROUP) <= 2 * MAX_GROUP / 10

    asyncio.run(test())


def fill(conn: Connection) -> None:
    conn.exec_driver_sql("CREATE TABLE filler (x)")
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5000)"
    conn.exec_driver_sql(f"{numbers} INSERT INTO filler SELECT zeroblob(3000) FROM n")


def clear(conn: Connection) -> None:
    conn.exec_driver_sql("DELETE FROM filler")


def test_the_file_shrinks_when_records_were_deleted(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def test() -> None:
        async with opened(path) as store:
            await store.write(fill)
            await store.write(clear)
            before = path.stat().st_size
            while await store.shrink():
                pass
            assert path.stat().st_size < MIN_FREE_PAGES * 4096 + 1024 * 1024 < before

    asyncio.run(test())


def test_a_small_database_that_could_not_shrink_can_after_a_start(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    async def open_and_close() -> None:
        async with opened(path):
            pass

    def kind() -> int:
        with closing(sqlite3.connect(path)) as conn:
            return int(conn.execute("PRAGMA auto_vacuum").fetchone()[0])

    asyncio.run(open_and_close())
    with closing(sqlite3.connect(path)) as conn:
        conn.executescript("PRAGMA auto_vacuum=0; VACUUM;")
    assert kind() == 0
    asyncio.run(open_and_close())
    assert kind() == 2


def test_failing_operations_do_not_split_a_group(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            assert await write_many(store, 300, failing=30) <= 33

    asyncio.run(test())


def test_only_the_owner_may_read_the_files(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            await store.write(lambda conn: add(conn, "k"))
            files = list(tmp_path.iterdir())
            assert {file.name for file in files} >= {"store.db", "store.db-wal"}
            assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

    asyncio.run(test())


@pytest.mark.parametrize("name", ["a b?c#d%20.db", "café.db"])
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    async def test() -> None:
        async with opened(tmp_path / name):
            assert (tmp_path / name).stat().st_size > 0

    asyncio.run(test())


def test_a_corrupt_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is no database. " * 500)

    async def test() -> None:
        async with opened(path):
            pytest.fail("opened")

    with pytest.raises(ConfigurationError, match=r"store\.db can't be opened: file is not a database"):
        asyncio.run(test())


@pytest.mark.parametrize("path", ["missing/store.db", "."])
def test_a_path_that_can_not_be_opened_is_refused(tmp_path: Path, path: str) -> None:
    async def test() -> None:
        async with opened(tmp_path / path):
            pytest.fail("opened")

    with pytest.raises(ConfigurationError, match="can't be opened"):
        asyncio.run(test())


def test_a_lock_held_too_long_is_unavailable_and_nothing_is_written(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db", busy_timeout_seconds=0.05) as store:
            with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(Unavailable, match="locked") as refused:
                    await store.write(lambda conn: add(conn, "k"))
                assert refused.value.code == "store_unavailable"
                assert await store.read(keys.list_all) == []
                other.execute("ROLLBACK")
            assert await store.write(lambda conn: add(conn, "k")) == "k"

    asyncio.run(test())


def test_a_full_disk_is_unavailable_and_the_store_goes_on(tmp_path: Path) -> None:
    def limit(conn: Connection, spare: int) -> None:
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        conn.exec_driver_sql(f"PRAGMA max_page_count = {pages + spare}").close()

    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            await store.write(lambda conn: limit(conn, 0))
            with pytest.raises(Unavailable, match="full"):
                await store.write(lambda conn: add(conn, "k" * 100_000))
            await store.write(lambda conn: limit(conn, 1000))
            await store.write(lambda conn: add(conn, "k"))
            assert [key.id for key in await store.read(keys.list_all)] == ["k"]

    asyncio.run(test())


def test_readers_leave_no_snapshot_behind(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "store.db") as store:
            await asyncio.gather(*(store.read(keys.list_all) for _ in range(20)))
            await write_many(store, 20)
            with closing(sqlite3.connect(tmp_path / "store.db")) as other:
                busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            assert busy == 0

    asyncio.run(test())

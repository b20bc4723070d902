"""What every store does, whatever database is behind it."""

import asyncio
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, insert, select
from store_calls import Gate, Run, add, key, names
from store_drivers import Opener

from openlaunch.errors import ConfigurationError, Conflict, Unavailable
from openlaunch.store import keys
from openlaunch.store.tables import api_keys


def test_a_read_sees_what_was_written_before(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            for number in range(30):
                assert await store.write(add(f"k{number}")) == f"k{number}"
                assert f"k{number}" in await store.read(names)

    run_on_loop(test())


def test_the_time_of_day_is_that_of_the_database_where_that_is_a_service(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            ahead = await store.ahead_of(lambda: time.time() - 600)
            assert abs(ahead - 600 * store.is_service) < 1

    run_on_loop(test())


def test_what_was_written_is_there_after_reopening(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            await store.write(add("k"))
        async with opener(tmp_path) as store:
            assert await store.read(names) == ["k"]

    run_on_loop(test())


def test_many_writers_at_once_all_succeed(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            done = await asyncio.gather(*(store.write(add(f"k{n:04}")) for n in range(1000)))
            assert await store.read(names) == sorted(done)

    run_on_loop(test())


def test_an_operation_that_raises_undoes_only_its_own_changes(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    def fail(conn: Connection) -> None:
        keys.insert(conn, key("undone"))
        raise ValueError("mine")

    async def test() -> None:
        async with opener(tmp_path) as store:
            gate = Gate()
            held = asyncio.create_task(store.write(gate.op))
            await gate.wait_until_entered()
            writes = [asyncio.create_task(store.write(op)) for op in (add("a"), fail, add("a"), add("b"))]
            await asyncio.sleep(0)
            gate.opened.set()
            a, failed, duplicate, b = await asyncio.gather(*writes, return_exceptions=True)
            await held
            assert (a, b) == ("a", "b")
            assert isinstance(failed, ValueError)
            assert str(failed) == "mine"
            assert isinstance(duplicate, Conflict)
            assert await store.read(names) == ["a", "b"]

    run_on_loop(test())


def test_a_lone_operation_that_raises_leaves_nothing(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    def fail(conn: Connection) -> None:
        keys.insert(conn, key("undone"))
        raise StopIteration

    async def test() -> None:
        async with opener(tmp_path) as store:
            with pytest.raises(RuntimeError, match="StopIteration"):
                await store.write(fail)
            assert await store.read(names) == []

    run_on_loop(test())


def test_a_write_whose_waiter_is_cancelled_harms_no_other(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            gate = Gate()
            held = asyncio.create_task(store.write(gate.op))
            await gate.wait_until_entered()
            left = asyncio.create_task(store.write(add("left")))
            stays = asyncio.create_task(store.write(add("stays")))
            await asyncio.sleep(0)
            left.cancel()
            held.cancel()
            gate.opened.set()
            assert await stays == "stays"
            assert "stays" in await store.read(names)

    run_on_loop(test())


def test_closing_finishes_what_was_accepted(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            writes = [asyncio.create_task(store.write(add(f"k{n}"))) for n in range(50)]
            await asyncio.sleep(0)
            await store.close()
            assert len(await asyncio.gather(*writes)) == 50
            await store.close()
        async with opener(tmp_path) as store:
            assert len(await store.read(names)) == 50

    run_on_loop(test())


def test_a_closed_store_refuses(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            await store.close()
            with pytest.raises(Unavailable, match="stopping"):
                await store.write(add("k"))
            with pytest.raises(Unavailable, match="stopping"):
                await store.read(names)

    run_on_loop(test())


def test_a_reader_neither_writes_nor_holds_the_writer_up(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            gate = Gate()

            def look(conn: Connection) -> int | None:
                conn.execute(select(func.count()).select_from(api_keys)).scalar()
                gate.op(conn)
                return conn.execute(select(func.count()).select_from(api_keys)).scalar()

            reading = asyncio.create_task(store.read(look))
            await gate.wait_until_entered()
            await store.write(add("k"))  # returns although a reader is at work
            gate.opened.set()
            assert await reading == 1  # and that reader holds no old snapshot
            with pytest.raises(Unavailable):
                await store.read(lambda conn: conn.execute(insert(api_keys).values(id="x")).rowcount)

    run_on_loop(test())


def test_a_faulty_statement_is_not_taken_for_a_broken_database(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            await store.write(add("k"))
            with pytest.raises(Conflict):
                await store.write(add("k"))

    run_on_loop(test())


def test_a_database_of_a_newer_version_is_refused(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            await store.write(
                lambda conn: conn.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'").rowcount
            )
        with pytest.raises(ConfigurationError, match=r"'9999'.*upgrade this installation"):
            async with opener(tmp_path):
                pytest.fail("opened")

    run_on_loop(test())

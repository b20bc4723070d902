"""What every store does, whatever database is behind it."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from example_bundles import make_flavor
from sqlalchemy import Connection, func, insert, select
from store_drivers import OPENERS, Opener

from openlaunch.errors import ConfigurationError, Conflict, Unavailable
from openlaunch.store import audit, bundles, endpoints, keys
from openlaunch.store.audit import AuditFilter
from openlaunch.store.records import (
    AuditRecord,
    BundleRecord,
    CanaryRecord,
    EndpointRecord,
    KeyRecord,
)
from openlaunch.store.tables import api_keys
from openlaunch.wire.endpoint_settings import CallbackBasicAuth, EndpointSpec
from openlaunch.wire.endpoints import CanaryStatus, EndpointOrderBy, EndpointStatus, EndpointType
from openlaunch.wire.keys import Role

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=OPENERS)
def opener(request: pytest.FixtureRequest) -> Opener:
    return OPENERS[request.param]


@pytest.fixture(params=LOOPS)
def run_on_loop(request: pytest.FixtureRequest) -> Callable[[Awaitable[None]], None]:
    """Runs a test's coroutine with a deadline, on each kind of event loop."""

    def run(test: Awaitable[None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60):
                await test

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(bounded())

    return run


Run = Callable[[Awaitable[None]], None]


def key(name: str) -> KeyRecord:
    return KeyRecord(name, "ada", Role.USER, name[:4], name.encode(), created_at=1)


def add(name: str) -> Callable[[Connection], str]:
    def op(conn: Connection) -> str:
        keys.insert(conn, key(name))
        return name

    return op


def names(conn: Connection) -> list[str]:
    return sorted(conn.scalars(select(api_keys.c.id)))


class Gate:
    """An operation that holds the writer until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def op(self, conn: Connection) -> None:
        self.entered.set()
        assert self.opened.wait(30)

    async def wait_until_entered(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 30)


def test_the_use_of_keys_is_added_up_and_a_new_day_begins_at_zero(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            await store.write(add("a"))
            for made, total in (((7, 3), (7, 3)), ((7, 4), (7, 7)), ((8, 2), (8, 2)), ((7, 5), (8, 2))):
                assert await store.write(lambda conn, made=made: keys.add_usage(conn, {"a": made})) == {
                    "a": total
                }
            assert await store.read(keys.usage) == {"a": (8, 2)}

    run_on_loop(test())


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


def test_writes_past_the_bound_are_refused_until_there_is_room(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path, max_pending=6) as store:
            gate = Gate()
            held = asyncio.create_task(store.write(gate.op))
            await gate.wait_until_entered()
            waiting = [asyncio.create_task(store.write(add(name))) for name in "ab"]
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as refused:
                await store.write(add("c"))
            assert refused.value.code == "store_overloaded"
            assert refused.value.retry_after is not None
            gate.opened.set()
            await asyncio.gather(held, *waiting)
            await store.write(add("d"))
            assert await store.read(names) == ["a", "b", "d"]

    run_on_loop(test())


def test_reads_past_the_bound_are_refused(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path, max_pending=1) as store:
            gate = Gate()
            held = asyncio.create_task(store.read(gate.op))
            await gate.wait_until_entered()
            with pytest.raises(Unavailable, match="too many reads wait"):
                await store.read(names)
            gate.opened.set()
            await held
            assert await store.read(names) == []

    run_on_loop(test())


def test_an_owner_whose_writes_wait_leaves_room_to_others(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path, max_pending=4) as store:
            gate = Gate()
            held = asyncio.create_task(store.write(gate.op, "heavy"))
            await gate.wait_until_entered()
            waiting = asyncio.create_task(store.write(add("a"), "heavy"))
            await asyncio.sleep(0)
            with pytest.raises(Unavailable):
                await store.write(add("b"), "heavy")
            other = asyncio.create_task(store.write(add("c"), "light"))
            await asyncio.sleep(0)
            gate.opened.set()
            await asyncio.gather(held, waiting, other)
            assert await store.read(names) == ["a", "c"]

    run_on_loop(test())


def test_owners_take_turns_at_writing(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    order: list[str] = []

    def slow(name: str) -> Callable[[Connection], None]:
        def op(_: Connection) -> None:
            order.append(name)
            time.sleep(0.03)

        return op

    async def test() -> None:
        async with opener(tmp_path) as store:
            gate = Gate()
            held = asyncio.create_task(store.write(gate.op))
            await gate.wait_until_entered()
            heavy = [asyncio.create_task(store.write(slow("heavy"), "heavy")) for _ in range(20)]
            light = asyncio.create_task(store.write(slow("light"), "light"))
            await asyncio.sleep(0)
            gate.opened.set()
            await asyncio.gather(held, light)
            # Its transaction was over before all of the other owner's were begun.
            assert order.index("light") <= 2
            assert len(order) < 10
            await asyncio.gather(*heavy)

    run_on_loop(test())


def test_an_owner_whose_reads_do_not_end_leaves_readers_to_others(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            gate = Gate()
            held = [asyncio.create_task(store.read(gate.op, "heavy")) for _ in range(20)]
            await gate.wait_until_entered()
            for task in held[:10]:
                task.cancel()
            assert await store.read(names, "light") == []
            gate.opened.set()
            await asyncio.gather(*held, return_exceptions=True)
            assert await store.read(names, "heavy") == []

    run_on_loop(test())


def test_old_bundles_go_unless_they_are_used_or_among_the_newest(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            for number in range(8):
                await store.write(lambda conn, n=number: bundles.insert(conn, bundle(n)))
            await store.write(lambda conn: bundles.insert(conn, bundle(8, name="dog")))
            await store.write(lambda conn: bundles.insert(conn, bundle(9, owner="bob")))
            canary = CanaryRecord("bun1", 2, 10, CanaryStatus.STARTING, None, 5.0)
            named = replace(endpoint(1, "cat"), bundle_id="bun0", ready_bundle_id="bun2", canary=canary)
            await store.write(lambda conn: endpoints.insert(conn, named))
            assert await store.write(lambda conn: bundles.delete_old(conn, 2, before=5.0)) == 2
            found = await store.read(lambda c: bundles.get_many(c, bundles.ids_of_owner(c, "*")))
            versions = {each.id: each.version for each in found}
            assert versions == {
                "bun0": 1,
                "bun1": 2,
                "bun2": 3,
                "bun5": 6,
                "bun6": 7,
                "bun7": 8,
                "bun8": 1,
                "bun9": 1,
            }
            assert await store.write(lambda conn: bundles.delete_old(conn, 2, before=5.0)) == 0

    run_on_loop(test())


def test_a_bundle_that_something_names_is_not_deleted(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            for number in range(3):
                await store.write(lambda conn, n=number: bundles.insert(conn, bundle(n)))
            canary = CanaryRecord("bun1", 2, 10, CanaryStatus.STARTING, None, 5.0)
            named = replace(endpoint(1, "cat"), bundle_id="bun0", canary=canary)
            await store.write(lambda conn: endpoints.insert(conn, named))
            for bundle_id in ("bun0", "bun1"):
                with pytest.raises(Conflict, match=bundle_id):
                    await store.write(lambda conn, one=bundle_id: bundles.delete(conn, one))
            await store.write(lambda conn: bundles.delete(conn, "bun2"))
            assert [
                each.id for each in await store.read(lambda c: bundles.get_many(c, ["bun1", "bun0", "bun2"]))
            ] == [
                "bun1",
                "bun0",
            ]

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


# The records.


def bundle(number: int, owner: str = "ada", name: str = "cat") -> BundleRecord:
    flavor = make_flavor()
    return BundleRecord(f"bun{number}", owner, name, flavor, {"m": [1]}, None, {}, created_at=number)


def endpoint(number: int, name: str, owner: str = "ada") -> EndpointRecord:
    spec = EndpointSpec(
        min_workers=0,
        max_workers=1,
        per_worker=1,
        cpus="500m",
        memory=1 << 40,
        storage=1,
        labels={"team": "x"},
        default_callback_auth=CallbackBasicAuth(kind="basic", username="ada", password="secret"),
    )
    pending = EndpointStatus.UPDATE_PENDING
    return EndpointRecord(
        f"end{number}", owner, name, EndpointType.ASYNC, "bun1", 1, spec, pending, None, number, number
    )


def test_keys(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            await store.write(add("k1"))
            await store.write(add("k2"))
            assert await store.write(lambda conn: keys.revoke(conn, "k1", 5)) is True
            assert await store.write(lambda conn: keys.revoke(conn, "k1", 6)) is False
            assert await store.read(keys.active) == [key("k2")]
            assert {k.id: k.revoked_at for k in await store.read(keys.list_all)} == {"k1": 5, "k2": None}
            limited = await store.write(lambda conn: keys.change(conn, "k2", requests_per_day=7, burst=None))
            assert limited == replace(key("k2"), requests_per_day=7)
            assert await store.read(keys.active) == [limited]
            assert await store.write(lambda conn: keys.change(conn, "k1", burst=1)) is None

    run_on_loop(test())


def change(at: float, action: str = "create_key", owner: str | None = "ada") -> AuditRecord:
    return AuditRecord(
        at, "k1", owner, "127.0.0.1", action, "POST", "/v1/keys", f"key_{at:g}", {"also": ["x"]}, 200
    )


def test_the_audit_log(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:

            async def record(entry: AuditRecord, oldest: float = 0, max_entries: int = 10) -> None:
                await store.write(
                    lambda conn: audit.insert(conn, entry, oldest=oldest, max_entries=max_entries)
                )

            async def found(cursor: str | None = None, limit: int = 10, **wanted: Any) -> list[float]:
                page, _ = await store.read(
                    lambda conn: audit.list_page(conn, AuditFilter(**wanted), limit, cursor)
                )
                return [entry.at for entry in page]

            await record(change(1))
            await record(change(2, "revoke_key"))
            await record(change(3, owner=None))
            page, cursor = await store.read(lambda conn: audit.list_page(conn, AuditFilter(), 2))
            assert page == [change(3, owner=None), change(2, "revoke_key")]
            assert await found(cursor) == [1]
            assert await found(action="create_key") == [3, 1]
            assert await found(owner="ada", since=1, until=2) == [1]
            assert await found(object_id="key_2", key_id="k1") == [2]
            await record(change(4), max_entries=3)
            assert await found() == [4, 3, 2]
            await record(change(9), oldest=4)
            assert await found() == [9, 4]

    run_on_loop(test())


def test_where_there_are_too_many_changes_the_owner_with_the_most_loses_the_oldest(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            for at in range(1, 21):
                entry = change(at, owner="bob" if at == 1 else "ada")
                await store.write(
                    lambda conn, entry=entry: audit.insert(conn, entry, oldest=0, max_entries=10)
                )
            page, _ = await store.read(lambda conn: audit.list_page(conn, AuditFilter(), 100))
            assert [entry.at for entry in page] == [*range(20, 11, -1), 1]

    run_on_loop(test())


def test_what_is_refused_to_a_key_has_its_own_room_and_the_same_is_one_entry(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:

            async def refuse(at: float, action: str, since: float = 0, **values: Any) -> None:
                entry = replace(change(at, action), status=403, object_id="x", **values)
                await store.write(lambda conn: audit.insert_refusal(conn, entry, since=since, max_of_key=3))

            await store.write(lambda conn: audit.insert(conn, change(1), oldest=0, max_entries=1))
            for at in (2, 3, 4):
                await refuse(at, "create_key")
            await refuse(5, "create_key", since=4.5)
            await refuse(6, "create_key", key_id="other")
            for number in range(50):
                await refuse(7 + number, f"action_{number}", key_id="noisy")
            page, _ = await store.read(lambda conn: audit.list_page(conn, AuditFilter(), 100))
            assert [(e.at, e.times) for e in page if e.key_id != "noisy"] == [(6, 1), (5, 1), (4, 3), (1, 1)]
            assert [e.action for e in page if e.key_id == "noisy"] == ["action_49", "action_48", "action_47"]

    run_on_loop(test())


def test_the_newest_bundle_of_a_name_is_the_latest(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            stored = [bundle(1), bundle(2), bundle(3, name="dog"), bundle(4, owner="bob")]
            for record in stored:
                await store.write(lambda conn, record=record: bundles.insert(conn, record))
            assert await store.read(lambda conn: bundles.latest(conn, "ada", "cat")) == stored[1]
            assert await store.read(lambda conn: bundles.get(conn, "bun4", "ada")) is None
            assert await store.read(lambda conn: bundles.get(conn, "bun4")) == stored[3]
            mine = await store.read(lambda conn: bundles.get_many(conn, bundles.ids_of_owner(conn, "ada")))
            assert [record.id for record in mine] == ["bun3", "bun2", "bun1"]

    run_on_loop(test())


def test_endpoints(opener: Opener, run_on_loop: Run, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            await store.write(lambda conn: bundles.insert(conn, bundle(1)))
            for record in (endpoint(1, "b"), endpoint(2, "a"), endpoint(3, "b", owner="bob")):
                await store.write(lambda conn, record=record: endpoints.insert(conn, record))
            with pytest.raises(Conflict, match="'a' exists"):
                await store.write(lambda conn: endpoints.insert(conn, endpoint(4, "a")))
            assert await store.read(lambda conn: endpoints.get_by_name(conn, "ada", "b")) == endpoint(1, "b")
            assert await store.read(lambda conn: endpoints.get(conn, "end3", "ada")) is None
            by_name = await store.read(
                lambda conn: endpoints.list_by_owner(conn, "ada", order_by=EndpointOrderBy.ALPHABETICAL)
            )
            assert [record.id for record in by_name] == ["end2", "end1"]
            assert [record.id for record in await store.read(endpoints.list_all)] == ["end1", "end2", "end3"]
            await store.write(lambda conn: endpoints.delete(conn, "end1"))
            assert await store.read(lambda conn: endpoints.get(conn, "end1")) is None

    run_on_loop(test())


def test_the_status_of_an_old_generation_is_not_recorded(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    def set_ready(generation: int) -> Callable[[Connection], bool]:
        ready = EndpointStatus.READY
        return lambda conn: endpoints.set_status(conn, "end1", generation, ready, None, 9, generation, "bun1")

    async def test() -> None:
        async with opener(tmp_path) as store:
            await store.write(lambda conn: bundles.insert(conn, bundle(1)))
            await store.write(lambda conn: endpoints.insert(conn, endpoint(1, "a")))
            assert await store.write(set_ready(0)) is False
            assert await store.write(set_ready(1)) is True
            record = await store.read(lambda conn: endpoints.get(conn, "end1"))
            assert record is not None
            assert (record.status, record.ready_generation) == (EndpointStatus.READY, 1)

    run_on_loop(test())


def test_a_canary_is_stored_and_set_only_while_it_is_the_endpoints(
    opener: Opener, run_on_loop: Run, tmp_path: Path
) -> None:
    started = CanaryRecord("bun2", 2, 10, CanaryStatus.STARTING, None, 5.0, rollback_after_failures=3)

    def set_to(generation: int, status: CanaryStatus) -> Callable[[Connection], bool]:
        return lambda conn: endpoints.set_canary(conn, "end1", generation, status, "because")

    async def test() -> None:
        async with opener(tmp_path) as store:
            await store.write(lambda conn: bundles.insert(conn, bundle(1)))
            await store.write(lambda conn: endpoints.insert(conn, endpoint(1, "a")))
            assert await store.write(set_to(2, CanaryStatus.SERVING)) is False
            await store.write(lambda conn: endpoints.update(conn, replace(endpoint(1, "a"), canary=started)))
            assert await store.write(set_to(3, CanaryStatus.SERVING)) is False
            record = await store.read(lambda conn: endpoints.get(conn, "end1"))
            assert record is not None
            assert record.canary == started
            assert await store.write(set_to(2, CanaryStatus.FAILED)) is True
            assert await store.write(set_to(2, CanaryStatus.SERVING)) is False
            record = await store.read(lambda conn: endpoints.get(conn, "end1"))
            assert record is not None
            assert record.canary == replace(started, status=CanaryStatus.FAILED, reason="because")

    run_on_loop(test())

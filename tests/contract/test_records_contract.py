"""What is kept of each kind of record, whatever database is behind it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from example_bundles import make_flavor
from sqlalchemy import Connection
from store_calls import Run, add, key
from store_drivers import Opener

from openlaunch.errors import Conflict
from openlaunch.store import audit, bundles, endpoints, keys
from openlaunch.store.audit import AuditFilter
from openlaunch.store.records import (
    AuditRecord,
    BundleRecord,
    CanaryRecord,
    EndpointRecord,
)
from openlaunch.wire.endpoint_settings import CallbackBasicAuth, EndpointSpec
from openlaunch.wire.endpoints import CanaryStatus, EndpointOrderBy, EndpointStatus, EndpointType


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
                lambda conn: endpoints.ids_of_owner(conn, "ada", order_by=EndpointOrderBy.ALPHABETICAL)
            )
            assert by_name == ["end2", "end1"]
            found = await store.read(lambda conn: list(endpoints.get_many(conn, ["end2", "gone", "end1"])))
            assert [record.id for record in found] == by_name
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

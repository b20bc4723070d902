"""The list of an endpoint's events, whatever database is behind it, and what collects them for it."""

import asyncio
import time
from pathlib import Path

import pytest
from store_drivers import Database, Opener

from openlaunch.controller import events as log_module
from openlaunch.controller.events import EventLog
from openlaunch.errors import Unavailable
from openlaunch.store import events
from openlaunch.store.events import MAX_EVENTS, MERGE_AMONG, MERGE_SECONDS, EventRecord
from openlaunch.wire.events import EventKind


def event(detail: str, at: float = 0.0, endpoint_id: str = "end", kind: str = "created") -> EventRecord:
    return EventRecord(endpoint_id, kind, detail, at, at)


def add(db: Database, *new: EventRecord) -> None:
    db.write(lambda conn: events.add(conn, new))


def listed(db: Database, after: int = 0, endpoint_id: str = "end") -> list[EventRecord]:
    return db.read(lambda conn: events.list_after(conn, endpoint_id, after))


def counts(db: Database) -> list[tuple[str, int]]:
    return [(e.detail, e.count) for e in listed(db)]


def test_events_are_listed_in_their_order_each_endpoints_own(db: Database) -> None:
    add(db, event("a"), event("b", endpoint_id="other"), event("c"))
    assert counts(db) == [("a", 1), ("c", 1)]


def test_what_repeats_is_counted_where_it_happened_last(db: Database) -> None:
    add(db, event("a", 1), event("b", 2), event("a", 3), event("a", 4))
    assert counts(db) == [("b", 1), ("a", 3)]
    again = listed(db)[-1]
    assert (again.first_at, again.last_at) == (1, 4)


def test_a_cursor_shows_what_was_counted_since(db: Database) -> None:
    add(db, event("a"), event("b"))
    cursor = listed(db)[-1].seq or 0
    add(db, event("b"))
    assert [(e.detail, e.count) for e in listed(db, cursor)] == [("b", 2)]


def test_what_happened_long_ago_is_not_counted_with(db: Database) -> None:
    add(db, event("a", 0), event("a", MERGE_SECONDS))
    assert counts(db) == [("a", 1), ("a", 1)]


def test_what_is_many_events_back_is_not_counted_with(db: Database) -> None:
    add(db, event("a"), *(event(str(n)) for n in range(MERGE_AMONG)), event("a"))
    assert counts(db)[0] == ("a", 1)
    assert counts(db)[-1] == ("a", 1)


def test_the_oldest_go_where_there_are_too_many(db: Database) -> None:
    add(db, *(event(str(n)) for n in range(MAX_EVENTS + 5)), event("x", endpoint_id="other"))
    assert len(listed(db)) == MAX_EVENTS
    assert listed(db)[0].detail == "5"
    assert len(listed(db, endpoint_id="other")) == 1


def test_a_deleted_endpoint_leaves_none(db: Database) -> None:
    add(db, event("a"), event("b", endpoint_id="other"))
    db.write(lambda conn: events.delete_all(conn, "end"))
    assert listed(db) == []
    assert len(listed(db, endpoint_id="other")) == 1


def test_a_store_that_can_not_be_written_delays_events_and_loses_none(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "AGAIN_SECONDS", 0.01)

    async def test() -> None:
        async with opener(tmp_path) as store:
            write, failures = store.write, 3

            async def failing(op: object) -> object:
                nonlocal failures
                failures -= 1
                if failures >= 0:
                    raise Unavailable("the disk is full")
                return await write(op)  # type: ignore[arg-type]

            store.write = failing  # type: ignore[method-assign, assignment]
            log = EventLog(store, time.time)
            for detail in "abc":
                log.add("end", EventKind.UPDATED, detail)
                await asyncio.sleep(0.005)
            found = await log.read("end", 0, wait=10, limit=10)
            await log.stop()
            found = await log.read("end", 0, wait=0, limit=10)
            assert [record.detail for record in found] == ["a", "b", "c"]

    asyncio.run(test())


def test_who_reads_sees_what_has_happened_before(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "COLLECT_SECONDS", 60)

    async def test() -> None:
        async with opener(tmp_path) as store:
            log = EventLog(store, time.time)
            for detail in "ab":
                log.add("end", EventKind.UPDATED, detail)
                log.add("other", EventKind.UPDATED, detail)
                found = await log.read("end", 0, wait=0, limit=10)
                assert found[-1].detail == detail
            await log.stop()

    asyncio.run(test())


def test_a_reader_that_waits_is_let_go_when_the_server_stops(opener: Opener, tmp_path: Path) -> None:
    async def test() -> None:
        async with opener(tmp_path) as store:
            log = EventLog(store, time.time)
            waiting = asyncio.create_task(log.read("end", 0, wait=60, limit=10))
            await asyncio.sleep(0.05)
            log.close()
            async with asyncio.timeout(5):
                assert await waiting == []

    asyncio.run(test())

"""Records that go from one database to another, of each kind, with everything in the state that it was in."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from example_bundles import make_bundle
from sqlalchemy import Connection, insert, select
from store_drivers import OPENERS

from openlaunch.errors import ConfigurationError
from openlaunch.store import answers, bundles, copying, events
from openlaunch.store.answers import AnswerRecord
from openlaunch.store.base import Store
from openlaunch.store.copying import PAGE, copy_records
from openlaunch.store.events import EventRecord
from openlaunch.store.tables import metadata, quotas
from openlaunch.tasks import control, queue
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State

T = TypeVar("T")
STATES = ["PENDING", "STARTED", "SUCCESS", "FAILURE", "CANCELLED"]


@dataclass
class Pair:
    """Two stores, and a loop on which both are."""

    source: Store
    target: Store
    runner: asyncio.Runner

    def copy(self) -> dict[str, int]:
        return self.runner.run(copy_records(self.source, self.target))

    def write(self, store: Store, op: Callable[[Connection], T]) -> T:
        return self.runner.run(store.write(op))

    def everything(self, store: Store) -> dict[str, list[tuple[object, ...]]]:
        return self.runner.run(store.read(everything))


@pytest.fixture(params=itertools.product(OPENERS, OPENERS), ids="-to-".join)
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """A source that has something of most kinds, and an empty target."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        opened = []
        for place, kind in zip(("from", "to"), request.param, strict=True):
            (tmp_path / place).mkdir()
            opened.append(runner.run(stack.enter_async_context(OPENERS[kind](tmp_path / place))))
        runner.run(opened[0].write(fill))
        yield Pair(*opened, runner)
        runner.run(stack.aclose())


def task(task_id: str, priority: int = 0, key: str | None = None) -> NewTask:
    payload = b"\x00\xff" + task_id.encode()
    digest = None if key is None else b"d"
    return NewTask(
        task_id,
        "end",
        "ada",
        1000.25,
        3,
        payload,
        priority=priority,
        idempotency_key=key,
        idempotency_digest=digest,
    )


def fill(conn: Connection) -> None:
    """Store something of most kinds, and tasks in every state."""
    bundles.insert(conn, make_bundle("bun_ä\N{ROCKET}", schemas={"request": {"type": ["object", None]}}))
    conn.execute(insert(quotas).values(owner="Zoë", limits={"endpoints": 1.5}))
    conn.execute(insert(quotas).values(owner="ada", limits={}))
    events.add(conn, [EventRecord("end", "started", "a\tb", 0.1, 0.3)])
    for owner in ("ada", "Bob"):
        answers.put(conn, AnswerRecord(owner, "key", b"\x00", 7.5, body=b"{}"))
    queue.submit(conn, [task("done"), task("failed"), task("running"), task("gone")], 1.125)
    queue.claim(conn, "end", 3, "me", 30, 2.5)
    queue.complete(
        conn, [Finished("done", State.SUCCESS, 200, b"\xfe"), queue.failed("failed", "why", 500)], 3
    )
    control.cancel(conn, "ada", "gone", 4)
    queue.submit(conn, [task("low"), task("high", priority=5), task("keyed", key="k")], 5)


def everything(conn: Connection) -> dict[str, list[tuple[object, ...]]]:
    found = {}
    for table in metadata.sorted_tables:
        columns = [column for column in table.c if column.name != "started_at"]
        found[table.name] = sorted((tuple(row) for row in conn.execute(select(*columns))), key=repr)
    return found


def test_everything_is_as_it_was(pair: Pair) -> None:
    counts = pair.copy()

    there = pair.everything(pair.target)
    assert there == pair.everything(pair.source)
    assert counts == {name: len(rows) for name, rows in there.items()}
    assert {value for row in there["tasks"] for value in row} >= set(STATES)


def test_the_queue_runs_on_where_it_was(pair: Pair) -> None:
    pair.copy()

    again = pair.write(pair.target, lambda conn: queue.submit(conn, [task("new"), task("same", key="k")], 6))
    claimed = pair.write(pair.target, lambda conn: queue.claim(conn, "end", 10, "me", 30, 7))
    left = pair.write(pair.target, lambda conn: queue.give_back(conn, ["running"], "left", 8, died=False))

    assert again == ["new", "keyed"]
    assert [one.id for one in claimed] == ["high", "low", "keyed", "new"]
    assert all(one.payload == b"\x00\xff" + one.id.encode() for one in claimed)
    assert left == [("running", State.PENDING)]


def test_it_can_be_run_again(pair: Pair) -> None:
    first = pair.copy()
    before = pair.everything(pair.target)

    assert pair.copy() == first
    assert pair.everything(pair.target) == before


def test_a_target_with_other_records_is_refused_and_left_as_it_is(pair: Pair) -> None:
    pair.write(pair.target, lambda conn: queue.submit(conn, [task("other")], 1))
    before = pair.everything(pair.target)

    with pytest.raises(
        ConfigurationError, match=r"has records already \(tasks\): name a database that is empty"
    ):
        pair.copy()
    assert pair.everything(pair.target) == before


def test_more_rows_than_a_page_are_copied(pair: Pair) -> None:
    many = [task(f"t{number}") for number in range(2 * PAGE + 1)]
    pair.write(pair.source, lambda conn: queue.submit(conn, many, 1))

    pair.copy()

    assert (
        len(pair.everything(pair.target)["tasks"]) == len(pair.everything(pair.source)["tasks"]) > len(many)
    )


def test_a_copy_that_fails_leaves_the_target_empty(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(copying, "_copy", broken_copy(copying._copy))
        with pytest.raises(OSError, match="power cut"):
            pair.copy()

    assert not any(pair.everything(pair.target).values())
    pair.copy()
    assert pair.everything(pair.target) == pair.everything(pair.source)


def broken_copy(copy: Callable[..., None]) -> Callable[..., None]:
    def then_fail(*given: Any) -> None:
        copy(*given)
        raise OSError("power cut")

    return then_fail

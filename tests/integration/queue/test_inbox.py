"""Submissions that come while one is on its way to disk are stored together, and each succeeds or fails alone."""

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from records import open_store

from openlaunch.background import BackgroundTasks
from openlaunch.errors import Unavailable, Unprocessable
from openlaunch.server import clock
from openlaunch.server.queue import inbox
from openlaunch.server.queue.inbox import Inbox, Submission
from openlaunch.server.queue.shared import MAX_TOGETHER, MAX_TOGETHER_BYTES
from openlaunch.store.base import OUTCOME_UNKNOWN, Store
from openlaunch.tasks import lookups, queue
from openlaunch.tasks.queue import NewTask

LANE: Any = SimpleNamespace(endpoint=SimpleNamespace(id="end"))


class Claimer:
    """Claims as the server's does, and notes what would run."""

    def __init__(self) -> None:
        self.runs: list[str] = []

    def claim_of(self, lane: Any) -> Any:
        return lambda conn, limit: queue.claim(conn, lane.endpoint.id, limit, "me", 60, clock.now())

    async def run(self, lane: Any, claimed: Any) -> None:
        self.runs += [task.id for task in claimed]


class World:
    """An inbox before a store that counts."""

    def __init__(self, store: Store) -> None:
        self.store, self.writes, self.claimer = store, 0, Claimer()
        self.is_service = True
        self.background = BackgroundTasks("failed")
        self.inbox = self.made()

    def made(self) -> Inbox:
        shared: Any = SimpleNamespace(store=self, background=self.background)
        return Inbox(shared, self.claimer)  # type: ignore[arg-type]

    async def write(self, op: Any, owner: str = "") -> Any:
        self.writes += 1
        return await self.store.write(op, owner)

    async def put(
        self,
        *ids: str,
        key: str | None = None,
        digest: bytes = b"",
        wanted: int = 0,
        payload: bytes = b"{}",
        owner: str = "ada",
    ) -> Any:
        keyed = {"idempotency_key": key, "idempotency_digest": digest}
        new = [NewTask(i, "end", owner, clock.now() + 60, 3, payload, **keyed) for i in ids]
        return await self.inbox.put(LANE, owner, Submission(new, [], wanted))


def run(folder: Path, test: Any) -> None:
    async def main() -> None:
        store = await open_store(folder)
        try:
            await test(World(store))
        finally:
            await store.close()

    asyncio.run(main())


def test_what_comes_together_is_stored_together(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        stored = await asyncio.gather(*(world.put(f"a{n}", f"b{n}", wanted=1) for n in range(20)))
        assert [ids for ids, _ in stored] == [[f"a{n}", f"b{n}"] for n in range(20)]
        assert sum(len(claimed) for _, claimed in stored) == 20
        assert world.writes == 1

    run(tmp_path, test)


def test_no_more_are_stored_together_than_a_transaction_should_take(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        many = [[f"{n}-{m}" for m in range(MAX_TOGETHER // 2)] for n in range(5)]
        await asyncio.gather(world.put("first"), *(world.put(*ids) for ids in many))
        assert world.writes == 3, "the first one with two hundred others"

    run(tmp_path, test)


def test_no_more_bytes_are_stored_together_than_a_statement_should_have(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        quarter = bytes(MAX_TOGETHER_BYTES // 4)
        await asyncio.gather(*(world.put(str(n), payload=quarter) for n in range(9)))
        assert world.writes == 3, "three and their rows, three times"
        await world.put("large", payload=2 * MAX_TOGETHER_BYTES * b"x")

    run(tmp_path, test)


def test_what_waits_for_the_store_takes_bounded_memory_and_each_owner_a_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers who go away, and those who were told to look later, hold nothing that is waited for without end."""
    monkeypatch.setattr(inbox, "MAX_WAITING_BYTES", 1000_000)

    async def test(world: World) -> None:
        async def put_many(owner: str) -> list[Any]:
            """Submit as much as four times what there may be; return what was refused at once."""
            put = [
                asyncio.create_task(world.put(f"{owner}{n}", payload=bytes(40_000), owner=owner))
                for n in range(100)
            ]
            done, waiting = await asyncio.wait(put, timeout=0.1)
            for each in waiting:
                each.cancel()
            return [each.exception() for each in done]

        goes_on = threading.Event()
        before = asyncio.create_task(world.store.write(lambda conn: goes_on.wait(60)))
        first, other, again = await put_many("ada"), await put_many("bob"), await put_many("ada")
        assert [len(first), len(other), len(again)] == [88, 94, 100], "a half, and a quarter"
        assert {error.code for error in (*first, *other, *again)} == {"bodies_full"}
        goes_on.set()
        await before
        async with asyncio.timeout(60):
            while world.inbox._memory.held:  # the store's thread ends, and then the loop hears of it
                await asyncio.sleep(0.01)
        assert (await world.put("last", payload=bytes(400_000)))[0] == ["last"]

    run(tmp_path, test)


def test_one_that_is_refused_fails_alone(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        await world.put("old", key="k", digest=b"1")
        together = [world.put("a"), world.put("b"), world.put("c", key="k", digest=b"2"), world.put("d")]
        outcomes = await asyncio.gather(
            *together, world.put("e", key="k", digest=b"1"), return_exceptions=True
        )
        assert isinstance(outcomes.pop(2), Unprocessable)
        assert [ids for ids, _ in outcomes] == [["a"], ["b"], ["d"], ["old"]]
        known = await world.store.read(lambda conn: lookups.progress_of(conn, "ada", list("abcde")))
        assert known.keys() == {"a", "b", "d"}

    run(tmp_path, test)


def test_a_caller_that_has_gone_loses_no_task(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        gone = asyncio.create_task(world.put("a", wanted=3))
        others = [asyncio.create_task(world.put(name)) for name in "bc"]
        await asyncio.sleep(0)
        gone.cancel()
        assert [(await task)[0] for task in others] == [["b"], ["c"]]
        assert world.claimer.runs == ["a", "b", "c"], "claimed with the one that has gone"
        assert (await world.put("d"))[0] == ["d"]

    run(tmp_path, test)


def test_all_learn_that_the_store_has_failed(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async def fails(op: Any, owner: str = "") -> Any:
            await asyncio.sleep(0)
            raise Unavailable("the disk is full")

        world.write = fails  # type: ignore[method-assign]
        outcomes = await asyncio.gather(*(world.put(f"t{n}") for n in range(4)), return_exceptions=True)
        assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
        del world.write
        assert (await world.put("t9"))[0] == ["t9"]

    run(tmp_path, test)


async def refusals(*submissions: Any) -> list[str]:
    """The codes with which the store's standing still refuses them all."""
    outcomes = await asyncio.gather(*submissions, return_exceptions=True)
    assert all(isinstance(outcome, Unavailable) and outcome.retry_after for outcome in outcomes)
    return [outcome.code for outcome in outcomes]


def test_what_a_store_that_stands_still_has_not_begun_with_is_never_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "WAIT_SECONDS", 0.05)

    async def test(world: World) -> None:
        goes_on = threading.Event()
        before = asyncio.create_task(world.store.write(lambda conn: goes_on.wait(60)))
        codes = await refusals(world.put("a", wanted=1), world.put("b"))
        assert codes == ["store_unavailable"] * 2
        goes_on.set()
        await before
        monkeypatch.setattr(inbox, "WAIT_SECONDS", 60)
        world.inbox = world.made()
        assert (await world.put("c"))[0] == ["c"]
        assert set(await world.store.read(lambda conn: lookups.progress_of(conn, "ada", list("abc")))) == {
            "c"
        }
        assert world.claimer.runs == []

    run(tmp_path, test)


def test_what_it_has_begun_with_may_be_stored_and_then_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "WAIT_SECONDS", 0.05)

    async def test(world: World) -> None:
        goes_on = threading.Event()

        async def stands_still(op: Any, owner: str = "") -> Any:
            return await world.store.write(lambda conn: (op(conn), goes_on.wait(60))[0], owner)

        world.write = stands_still  # type: ignore[method-assign]
        assert await refusals(world.put("a", wanted=2), world.put("b")) == [OUTCOME_UNKNOWN] * 2
        goes_on.set()
        async with asyncio.timeout(60):
            while world.claimer.runs != ["a", "b"]:
                await asyncio.sleep(0.01)

    run(tmp_path, test)


@pytest.mark.parametrize("turns_of_the_loop", [2, 10])
def test_a_server_that_stops_stores_nothing_that_it_has_refused(
    tmp_path: Path, turns_of_the_loop: int
) -> None:
    async def test(world: World) -> None:
        goes_on = threading.Event()
        before = asyncio.create_task(world.store.write(lambda conn: goes_on.wait(60)))
        put = asyncio.create_task(refusals(world.put("a")))
        for _ in range(turns_of_the_loop):
            await asyncio.sleep(0)
        await world.background.stop()
        assert await put == ["stopping"]
        goes_on.set()
        await before
        await world.store.write(lambda conn: None)
        assert set(await world.store.read(lambda conn: lookups.progress_of(conn, "ada", ["a"]))) == set()

    run(tmp_path, test)

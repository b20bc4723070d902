"""Bounds of what waits for a store, and the turns of its owners, whatever database is behind it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection
from store_calls import Gate, Run, add, names
from store_drivers import Opener

from openlaunch.errors import Unavailable


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

"""The hub loses no wake-up, keeps nothing of those who left, and has a bound."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps

import pytest

from openlaunch.errors import TooManyRequests
from openlaunch.tasks.hub import MAX_RECENT_BYTES, Hub
from openlaunch.tasks.queue import Finished
from openlaunch.tasks.states import State

LONG = 30


def on_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        async def bounded() -> None:
            async with asyncio.timeout(10):
                await test()

        asyncio.run(bounded())

    return run


def is_empty(hub: Hub) -> bool:
    return not hub._waiters and not hub._by_id


@on_loop
async def test_an_announcement_wakes_all_who_wait_for_that_task() -> None:
    hub = Hub()
    with hub.waiter(["a"]) as one, hub.waiter(["b", "a"]) as two, hub.waiter(["b"]) as other:
        waiting = [asyncio.create_task(waiter.wait(LONG)) for waiter in (one, two)]
        not_woken = asyncio.create_task(other.wait(0.01))
        await asyncio.sleep(0)
        hub.announce(["a", "unknown"])
        assert await asyncio.gather(*waiting) == [True, True]
        assert await not_woken is False
    assert is_empty(hub)


@on_loop
async def test_an_announcement_between_the_look_and_the_wait_is_kept() -> None:
    hub = Hub()
    with hub.waiter(["a"]) as waiter:
        hub.announce(["a"])
        assert await waiter.wait(LONG) is True
        assert await waiter.wait(0) is False


@on_loop
async def test_each_of_several_announcements_wakes() -> None:
    hub = Hub()
    with hub.waiter(["a", "b"]) as waiter:
        hub.announce(["a"])
        assert await waiter.wait(LONG) is True
        hub.announce(["b"])
        assert await waiter.wait(LONG) is True


@on_loop
async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    hub = Hub()

    async def wait() -> None:
        with hub.waiter(["a", "b"]) as waiter:
            await waiter.wait(LONG)

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    assert not is_empty(hub)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert is_empty(hub)


@on_loop
async def test_closing_wakes_everybody_now_and_later() -> None:
    hub = Hub()
    with hub.waiter(["a"]) as early:
        waiting = asyncio.create_task(early.wait(LONG))
        await asyncio.sleep(0)
        hub.close()
        assert hub.closed
        assert await waiting is True
    with hub.waiter(["b"]) as late:
        assert await late.wait(LONG) is True
    assert is_empty(hub)


@on_loop
async def test_a_waiter_past_the_bound_is_refused_until_one_leaves() -> None:
    hub = Hub(max_waiters=2)
    with hub.waiter(["a"]):
        with hub.waiter(["b"]), pytest.raises(TooManyRequests, match="2 requests wait") as refused:
            hub.waiter(["c"]).__enter__()
        assert refused.value.retry_after == 1
        with hub.waiter(["c"]):
            pass
    assert is_empty(hub)


@on_loop
async def test_the_result_of_a_task_that_ran_here_is_known_to_its_owner_for_a_while() -> None:
    hub = Hub()
    result = Finished("a", State.SUCCESS, 200, b"{}")
    hub.expect("a", "ada")
    hub.announce(["a", "b"], {"a": result, "b": Finished("b", State.SUCCESS, 200, b"{}")})
    assert hub.results(["a", "b"], "ada") == {"a": result}
    assert hub.results(["a"], "bob") == {}
    hub.drop(["a", "b"])
    assert hub.results(["a"], "ada") == {}

    short = Hub(recent_seconds=0)
    short.expect("a", "ada")
    short.announce(["a"], {"a": result})
    assert short.results(["a"], "ada") == {}


@on_loop
async def test_the_latest_results_are_kept_within_a_limit() -> None:
    hub, large = Hub(), b"x" * (MAX_RECENT_BYTES // 4)
    for task_id in "abcdef":
        hub.expect(task_id, "ada")
        hub.announce([task_id], {task_id: Finished(task_id, State.SUCCESS, 200, large)})
    assert list(hub.results("abcdef", "ada")) == ["d", "e", "f"]

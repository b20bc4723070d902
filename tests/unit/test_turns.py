"""Owners take turns in a queue."""

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.turns import FairQueue, LoopTurns, Turns


def turns(*items: str) -> FairQueue[str]:
    """A queue of items such as "a0", whose owner is their first letter."""
    queue = FairQueue[str]()
    for item in items:
        queue.append(item[0], item)
    return queue


def emptied(queue: FairQueue[str]) -> list[str]:
    return [queue.popleft() for _ in range(queue.size)]


def test_one_owner_has_a_plain_queue():
    assert emptied(turns("a0", "a1", "a2")) == ["a0", "a1", "a2"]


def test_owners_take_turns():
    assert emptied(turns("a0", "a1", "a2", "b0", "c0", "c1")) == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_who_comes_back_is_behind_those_who_wait():
    queue = turns("a0", "b0", "b1")
    assert queue.popleft() == "a0"
    queue.append("a", "a1")
    assert emptied(queue) == ["b0", "a1", "b1"]


def test_room_is_made_by_who_has_most_for_who_has_less():
    queue = turns("a0", "a1", "a2", "b0")
    assert queue.make_room_for("a") is None
    assert queue.make_room_for("c") == "a2"
    assert queue.make_room_for("b") is None, "it would only change places"
    assert emptied(queue) == ["a0", "b0", "a1"]


def test_nobody_makes_room_in_an_empty_queue():
    assert FairQueue[str]().make_room_for("a") is None


def test_what_is_not_wanted_is_dropped_with_its_owners_turn():
    queue = turns("a0", "b0", "b1", "c0")
    queue.keep(lambda item: item not in ("a0", "b0"))
    assert queue.size == 2
    assert emptied(queue) == ["b1", "c0"]


def test_one_item_can_be_taken_out():
    queue = turns("a0", "b0", "b1")
    assert [queue.remove("a", "a0"), queue.remove("a", "a0"), queue.remove("b", "b1")] == [True, False, True]
    assert emptied(queue) == ["b0"]


def test_everything_can_be_taken_out():
    queue = turns("a0", "b0", "a1")
    assert sorted(queue.clear()) == ["a0", "a1", "b0"]
    assert (queue.size, list(queue)) == (0, [])


@given(st.lists(st.sampled_from("abc"), max_size=30), st.sampled_from("abcd"))
def test_as_many_are_ahead_as_are_served_before(owners, mine):
    queue = turns(*(f"{owner}{n}" for n, owner in enumerate(owners)))
    ahead = queue.ahead_of(mine)
    queue.append(mine, "mine")
    served = emptied(queue).index("mine")
    # A turn that has begun may be somebody else's or one's own: one more or less of each.
    assert served <= ahead
    assert ahead - served <= len(set(owners))


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=60))
def test_nobody_gets_a_second_turn_before_all_who_wait_had_one(owners):
    queue = turns(*(f"{owner}{n}" for n, owner in enumerate(owners)))
    left = Counter(owners)
    served: Counter[str] = Counter()
    while queue.size:
        owner = queue.popleft()[0]
        served[owner] += 1
        left[owner] -= 1
        assert all(served[owner] - served[other] <= 1 for other in left if left[other])
    assert served == Counter(owners)


def held(turns: Turns, *owners: str) -> list[bool]:
    return [turns.take(owner) for owner in owners]


def test_an_owner_leaves_places_to_others():
    shared = Turns(8)
    assert held(shared, *"aaaaa") == [True] * 4 + [False]
    assert held(shared, *"bbb") == [True, True, False]
    assert held(shared, *"ccdd") == [True, False, True, False]
    assert shared.room("e") == 0


@given(st.integers(1, 20), st.lists(st.sampled_from("abc"), max_size=40))
def test_there_is_room_for_as_many_as_can_be_taken(places, owners):
    shared = Turns(places)
    for owner in owners:
        shared.take(owner)
    room = shared.room("a")
    assert held(shared, *"a" * (room + 1)) == [True] * room + [False]


def test_one_place_is_for_whoever_comes_first():
    shared = Turns(1)
    assert held(shared, "a", "b") == [True, False]
    shared.give_back("a")
    assert held(shared, "b") == [True]


class Worker:
    """Holds a place until it is let go."""

    def __init__(self, shared: Turns, owner: str, order: list[str]) -> None:
        self.end = asyncio.Event()
        self.task = asyncio.create_task(self._run(shared, owner, order))

    async def _run(self, shared: Turns, owner: str, order: list[str]) -> None:
        async with shared.of(owner):
            order.append(owner)
            await self.end.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_owners_who_wait_take_turns():
    async def main() -> list[str]:
        shared, order = Turns(1), list[str]()
        workers = [Worker(shared, owner, order) for owner in "aaabc"]
        await settle()
        for worker in workers:
            worker.end.set()
        await asyncio.gather(*(worker.task for worker in workers))
        return order

    assert asyncio.run(main()) == ["a", "a", "b", "c", "a"]


def test_who_may_not_have_more_is_passed_over():
    async def main() -> list[str]:
        shared, order = Turns(4), list[str]()
        workers = [Worker(shared, owner, order) for owner in "aaabb"]
        await settle()
        assert order == ["a", "a", "b"]
        workers[3].end.set()
        await settle()
        for worker in workers:
            worker.end.set()
        await asyncio.gather(*(worker.task for worker in workers))
        return order

    assert asyncio.run(main()) == ["a", "a", "b", "b", "a"]


def test_who_gives_up_waiting_leaves_the_place_to_others():
    async def main() -> None:
        shared, order = Turns(1), list[str]()
        first, second, third = (Worker(shared, owner, order) for owner in "abc")
        await settle()
        second.task.cancel()
        await settle()
        first.end.set()
        await settle()
        assert order == ["a", "c"]
        third.task.cancel()
        await settle()
        assert shared.room("a") == 1

    asyncio.run(main())


def test_a_place_that_came_with_the_cancellation_is_not_lost():
    async def main() -> None:
        shared, order = Turns(1), list[str]()
        shared.take("a")
        waiting = Worker(shared, "b", order)
        await settle()
        shared.give_back("a")
        waiting.task.cancel()
        await settle()
        assert (order, shared.room("c")) == ([], 1)

    asyncio.run(main())


def test_a_place_that_is_free_just_after_the_cancellation_is_not_lost():
    async def main() -> None:
        shared, order = Turns(1), list[str]()
        shared.take("a")
        waiting, next_one = Worker(shared, "b", order), Worker(shared, "c", order)
        await settle()
        waiting.task.cancel()
        shared.give_back("a")
        await settle()
        assert order == ["c"]
        next_one.end.set()
        await settle()
        assert shared.room("a") == 1

    asyncio.run(main())


def test_a_place_is_held_until_the_work_has_ended_whoever_waits_for_it():
    async def main() -> None:
        shared, done = Turns(1), asyncio.get_running_loop().create_future()
        caller = asyncio.create_task(shared.run("a", lambda: done))
        await settle()
        caller.cancel()
        await settle()
        assert shared.room("b") == 0
        done.set_result(None)
        await settle()
        assert shared.room("b") == 1

    asyncio.run(main())


def test_the_next_turn_is_of_who_was_given_least():
    queue = turns(*[f"{owner}{n}" for n in range(20) for owner in "ls"])
    amounts = {"l": 1000, "s": 100}
    for owner, amount in amounts.items():
        queue.charge(owner, amount, waited=False)
    taken = Counter[str]()
    for _ in range(22):
        owner = queue.popleft()[0]
        taken[owner] += 1
        queue.charge(owner, amounts[owner], waited=True)
    assert taken["s"] == 20  # ten for each long one, as far as there are any
    assert taken["l"] == 2


def test_what_is_taken_at_once_is_shared_before_its_cost_is_known():
    queue = turns("a0", "a1", "a2", "b0", "b1", "b2")
    queue.charge("a", 100, waited=False)
    queue.charge("b", 100, waited=False)
    assert Counter(item[0] for item in (queue.popleft() for _ in range(4))) == {"a": 2, "b": 2}


def test_who_comes_anew_has_no_credit_for_the_time_away():
    queue = turns("a0", "a1", "a2")
    queue.charge("a", 10_000, waited=False)
    for item in ("b0", "b1", "b2"):
        queue.append("b", item)
    assert Counter(item[0] for item in (queue.popleft() for _ in range(4))) == {"a": 2, "b": 2}


class Steps:
    """Work that is run in turns, and the steps that were taken of it."""

    def __init__(self) -> None:
        self.turns = LoopTurns()
        self.taken: list[str] = []

    async def work(self, name: str, steps: int) -> str:
        for _ in range(steps):
            self.taken.append(name)
            await asyncio.sleep(0)
        return name

    def begin(self, name: str, steps: int = 1) -> "asyncio.Task[str]":
        return asyncio.create_task(self.turns.run(name[0], self.work(name, steps)))


def test_one_step_is_taken_in_a_turn_of_the_loop_and_owners_take_turns():
    async def main():
        steps, seen = Steps(), [0]
        tasks = [steps.begin(name) for name in ("a0", "a1", "a2", "b0")]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            seen.append(len(steps.taken))
        assert max(after - before for before, after in pairwise(seen)) == 1
        assert steps.taken == ["a0", "a1", "b0", "a2"]
        assert await asyncio.gather(*tasks) == ["a0", "a1", "a2", "b0"]

    asyncio.run(main())


def test_work_whose_turn_comes_at_once_is_not_put_off():
    async def main():
        steps = Steps()
        for _ in range(3):
            task = steps.begin("a", 2)
            await asyncio.sleep(0)
            assert steps.taken.pop() == "a"
            await task

    asyncio.run(main())


def test_errors_of_what_work_waits_for_are_its_own():
    async def main():
        turns, failing = LoopTurns(), asyncio.get_running_loop().create_future()

        async def work():
            with pytest.raises(ValueError, match="no"):
                await failing
            await asyncio.sleep(0)
            raise KeyError("yes")

        task = asyncio.create_task(turns.run("a", work()))
        await settle()
        failing.set_exception(ValueError("no"))
        with pytest.raises(KeyError, match="yes"):
            await task

    asyncio.run(main())


def test_work_that_is_cancelled_while_it_waits_for_a_turn_takes_none():
    async def main():
        steps = Steps()
        first, second, third = (steps.begin(name) for name in ("a0", "a1", "a2"))
        await asyncio.sleep(0)
        second.cancel()
        assert await asyncio.gather(first, third) == ["a0", "a2"]
        assert second.cancelled()
        assert steps.taken == ["a0", "a2"]

    asyncio.run(main())


def test_work_hears_that_it_is_cancelled_and_may_go_on():
    async def main():
        turns = LoopTurns()

        async def work():
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                return "cleared up"

        task = asyncio.create_task(turns.run("a", work()))
        await settle()
        task.cancel()
        assert await task == "cleared up"

    asyncio.run(main())

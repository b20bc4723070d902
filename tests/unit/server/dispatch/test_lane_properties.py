"""What holds of a lane whatever happens."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from lanes import LaneWorld

STEPS = ["submit", "answer", "join", "drain", "die", "give up"]


def steps(*kinds: str) -> st.SearchStrategy[list[tuple[str, int]]]:
    return st.lists(st.tuples(st.sampled_from(kinds), st.integers(0, 1000)), max_size=60)


@settings(max_examples=150)
@given(steps=steps(*STEPS), slots=st.integers(1, 3))
def test_nothing_is_lost_and_no_slot_stays_empty_while_something_waits(steps, slots):
    async def main():
        world = LaneWorld(slots)
        lane = world.lane
        for number, (step, pick) in enumerate(steps):
            world.do(str(number), step, pick)
            world.look()
            free = sum(slots - len(worker.link.running) for worker in world.taking())
            assert lane.load().in_flight == sum(len(worker.link.running) for worker in world.taking())
            assert lane.claims.wanted() == free if not lane.load().queued else free == 0
        waiting = [one.body for one in world.calls if not one.running and not one.cancelled]
        assert len(waiting) == lane.load().queued
        assert world.served == sorted(world.served, key=int), "in order of arrival"
        assert len(set(world.served)) == len(world.served), "each once"

    asyncio.run(main())


@settings(max_examples=150)
@given(steps=steps(*STEPS, "alone", "alone"), slots=st.integers(1, 3))
def test_what_runs_alone_does_so_and_everything_gets_its_turn(steps, slots):
    async def main():
        world = LaneWorld(slots)
        for number, (step, pick) in enumerate(steps):
            world.do(str(number), step, pick)
            world.look()
        world.join("last")
        world.look()
        while busy := [worker for worker in world.workers if worker.waiting]:
            busy[0].answer()
            world.look()
        assert all(one.running or one.cancelled for one in world.calls)
        assert len(set(world.served)) == len(world.served), "each once"
        free = slots * len(list(world.taking()))
        assert world.lane.claims.wanted() == free, "every slot is free again"

    asyncio.run(main())

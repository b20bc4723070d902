"""Which workers that sleep end, because the machine's memory is others'."""

from hypothesis import given
from hypothesis import strategies as st
from situations import ROLLED_OUT, look, worker

from openlaunch.controller.actions import StopWorker
from openlaunch.controller.plan import plan
from openlaunch.controller.situation import Phase, Policy
from openlaunch.controller.sleepers import Sleeper, Sleepers, surplus
from openlaunch.engines.gpus import GpuPool

sleepers = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3), st.builds(Sleeper, st.integers(0, 100), st.floats(0, 100))
)


@given(sleepers, st.integers(-100, 500))
def test_those_that_have_slept_longest_end_until_the_others_fit(asleep, room):
    ending = surplus(asleep, room)
    kept = {name: asleep[name] for name in asleep if name not in ending}
    assert sum(each.memory for each in kept.values()) <= max(room, 0)
    if ending:
        assert all(asleep[name].since <= each.since for name in ending for each in kept.values())
        assert sum(asleep[name].memory for name in [*kept, ending[-1]]) > room


def test_they_end_themselves():
    asleep, ended = Sleepers(), []
    for number in range(4):
        asleep.add(f"w{number}", Sleeper(10, number), ended.append)
    asleep.forget("w1")
    asleep.keep_within(30)
    assert ended == []
    asleep.keep_within(15)
    assert ended == ["w0", "w2"]


def test_a_plan_counts_no_worker_that_sleeps_and_ends_those_of_older_generations():
    old, new = worker("old", 0, Phase.ASLEEP), worker("new", 1, Phase.ASLEEP)
    actions = plan(look(ROLLED_OUT, old, new, desired=0), Policy())
    assert actions == [StopWorker("old")]
    assert look(ROLLED_OUT, new, desired=0).is_settled
    assert not look(ROLLED_OUT, new, desired=1).is_settled


def test_gpus_are_lent_and_taken_back_only_where_they_are_free():
    pool = GpuPool((0, 1))
    assert pool.take("a", 1) == (0,)
    pool.lend("a")
    assert pool.free == 2
    assert pool.take("b", 1) == (0,)
    assert not pool.take_back("a")
    pool.give_back("b")
    assert pool.take_back("a")
    assert (pool.take("a", 1), pool.free) == ((0,), 1)
    pool.lend("a")
    pool.give_back("a")  # it has ended in its sleep
    assert (pool.take_back("a"), pool.free) == (False, 2)

"""How many workers an endpoint should have."""

import math

import pytest
from controller_simulation import make_spec
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.controller.fleet import Load
from openlaunch.controller.scaling import (
    DesireWindow,
    Holdings,
    Usage,
    capacity_limit,
    clamp,
    desired_workers,
    needed_workers,
    usage_of,
)
from openlaunch.engines.documents import Capacity

GIB = 2**30


@pytest.mark.parametrize(
    ("in_flight", "queued", "per_worker", "workers"),
    [(0, 0, 1, 1), (1, 0, 1, 1), (1, 1, 1, 2), (4, 5, 4, 3), (4, 4, 4, 2), (0, 1, 10, 1), (100, 100, 1, 5)],
)
def test_as_many_as_the_load_fills_within_the_bounds(in_flight, queued, per_worker, workers):
    spec = make_spec(min_workers=1, max_workers=5, per_worker=per_worker)
    assert desired_workers(Load(in_flight, queued), spec) == workers


@pytest.mark.parametrize(("per_worker", "workers"), [(4, 2), (32, 1)])
def test_a_worker_that_batches_is_busy_with_a_whole_batch(per_worker, workers):
    spec = make_spec(min_workers=1, max_workers=5, per_worker=per_worker, max_batch_size=16)
    assert desired_workers(Load(in_flight=16, queued=1), spec) == workers


def test_zero_workers_for_no_load():
    assert desired_workers(Load(0, 0), make_spec(min_workers=0)) == 0


@given(wanted=st.integers(0, 100), low=st.integers(0, 10), more=st.integers(0, 10))
def test_the_bounds_hold(wanted, low, more):
    assert low <= clamp(wanted, make_spec(min_workers=low, max_workers=low + more)) <= low + more


@pytest.mark.parametrize(
    ("low", "high", "prewarm", "needed"),
    [(0, 1, False, 0), (0, 1, True, 1), (2, 3, False, 2), (2, 3, True, 2), (0, 0, True, 0)],
)
def test_how_many_ready_workers_end_a_roll_out(low, high, prewarm, needed):
    spec = make_spec(min_workers=low, max_workers=high, prewarm=prewarm)
    assert needed_workers(spec) == needed


class TestDesireWindow:
    def test_follows_up_at_once(self):
        window = DesireWindow(30.0).add(0.0, 1).add(1.0, 5)
        assert window.highest == 5

    def test_follows_down_after_the_period(self):
        window = DesireWindow(30.0).add(0.0, 5).add(10.0, 1)
        assert window.highest == 5
        assert window.add(29.9, 1).highest == 5
        assert window.add(30.0, 1).highest == 1

    def test_is_empty_at_first(self):
        assert DesireWindow(30.0).highest == 0

    @given(
        st.lists(st.tuples(st.floats(0.0, 20.0), st.integers(0, 5)), min_size=1, max_size=40),
    )
    def test_gives_the_highest_of_the_period_and_keeps_no_more_than_it_needs(self, steps):
        window, now, seen = DesireWindow(30.0), 0.0, []
        for pause, desire in steps:
            now += pause
            seen.append((now, desire))
            window = window.add(now, desire)
            assert window.highest == max(d for at, d in seen if at > now - 30.0)
            assert len(window.samples) <= 6


class TestCapacity:
    WHOLE = Capacity(cpus=8.0, memory=16 * GIB, gpus=0, free_gpus=0)

    @pytest.mark.parametrize(
        ("cpus", "memory", "used", "limit"),
        [
            (2.0, 0, Usage(), 4),
            (2.0, 8 * GIB, Usage(), 2),
            (2.0, GIB, Usage(cpus=5.0), 1),
            (1.0, GIB, Usage(memory=12 * GIB), 4),
            (0.0, 0, Usage(cpus=100.0), 10),
            (100.0, 0, Usage(), 1),
            (1.0, 0, Usage(cpus=100.0), 1),
        ],
    )
    def test_what_fits_beside_the_others_but_always_one(self, cpus, memory, used, limit):
        spec = make_spec(min_workers=0, max_workers=10, cpus=cpus, memory=memory)
        assert capacity_limit(spec, self.WHOLE, used) == limit

    def test_the_minimum_is_never_refused(self):
        spec = make_spec(min_workers=3, cpus=100.0)
        assert capacity_limit(spec, self.WHOLE, Usage()) == 3

    def test_what_the_others_hold_leaves_out_the_own(self):
        holdings = Holdings()
        assert holdings.beside("a") == Usage()
        holdings.set("a", usage_of(make_spec(cpus=0.5, memory=GIB), 3))
        holdings.set("b", Usage(1.0, GIB))
        assert (holdings.beside("a"), holdings.beside("b")) == (Usage(1.0, GIB), Usage(1.5, 3 * GIB))
        assert holdings.beside("c") == Usage(2.5, 4 * GIB)
        holdings.forget("b")
        assert holdings.beside("a") == Usage()

    def test_sums_of_fractions_take_no_room(self):
        holdings, spec = Holdings(), make_spec(min_workers=0, max_workers=100, cpus=0.1, memory=0)
        for name in "abc":
            holdings.set(name, usage_of(spec, 1))
        assert capacity_limit(spec, self.WHOLE, holdings.beside("a")) == 78


def test_the_only_desire_of_a_window_falls_too():
    assert DesireWindow(5.0).add(100.0, 1).falls_at == 105.0
    assert DesireWindow(5.0).add(100.0, 2).add(101.0, 1).falls_at == 105.0
    assert DesireWindow(5.0).add(100.0, 0).falls_at == math.inf

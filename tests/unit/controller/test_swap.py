"""Whose GPUs go to whom: what is idle first, nobody before its time, and who has waited longest is first."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.controller.swap import Share, SwapRule, decide, whose

RULE = SwapRule(min_stay=30, max_wait=120)
NOW = 1000.0
HOLDS = Share("a", "me", 1, workers=1, can_give=1, used_at=900.0, ready_at=100.0)
WAITS = Share("w", "me", 1, waits_since=990.0)


def gives(free=0, **shares):
    return dict(decide(shares, free, NOW, RULE).gives)


def test_what_was_used_last_longest_ago_goes_first():
    older = replace(HOLDS, used_at=800.0)
    assert gives(w=WAITS, a=HOLDS, b=older) == {"b": 1}
    assert gives(w=replace(WAITS, gpus=2), a=HOLDS, b=older) == {"a": 1, "b": 1}


def test_a_gpu_that_is_free_or_on_its_way_is_not_taken_from_anybody():
    assert gives(w=WAITS, a=HOLDS, free=1) == {}
    assert gives(w=WAITS, a=HOLDS, b=replace(HOLDS, can_give=0, workers=0, leaving=1)) == {}


def test_nobody_gives_up_a_worker_before_it_has_stayed_or_below_its_minimum():
    assert gives(w=WAITS, a=replace(HOLDS, ready_at=971.0)) == {}
    assert gives(w=WAITS, a=replace(HOLDS, ready_at=970.0)) == {"a": 1}
    assert gives(w=WAITS, a=replace(HOLDS, can_give=0)) == {}


def test_a_busy_endpoint_gives_up_a_worker_once_somebody_without_one_has_waited_for_long():
    busy = replace(HOLDS, is_busy=True)
    assert gives(w=WAITS, a=busy) == {}
    waited = replace(WAITS, waits_since=880.0)
    assert gives(w=waited, a=busy) == {"a": 1}
    assert gives(w=waited, a=busy, b=replace(HOLDS, used_at=999.0)) == {"b": 1}
    assert gives(w=replace(waited, workers=1), a=busy) == {}


def test_what_is_free_is_kept_for_who_has_waited_longest():
    longest, next_one = replace(WAITS, waits_since=900.0), replace(WAITS, waits_since=950.0)
    swaps = decide({"w": WAITS, "n": next_one, "l": longest}, 1, NOW, RULE)
    assert [swaps.free_for(each, 1) for each in ("l", "n", "w", "new")] == [1, 0, 0, 0]


def test_nothing_is_kept_or_taken_for_who_can_not_be_served_so():
    large = replace(WAITS, gpus=4, waits_since=900.0)
    swaps = decide({"l": large, "w": WAITS, "a": HOLDS}, 1, NOW, RULE)
    assert (dict(swaps.gives), swaps.free_for("w", 1)) == ({}, 1)


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        ({}, "the endpoint 'a' is idle and gives up its GPUs now"),
        ({"ready_at": 980.0}, "the endpoint 'a' is idle and gives up its GPUs in 10 s"),
        ({"is_busy": True}, "the endpoint 'a' is busy and gives up its GPUs once it is idle, or in 110 s"),
        ({"owner": "other"}, "an endpoint of another owner is idle"),
        ({"can_give": 0}, "kept, by min_workers or because a worker starts, by the endpoint 'a'"),
        ({"can_give": 0, "workers": 0, "leaving": 1}, "the endpoint 'a' finishes what it runs"),
        ({"can_give": 0, "workers": 0}, "they are not held by endpoints"),
    ],
)
def test_it_is_said_whose_gpu_is_waited_for(holder, words):
    assert words in whose({"w": WAITS, "a": replace(HOLDS, **holder)}, "w", NOW, RULE)


def test_it_is_said_who_waits_for_longer():
    shares = {"w": WAITS, "l": replace(WAITS, waits_since=1.0), "a": HOLDS}
    assert "; 1 other is before it" in whose(shares, "w", NOW, RULE)


SHARES = st.builds(
    Share,
    st.just("n"),
    st.just("me"),
    gpus=st.integers(1, 3),
    workers=st.integers(0, 3),
    can_give=st.integers(0, 3),
    leaving=st.integers(0, 1),
    is_busy=st.booleans(),
    used_at=st.floats(0, NOW),
    ready_at=st.floats(0, NOW),
    waits_since=st.none() | st.floats(0, NOW),
)


@given(st.dictionaries(st.sampled_from("abcdef"), SHARES), st.integers(0, 4))
def test_nobody_gives_more_than_it_can_spare_and_no_more_is_kept_than_there_is_to_come(shares, free):
    swaps = decide(shares, free, NOW, RULE)
    for name, count in swaps.gives.items():
        assert 0 < count <= shares[name].can_give
        assert NOW - shares[name].ready_at >= RULE.min_stay
    if not swaps.kept:
        assert not swaps.gives
    assert all(0 <= swaps.free_for(name, free) <= free for name in (*shares, "another"))

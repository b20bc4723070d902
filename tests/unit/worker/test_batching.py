"""When a batch is due, and what a predict function may return for one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch_worker.batching import BatchRule, results_of, seconds_until_due
from openlaunch_worker.failures import Refusal

RULE = BatchRule(max_size=4, max_wait=0.5)


def test_a_full_batch_is_due_at_once():
    assert seconds_until_due(RULE, 4, since=10.0, now=10.0) == 0
    assert seconds_until_due(RULE, 9, since=10.0, now=10.0) == 0


def test_the_first_waits_as_long_as_it_may_and_no_longer():
    assert seconds_until_due(RULE, 1, since=10.0, now=10.0) == 0.5
    assert seconds_until_due(RULE, 3, since=10.0, now=10.25) == 0.25
    assert seconds_until_due(RULE, 3, since=10.0, now=11.0) == 0


def test_nothing_waits_where_no_wait_is_allowed():
    assert seconds_until_due(BatchRule(4, 0.0), 1, since=10.0, now=10.0) == 0


@given(
    size=st.integers(1, 64),
    max_wait=st.floats(0, 10),
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=100),
    runs=st.floats(0, 8),
)
def test_a_batch_waits_for_its_first_no_longer_than_allowed_or_the_one_before_takes(
    size, max_wait, gaps, runs
):
    """Requests that come with these gaps, to a worker whose batches take `runs` seconds each."""
    rule = BatchRule(size, max_wait)
    arrivals = [sum(gaps[: i + 1]) for i in range(len(gaps))]
    now = free = 0.0
    while arrivals:
        now = max(now, free, arrivals[0])
        gathered = [at for at in arrivals if at <= now]
        wait = seconds_until_due(rule, len(gathered), gathered[0], now)
        if wait > 0:
            following = [at for at in arrivals if at > now]
            now = max(math.nextafter(now, math.inf), min([now + wait, *following[:1]]))
            continue
        batch = gathered[:size]
        assert len(batch) == size or now >= batch[0] + max_wait - 1e-9
        assert now <= max(free, batch[0] + max_wait) + 1e-9
        del arrivals[: len(batch)]
        free = now + runs


def test_a_list_of_the_right_length_is_the_results():
    assert results_of([1, None], 2) == [1, None]


def test_the_rows_of_an_array_are_the_results():
    rows = results_of(np.array([[1, 2], [3, 4]]), 2)
    assert [row.tolist() for row in rows] == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ([1], "returned a list of 1:"),
        ([1, 2, 3], "returned a list of 3:"),
        ((1, 2), "an object of type tuple:"),
        (None, "an object of type NoneType:"),
        ({"a": 1, "b": 2}, "an object of type dict:"),
        ((i for i in range(2)), "an object of type generator:"),
        (np.array([1, 2, 3]), "returned a list of 3:"),
        (np.array(1), "an object of type ndarray:"),
    ],
)
def test_anything_else_says_what_it_is_and_what_is_needed(returned, told):
    with pytest.raises(Refusal, match=told) as caught:
        results_of(returned, 2)
    assert "called with a list of 2 inputs" in str(caught.value)
    assert "one result for each input, in the same order" in str(caught.value)

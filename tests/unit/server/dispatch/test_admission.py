"""Who is taken into a queue, and who is told to come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.server.dispatch.admission import (
    FRESH_SECONDS,
    MAX_RETRY_AFTER,
    OVERRUN,
    DrainRate,
    expected_wait,
    is_hopeless,
)


def measured(per_second: float, seconds: float = 20) -> DrainRate:
    rate = DrainRate()
    for n in range(int(per_second * seconds) + 1):
        rate.ended(n / per_second)
    return rate


def test_a_rate_is_known_after_a_second_in_which_others_waited():
    rate = DrainRate()
    assert rate.per_second(0) is None
    for n in range(9):
        rate.ended(n / 10)
    assert rate.per_second(0.9) is None
    for n in range(9, 12):
        rate.ended(n / 10)
    assert rate.per_second(1.2) == pytest.approx(10)


def test_it_says_nothing_of_times_when_nobody_waited():
    rate = measured(10)
    for n in range(100):  # one every ten seconds, none of which had to wait
        rate.ended(20 + 10 * n)
        rate.pause()
    assert rate.per_second(20) == pytest.approx(10)


def test_what_was_measured_long_ago_is_not_known_any_more():
    rate = measured(10)
    assert rate.per_second(20 + FRESH_SECONDS - 1) is not None
    assert rate.per_second(20 + FRESH_SECONDS + 1) is None


def test_a_slow_rate_is_known_for_longer():
    rate = measured(1 / 60, seconds=600)
    assert rate.per_second(600 + 100) == pytest.approx(1 / 60)


def test_the_wait_follows_from_what_is_ahead_and_the_rate():
    assert expected_wait(50, rate=10, workers=2, max_workers=2) == 5


def test_workers_that_may_still_come_shorten_it():
    assert expected_wait(50, rate=10, workers=1, max_workers=5) == 1
    assert expected_wait(50, rate=10, workers=3, max_workers=2) == 5


def test_nothing_is_expected_where_nothing_is_known():
    assert expected_wait(50, rate=None, workers=1, max_workers=1) is None
    assert expected_wait(50, rate=10, workers=0, max_workers=1) is None


def test_only_what_is_clearly_too_late_is_hopeless():
    assert not is_hopeless(None, 0.1)
    assert not is_hopeless(OVERRUN * 2, 2)
    assert is_hopeless(OVERRUN * 2 + 0.1, 2)


class TestDrainRate:
    def test_without_knowledge_it_is_a_guess(self):
        assert DrainRate().retry_after(100) == 5

    def test_follows_from_what_has_ended_lately(self):
        rate = DrainRate()
        for n in range(101):
            rate.ended(n / 10)  # ten a second
        assert rate.retry_after(40) == pytest.approx(4, abs=1)

    def test_adapts_to_a_change(self):
        rate = DrainRate(window=10.0)
        for n in range(100):
            rate.ended(n / 10)
        for n in range(60):
            rate.ended(10.0 + n)  # one a second from now on
        assert rate.retry_after(10) == pytest.approx(10, abs=2)

    @given(
        pauses=st.lists(st.floats(0, 1000), max_size=50),
        waiting=st.integers(0, 10**9),
    )
    def test_is_within_its_bounds_whatever_happened(self, pauses, waiting):
        rate, now = DrainRate(), 0.0
        for pause in pauses:
            now += pause
            rate.ended(now)
        assert 1 <= rate.retry_after(waiting) <= MAX_RETRY_AFTER

"""The policy of keys' limits, with a clock of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.errors import TooManyRequests
from openlaunch.server.access.limits import DAY_SECONDS, Limits, Meter

NOON = 20_000 * DAY_SECONDS + DAY_SECONDS / 2


def refused(meter, requests, now):
    with pytest.raises(TooManyRequests) as caught:
        meter.spend(requests, now)
    return caught.value


def test_a_burst_is_taken_and_then_the_rate():
    meter = Meter(Limits(requests_per_second=2, burst=3))
    for _ in range(3):
        meter.spend(1, NOON)
    error = refused(meter, 1, NOON)
    assert (error.code, error.retry_after) == ("rate_limited", 0.5)
    meter.spend(1, NOON + error.retry_after)
    refused(meter, 1, NOON + error.retry_after)


@pytest.mark.parametrize(("rate", "at_once"), [(0.1, 1), (1, 1), (2.5, 3)])
def test_without_a_burst_what_comes_in_a_second_may_come_at_once(rate, at_once):
    meter = Meter(Limits(requests_per_second=rate))
    for _ in range(at_once):
        meter.spend(1, NOON)
    refused(meter, 1, NOON)


def test_a_bulk_over_the_burst_is_taken_from_a_full_bucket_and_paid_off():
    meter = Meter(Limits(requests_per_second=10, burst=5))
    meter.spend(100, NOON)
    assert refused(meter, 1, NOON).retry_after == pytest.approx(9.6)
    meter.spend(1, NOON + 9.6)


def test_nothing_is_counted_by_looking():
    meter = Meter(Limits(requests_per_second=1, requests_per_day=1))
    for _ in range(5):
        meter.spend(0, NOON)
    meter.spend(1, NOON)
    refused(meter, 0, NOON)


def test_a_day_ends_at_midnight():
    meter = Meter(Limits(requests_per_day=2))
    meter.spend(2, NOON)
    error = refused(meter, 1, NOON + 60)
    assert (error.code, error.retry_after) == ("quota_exceeded", DAY_SECONDS / 2 - 60)
    assert "2 were made" in error.message
    meter.spend(2, NOON + DAY_SECONDS / 2)


def test_what_is_refused_is_not_counted():
    meter = Meter(Limits(requests_per_day=3))
    meter.spend(2, NOON)
    refused(meter, 2, NOON)
    meter.spend(1, NOON)


def test_changed_limits_go_on_with_what_was_used():
    meter = Meter(Limits(requests_per_day=5))
    meter.spend(4, NOON)
    meter.limits = Limits(requests_per_day=4)
    refused(meter, 1, NOON)
    meter.limits = Limits(requests_per_day=5)
    meter.spend(1, NOON)


def test_a_clock_that_is_set_back_gives_nothing_and_holds_nobody_for_long():
    meter = Meter(Limits(requests_per_second=1))
    meter.spend(1, NOON)
    assert refused(meter, 1, NOON - 3600).retry_after == 1
    meter.spend(1, NOON + 1)


@given(
    st.floats(0.01, 1000),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(1, 20), st.floats(0, 5)), max_size=60),
)
def test_never_more_than_the_burst_and_what_the_time_gave(rate, burst, asked):
    meter = Meter(Limits(requests_per_second=rate, burst=burst))
    now = began = NOON
    taken = 0
    for requests, pause in asked:
        now += pause
        try:
            meter.spend(requests, now)
        except TooManyRequests as error:
            meter.spend(0, now + error.retry_after + 1e-6)  # it promises no more than is true
            now += error.retry_after + 1e-6
        else:
            taken += requests
            assert taken <= burst + rate * (now - began) + max(requests - burst, 0) + 1e-3

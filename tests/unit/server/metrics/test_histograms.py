"""Counts in buckets, and what they tell of quantiles."""

import pytest

from openlaunch.server.metrics.histograms import SECONDS, Histogram, quantile


def test_a_value_on_a_bound_is_in_the_bucket_below():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 3.0):
        histogram.observe(value)
    assert (histogram.counts, histogram.sum) == ([2, 2, 1], 8.0)


@pytest.mark.parametrize(("part", "expected"), [(0.5, 1.0), (0.75, 1.5), (1.0, 2.0)])
def test_values_of_a_bucket_are_taken_to_be_spread_evenly(part, expected):
    assert quantile((1.0, 2.0), (2, 2, 0), part) == expected


def test_of_nothing_there_is_no_quantile_and_above_the_last_bound_it_is_that_bound():
    assert quantile(SECONDS, [0] * (len(SECONDS) + 1), 0.5) is None
    assert quantile((1.0, 2.0), (0, 0, 5), 0.5) == 2.0


def test_the_counts_of_two_are_added():
    one, other = Histogram((1.0,)), Histogram((1.0,))
    one.observe(0.5)
    other.observe(2.0)
    assert (one.plus(other).counts, one.plus(other).sum) == ([1, 1], 2.5)
    assert one.counts == [1, 0]

"""A canary's share, and how the ends of predictions are counted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlaunch.controller.trial import MAX_KEPT_FAILURES, Trial
from openlaunch.server.dispatch.pools import MAX_OWED, CanaryShare
from openlaunch.server.dispatch.trial_counts import OutcomeCounts, error_of
from openlaunch_worker.answers import failure, failure_event
from openlaunch_worker.frames import Outcome


def turns(split: CanaryShare, count: int) -> list[bool]:
    """The next so many predictions: True for those of the canary."""
    given_to = []
    for _ in range(count):
        given_to.append(split.is_canarys_turn())
        split.given(to_canary=given_to[-1])
    return given_to


class TestSplit:
    @given(percent=st.integers(0, 100), count=st.integers(0, 1000))
    def test_is_exact_at_any_time(self, percent, count):
        assert sum(turns(CanaryShare(percent), count)) == percent * count // 100

    def test_is_even(self):
        assert turns(CanaryShare(25), 8) == [False, False, False, True] * 2

    def test_what_the_canary_could_not_take_is_owed_to_it(self):
        split = CanaryShare(50)
        for _ in range(4):
            split.given(to_canary=False)
        assert turns(split, 4) == [True, True, True, True]
        assert turns(split, 4).count(True) == 2

    def test_what_is_owed_is_bounded(self):
        split = CanaryShare(50)
        for _ in range(10_000):
            split.given(to_canary=False)
        caught_up = MAX_OWED // 50  # each turn of its own takes 50 off
        assert turns(split, caught_up) == [True] * caught_up
        assert turns(split, 4).count(True) == 2

    def test_what_the_canary_took_alone_is_soon_forgotten(self):
        split = CanaryShare(50)
        for _ in range(10_000):
            split.given(to_canary=True)
        assert turns(split, 6).count(True) == 2


class TestTally:
    def test_counts_answers_and_asks_for_a_look_at_each_failure(self):
        looks: list[int] = []
        counts = OutcomeCounts(lambda: looks.append(1))
        counts.ended(Outcome.SUCCESS, b"{}", 0.2)
        counts.ended(
            Outcome.FAILURE, failure("Traceback (most recent call last):\nValueError: no\n", 500), 0.3
        )
        counts.ended(Outcome.PICKLED, b"", 0.4)
        counts.ended(Outcome.CANCELLED, b"", 9.0)
        assert counts.trial() == Trial(3, 1, (2,), "ValueError: no")
        assert looks == [1]
        assert counts.ran.mean == pytest.approx(0.3)

    def test_keeps_the_places_of_the_first_failures_alone(self):
        counts = OutcomeCounts(lambda: None)
        for _ in range(MAX_KEPT_FAILURES + 50):
            counts.failed(lambda: "no")
        trial = counts.trial()
        assert trial.failures == MAX_KEPT_FAILURES + 50
        assert len(trial.failed_at) == MAX_KEPT_FAILURES

    @pytest.mark.parametrize("make", [failure, failure_event])
    def test_the_error_is_the_tracebacks_last_line(self, make):
        assert (
            error_of(make("Traceback (most recent call last):\n  …\nValueError: no", 500)) == "ValueError: no"
        )

    @pytest.mark.parametrize("payload", [b"", b"no JSON", json.dumps({"traceback": ""}).encode(), b"[1]"])
    def test_an_answer_without_one_is_no_problem(self, payload):
        assert error_of(payload) == "the answer does not say why"

"""Whether a new bundle has failed its first predictions."""

import pytest
from controller_simulation import make_spec

from openlaunch.controller.trial import Rule, Trial, failed_predictions

RULE = Rule(failures=2, among=5)


class TestRule:
    def test_is_off_unless_it_is_asked_for(self):
        assert Rule.of(make_spec()) is None
        assert Rule.of(make_spec(probation_requests=5)) is None
        assert Rule.of(make_spec(rollback_after_failures=0)) is None

    def test_has_its_defaults(self):
        assert Rule.of(make_spec(rollback_after_failures=3)) == Rule(3, 20)
        assert Rule.of(make_spec(rollback_after_failures=30)) == Rule(30, 30)

    def test_is_what_was_given(self):
        assert Rule.of(make_spec(rollback_after_failures=3, probation_requests=4)) == Rule(3, 4)


class TestVerdict:
    @pytest.mark.parametrize(
        ("failed_at", "verdict"),
        [
            ((), None),
            ((1,), None),
            ((1, 2), "2 of the first 2 predictions"),
            ((2, 5), "2 of the first 5 predictions"),
            ((2, 6), None),
            ((6, 7, 8), None),
            ((1, 3, 9), "2 of the first 3 predictions"),
        ],
    )
    def test_counts_the_failures_among_the_first(self, failed_at, verdict):
        assert Trial(10, len(failed_at), failed_at).verdict(RULE) == verdict

    def test_there_is_none_without_a_rule(self):
        assert Trial(2, 2, (1, 2)).verdict(None) is None

    def test_says_which_bundle_and_why(self):
        trial = Trial(3, 2, (1, 3), "ValueError: no")
        sentence = "2 of the first 3 predictions of the bundle digits (bun_1) failed: ValueError: no"
        assert failed_predictions(trial, RULE, "digits (bun_1)") == sentence

    def test_is_over_when_the_first_have_ended(self):
        assert not Trial(4).is_over(RULE)
        assert Trial(5).is_over(RULE)

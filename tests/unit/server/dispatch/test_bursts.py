"""A burst of failures is seen once when it begins, and once when it ends."""

import pytest

from openlaunch.server.dispatch.bursts import Burst
from openlaunch.server.metrics.counts import Ended
from openlaunch.wire.events import EventKind

BEGAN, ENDED = EventKind.FAILURES_BEGAN, EventKind.FAILURES_ENDED


def seen(*steps, kind=Ended.MODEL_ERROR):
    """The kinds of events, one for each look; a step has how many were fine and how many failed since the last."""
    burst, ended, kinds = Burst(), [0] * len(Ended), []
    for fine, failed in steps:
        ended[Ended.OK] += fine
        ended[kind] += failed
        event = burst.look(ended, "KeyError")
        kinds.append(event and event[0])
    return kinds


def test_a_burst_has_one_beginning_and_one_end():
    quiet = [None] * 3
    assert seen((0, 5), (0, 9), (9, 0), (9, 0), (9, 0), (9, 0)) == [BEGAN, None, *quiet, ENDED]
    assert seen((0, 5), *[(0, 0)] * 4) == [BEGAN, *quiet, ENDED]
    assert seen(*[(0, 2)] * 20).count(BEGAN) == 1


@pytest.mark.parametrize("steps", [[(0, 4)], [(60, 5)], [(1000, 50)] * 9, [(0, 1)] * 9])
def test_few_failures_are_no_burst(steps):
    assert set(seen(*steps)) == {None}


def test_a_share_about_the_bound_does_not_begin_and_end_at_each_look():
    assert seen(*[(90, 11), (90, 9)] * 20) == [BEGAN, *[None] * 39]


@pytest.mark.parametrize("kind", [Ended.MODEL_ERROR, Ended.SERVER_ERROR, Ended.DEADLINE])
def test_what_the_endpoint_is_to_blame_for_counts(kind):
    assert seen((0, 5), kind=kind) == [BEGAN]


@pytest.mark.parametrize("kind", [Ended.CLIENT_ERROR, Ended.TOO_MANY, Ended.CANCELLED])
def test_what_the_caller_is_to_blame_for_does_not(kind):
    assert seen((0, 50), kind=kind) == [None]


def test_the_detail_names_the_last_error_and_nothing_that_differs_each_time():
    first, second = Burst(), Burst()
    event = first.look([0, 5, 0, 0, 0, 0, 0], "KeyError")
    assert "KeyError" in event[1]
    assert second.look([1, 6, 0, 0, 0, 0, 0], "KeyError") == event

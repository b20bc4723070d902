"""A burst of failures or of long waits is seen once when it begins, and once when it ends."""

import pytest

from openlaunch.errors import APIError, DeadlineExceeded, NotFound, TooManyRequests, Unavailable, WorkerDied
from openlaunch.server.dispatch import bursts
from openlaunch.server.dispatch.bursts import Bursts
from openlaunch.server.metrics import counts
from openlaunch.server.metrics.counts import EndpointCounts
from openlaunch.wire.events import EventKind
from openlaunch_worker.frames import Outcome

BEGAN, ENDED = EventKind.FAILURES_BEGAN, EventKind.FAILURES_ENDED


@pytest.fixture
def clock(monkeypatch):
    """A list with the time of day, in seconds, that counting goes by."""
    now = [100.0]
    monkeypatch.setattr(counts, "monotonic", lambda: now[0])
    return now


def seen(*steps, error: APIError | None = None):
    """The kinds of events, one for each look; a step has how many were fine and how many failed since the last."""
    numbers, burst, kinds = EndpointCounts(), Bursts(), []
    of = numbers.of(1)
    for fine, failed in steps:
        for _ in range(fine):
            of.answered(Outcome.SUCCESS, 0.0, counts.monotonic())
        for _ in range(failed):
            if error is None:
                of.answered(Outcome.FAILURE, 0.0, counts.monotonic())
            else:
                numbers.refused.refused(error)
        kinds.append(next((kind for kind, _ in burst.look(numbers, "KeyError")), None))
    return kinds


def test_a_burst_has_one_beginning_and_one_end():
    quiet = [None] * 3
    assert seen((0, 5), (0, 9), (9, 0), (9, 0), (9, 0), (9, 0)) == [BEGAN, None, *quiet, ENDED]
    assert seen((0, 5), *[(0, 0)] * 4) == [BEGAN, *quiet, ENDED]
    assert seen(*[(0, 2)] * 20).count(BEGAN) == 1


@pytest.mark.parametrize("steps", [[(0, 2)], [(1, 4)], [(60, 5)], [(1000, 50)] * 9, [(1, 1)] * 9])
def test_few_failures_are_no_burst(steps):
    assert set(seen(*steps)) == {None}


def test_a_few_are_a_burst_where_none_is_fine():
    assert seen((0, 3)) == [BEGAN]
    assert seen(*[(0, 1)] * 4) == [None, None, BEGAN, None]


def test_a_share_about_the_bound_does_not_begin_and_end_at_each_look():
    assert seen(*[(90, 11), (90, 9)] * 20) == [BEGAN, *[None] * 39]


@pytest.mark.parametrize("error", [Unavailable("no worker"), DeadlineExceeded("too late")])
def test_what_the_endpoint_is_to_blame_for_counts(error):
    assert seen((0, 5), error=error) == [BEGAN]


def test_what_the_caller_is_to_blame_for_does_not():
    assert seen((0, 50), error=NotFound("no such row")) == [None]


def test_refusals_are_a_burst_of_their_own_which_names_the_code_of_the_last():
    numbers, burst = EndpointCounts(), Bursts()
    for code in ("queue_full", "quota_exceeded"):
        for _ in range(3):
            numbers.refused.refused(TooManyRequests("too many", code=code))
    ((kind, detail),) = burst.look(numbers, "KeyError")
    assert kind is EventKind.REFUSALS_BEGAN
    assert detail.startswith("quota_exceeded; ")
    later = [kind for _ in range(4) for kind, _ in burst.look(numbers, "")]
    assert later == [EventKind.REFUSALS_ENDED]


def test_the_detail_names_the_last_error_and_nothing_that_differs_each_time():
    details = []
    for failures in (5, 6):
        numbers = EndpointCounts()
        for _ in range(failures):
            numbers.of(1).answered(Outcome.FAILURE, 0.0, counts.monotonic())
        details += [detail for _, detail in Bursts().look(numbers, "KeyError")]
    assert details[0].startswith("KeyError; ")
    assert details[0] == details[1]


def test_where_no_model_raises_the_detail_has_the_code_of_the_last_error():
    numbers, burst = EndpointCounts(), Bursts()
    numbers.of(1).answered(Outcome.FAILURE, 0.0, counts.monotonic())
    assert list(burst.look(numbers, "KeyError")) == []
    for _ in range(9):
        numbers.of(1).ended_otherwise(WorkerDied("it was killed"), 0.0, counts.monotonic())
    ((_, detail),) = burst.look(numbers, "KeyError")
    assert detail.startswith("worker_died; ")


def waits(clock, *steps):
    """The kinds of events; a step has how many waited for how many seconds since the last look."""
    numbers, burst, kinds = EndpointCounts(), Bursts(), []
    for count, seconds in steps:
        for _ in range(count):
            numbers.of(1).answered(Outcome.SUCCESS, clock[0] - seconds, clock[0])
        kinds += [kind for kind, _ in burst.look(numbers, "")]
    return kinds


def test_long_waits_for_a_slot_are_a_burst_of_their_own(clock):
    assert waits(clock, (5, 1.5)) == [EventKind.WAITS_BEGAN]
    assert waits(clock, (5, 30.0), *[(0, 0.0)] * 4) == [EventKind.WAITS_BEGAN, EventKind.WAITS_ENDED]
    assert waits(clock, (500, 0.9), (4, 60.0)) == []


def test_those_who_leave_while_they_wait_have_waited_too(clock):
    numbers = EndpointCounts()
    for _ in range(5):
        numbers.of(1).ended_otherwise(None, clock[0] - 5, 0.0)
    assert [kind for kind, _ in Bursts().look(numbers, "")] == [EventKind.WAITS_BEGAN]
    assert bursts.LEAST == 5

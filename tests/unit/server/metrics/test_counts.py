"""What is counted of predictions, however they end."""

import pytest

from openlaunch.errors import (
    BadRequest,
    DeadlineExceeded,
    TooManyRequests,
    Unavailable,
    WorkerDied,
)
from openlaunch.server.metrics.counts import (
    LABELS,
    MAX_CODES,
    MAX_GENERATIONS,
    EndpointCounts,
    PredictionCounts,
)
from openlaunch_worker.frames import Outcome


def outcomes(counts):
    return {label: count for label, count in zip(LABELS, counts.ended, strict=True) if count}


@pytest.mark.parametrize(
    ("outcome", "label"),
    [
        (Outcome.SUCCESS, "ok"),
        (Outcome.PICKLED, "ok"),
        (Outcome.FAILURE, "model_error"),
        (Outcome.CANCELLED, "5xx"),
    ],
)
def test_an_answer_is_counted_by_its_outcome(outcome, label):
    counts = PredictionCounts()
    counts.answered(outcome, 0.0, 1.0)
    assert outcomes(counts) == {label: 1}


@pytest.mark.parametrize(
    ("error", "label"),
    [
        (None, "cancelled"),
        (BadRequest("no"), "4xx"),
        (TooManyRequests("no"), "429"),
        (Unavailable("no"), "5xx"),
        (WorkerDied("no"), "5xx"),
        (DeadlineExceeded("no"), "deadline"),
    ],
)
def test_another_end_is_counted_by_its_error(error, label):
    counts = PredictionCounts()
    counts.ended_otherwise(error, 1.0, 0.0)
    assert outcomes(counts) == {label: 1}
    assert counts.errors == ({} if error is None else {error.code: 1})
    assert (sum(counts.waited.counts), sum(counts.ran.counts), sum(counts.whole.counts)) == (1, 0, 1)


def test_one_that_had_a_slot_at_once_has_waited_for_nothing():
    counts = PredictionCounts()
    counts.answered(Outcome.SUCCESS, 0.0, 1.0)
    counts.answered(Outcome.SUCCESS, 1.0, 2.0)
    assert counts.waited.counts[0] == 1
    assert counts.waited.sum == 1.0
    assert sum(counts.ran.counts) == sum(counts.whole.counts) == 2
    assert counts.whole.sum > counts.ran.sum


def test_any_number_of_generations_is_counted_in_bounded_memory():
    counts = EndpointCounts()
    for generation in range(MAX_GENERATIONS * 3):
        counts.of(generation).answered(Outcome.SUCCESS, 0.0, 1.0)
    assert len(counts.generations) == MAX_GENERATIONS
    assert outcomes(counts.total()) == {"ok": MAX_GENERATIONS * 3}
    assert counts.activity == MAX_GENERATIONS * 3


def test_any_number_of_codes_is_counted_in_bounded_memory():
    counts = PredictionCounts()
    for number in range(MAX_CODES * 2):
        counts.refused(Unavailable("no", code=f"code_{number}"))
    assert len(counts.errors) == MAX_CODES + 1
    assert counts.errors["other"] == MAX_CODES

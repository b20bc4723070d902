"""What is wrong with an endpoint lasts from the event of its beginning until that of its end."""

import pytest

from openlaunch.server.dispatch.troubles import Troubles
from openlaunch.wire.events import EventKind as Kind


def after(*events):
    """What is wrong after these events, of which each comes a second after the one before: kinds and times."""
    troubles = Troubles()
    for at, (kind, detail) in enumerate(events):
        troubles.happened(kind, detail, float(at))
    return [(each.kind, each.since) for each in troubles.now()]


@pytest.mark.parametrize(
    ("begins", "ends"),
    [
        (Kind.FAILURES_BEGAN, Kind.FAILURES_ENDED),
        (Kind.WAITS_BEGAN, Kind.WAITS_ENDED),
        (Kind.QUEUE_OLD, Kind.QUEUE_CAUGHT_UP),
        (Kind.UPDATE_FAILED, Kind.ROLLED_OUT),
        (Kind.UPDATE_FAILED, Kind.RECOVERED),
        (Kind.UPDATE_FAILED, Kind.UPDATED),
        (Kind.REFUSALS_BEGAN, Kind.REFUSALS_ENDED),
        (Kind.CALLBACKS_FAIL, Kind.CALLBACKS_TAKEN),
    ],
)
def test_it_lasts_until_its_end_and_keeps_its_time(begins, ends):
    assert after((begins, "a"), (Kind.WORKER_STARTED, ""), (begins, "b")) == [(begins, 0.0)]
    assert after((begins, "a"), (ends, "")) == []
    assert after((begins, "a"), (ends, ""), (begins, "b")) == [(begins, 2.0)]


@pytest.mark.parametrize("ends", [(Kind.CANARY, "SERVING"), (Kind.UPDATED, ""), (Kind.ROLLED_OUT, "")])
def test_a_canary_that_failed_is_one_until_the_next_change(ends):
    failed = (Kind.CANARY, "FAILED: 5 of the first 5 predictions failed")
    assert after((Kind.CANARY, "SERVING"), failed, (Kind.WORKER_DRAINED, "")) == [(Kind.CANARY, 1.0)]
    assert after(failed, ends) == []


def test_several_last_beside_each_other_and_what_does_not_serve_is_first():
    assert after((Kind.QUEUE_OLD, ""), (Kind.FAILURES_BEGAN, ""), (Kind.UPDATE_FAILED, "")) == [
        (Kind.UPDATE_FAILED, 2.0),
        (Kind.FAILURES_BEGAN, 1.0),
        (Kind.QUEUE_OLD, 0.0),
    ]
    assert after((Kind.UPDATE_FAILED, ""), (Kind.FAILURES_BEGAN, ""), (Kind.UPDATED, "")) == [
        (Kind.FAILURES_BEGAN, 1.0)
    ]

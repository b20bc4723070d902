import pytest

from openlaunch.nodes.leases import (
    BEAT_SECONDS,
    MARGIN_SECONDS,
    RETRY_SECONDS,
    SECONDS,
    Lease,
    Row,
    beat,
    handed_over,
    has_run_out,
)

FREE = Row()


def test_a_free_lease_is_taken_and_each_taking_raises_the_epoch():
    first = beat(FREE, "a", now=100.0)
    assert first == Row("a", 1, 100.0 + SECONDS)
    assert beat(first, "b", now=100.0 + SECONDS) == Row("b", 2, 100.0 + 2 * SECONDS)


def test_a_lease_that_is_held_stays_as_it_is_whoever_asks():
    held = beat(FREE, "a", now=100.0)
    assert beat(held, "b", now=99.9 + SECONDS) is held
    assert not has_run_out(held, 99.9 + SECONDS)


def test_a_renewal_keeps_the_epoch_even_after_the_end_if_nobody_else_took_it():
    held = beat(FREE, "a", now=100.0)
    assert beat(held, "a", now=150.0) == Row("a", 1, 150.0 + SECONDS)


def test_a_former_holder_does_not_renew_what_another_has_taken():
    taken = beat(beat(FREE, "a", now=100.0), "b", now=110.0)
    assert beat(taken, "a", now=110.1) is taken


def test_a_holder_keeps_its_epoch_though_an_answer_was_lost():
    assert beat(beat(FREE, "a", now=100.0), "a", now=100.1) == Row("a", 1, 100.1 + SECONDS)


def test_what_is_handed_over_is_taken_at_once():
    held = beat(FREE, "a", now=100.0)
    given = handed_over(held, "a", now=100.5)
    assert beat(given, "b", now=100.5) == Row("b", 2, 100.5 + SECONDS)
    assert handed_over(held, "b", now=100.5) is held


def test_a_holder_stops_before_the_row_has_run_out_however_late_the_answer_came():
    lease = Lease()
    lease.renewed(sent=10.0, epoch=1)
    end = 10.0 + SECONDS - MARGIN_SECONDS
    assert lease.holds(end - 0.01)
    assert not lease.holds(end)
    lease.renewed(sent=10.0 + SECONDS, epoch=1)
    assert lease.holds(end + SECONDS - 0.01)


def test_a_holder_asks_again_at_each_beat_and_an_outage_takes_nothing_away():
    lease = Lease()
    lease.renewed(sent=10.0, epoch=1)
    assert lease.due == 10.0 + BEAT_SECONDS
    lease.unanswered(now=10.9)
    assert lease.due == 10.9 + RETRY_SECONDS
    assert lease.holds(11.0)


@pytest.mark.parametrize(("left", "wait"), [(1.3, 1.3), (-60.0, 0.0), (600.0, SECONDS)])
def test_who_was_refused_asks_again_when_the_lease_runs_out(left, wait):
    lease = Lease()
    lease.renewed(sent=10.0, epoch=1)
    lease.refused(now=20.0, left=left)
    assert not lease.holds(10.1)
    assert (lease.epoch, lease.due) == (0, 20.0 + wait)


def test_only_a_lease_held_without_a_gap_lets_its_holder_judge_others():
    lease = Lease()
    for sent in (0.0, 0.5, 0.9):
        assert not lease.is_steady(sent)
        lease.renewed(sent, epoch=1)
    assert lease.is_steady(1.1)
    lease.renewed(sent=30.0, epoch=1)  # the database was away
    assert lease.holds(30.1)
    assert not lease.is_steady(30.9)


def test_who_gives_up_stops_before_the_next_one_starts():
    lease = Lease()
    lease.renewed(sent=10.0, epoch=1)
    lease.give_up()
    assert not lease.holds(10.1)
    assert lease.due == float("inf")

"""When to try again after failures, and what is told about them."""

import pytest

from openlaunch.controller.backoff import (
    EARLY_EXITS,
    NOTE_CRASHES,
    NOTE_SECONDS,
    Backoff,
    History,
    RetryPolicy,
    Streak,
)

POLICY = RetryPolicy()


class TestBackoff:
    def test_delays_double_up_to_the_cap(self):
        backoff = Backoff(first=1.0, cap=30.0)
        assert [backoff.delay(n) for n in range(8)] == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]

    def test_the_first_failures_may_be_free(self):
        backoff = Backoff(first=1.0, free=2)
        assert [backoff.delay(n) for n in range(5)] == [0.0, 0.0, 0.0, 1.0, 2.0]

    def test_very_many_failures_do_no_harm(self):
        assert Backoff().delay(10**6) == 30.0


class TestStreak:
    def test_without_failures_there_is_nothing_to_wait_for(self):
        assert Streak().next_try(Backoff()) == 0.0

    def test_workers_that_were_started_together_count_once(self):
        streak = Streak()
        for now in (10.0, 10.5, 11.0):
            streak = streak.failed(now, started_at=9.0)
        assert streak.count == 1
        assert streak.next_try(Backoff(first=1.0)) == 12.0

    def test_a_later_try_counts_again(self):
        streak = Streak().failed(10.0, started_at=9.0).failed(13.0, started_at=12.0)
        assert streak.count == 2
        assert streak.next_try(Backoff(first=1.0)) == 15.0


class TestLoading:
    def test_a_failure_to_load_is_a_failure_at_once(self):
        history = History().load_failed(10.0, 5.0, "ImportError")
        assert history.failure == "ImportError"
        assert history.next_start(POLICY) == 11.0

    def test_so_many_early_exits_in_a_row_are_a_failure(self):
        history = History()
        for n in range(1, EARLY_EXITS + 1):
            assert history.failure is None
            history = history.exited_early(n * 10.0, n * 10.0 - 1, f"exit {n}")
        assert history.failure == f"exit {EARLY_EXITS}"

    def test_early_exits_of_workers_that_started_together_are_one(self):
        history = History()
        for _ in range(10):
            history = history.exited_early(10.0, 9.0, "was killed by signal 11")
        assert history.failure is None
        assert history.early_end == "was killed by signal 11"

    def test_an_early_exit_after_a_failure_is_a_failure_too(self):
        history = (
            History().load_failed(10.0, 9.0, "ImportError").exited_early(20.0, 15.0, "exited with code 1")
        )
        assert history.failure == "exited with code 1"
        assert history.load_failures.count == 2

    def test_early_exits_are_held_back(self):
        history = History().exited_early(10.0, 9.0, "exit")
        assert history.next_start(POLICY) == 11.0

    def test_a_ready_worker_ends_it_all(self):
        history = (
            History().load_failed(10.0, 9.0, "ImportError").exited_early(12.0, 11.0, "exit").became_ready()
        )
        assert (history.failure, history.early_end) == (None, None)
        assert history.next_start(POLICY) == 0.0


class TestCrashes:
    def crash(self, history: History, now: float, ready_for: float = 1.0) -> History:
        return history.crashed(now, now - ready_for, now - ready_for - 1, "was killed by signal 9", POLICY)

    def test_the_first_crash_is_free_the_next_ones_are_held_back(self):
        history = self.crash(History(), 10.0)
        assert history.next_start(POLICY) == 10.0
        assert self.crash(history, 20.0).next_start(POLICY) == 21.0

    def test_a_worker_that_was_stable_begins_a_new_row(self):
        history = self.crash(self.crash(History(), 10.0), 20.0)
        history = self.crash(history, 200.0, ready_for=POLICY.crash.stable)
        assert history.crashes.count == 1

    def test_a_worker_that_has_served_begins_a_new_row_too(self):
        history = self.crash(self.crash(History(), 10.0), 20.0)
        history = history.crashed(30.0, 29.0, 28.0, "was killed by signal 11", POLICY, excused=True)
        assert history.next_start(POLICY) == 30.0
        assert (history.crash_note(31.0) or "").startswith("3 workers crashed")

    def test_workers_that_are_replaced_are_told_of_for_a_minute_and_hold_nothing_back(self):
        history = History().was_stuck(10.0, "a request did not stop")
        assert history.stuck_note(11.0) == "1 worker was replaced in the last minute: a request did not stop"
        history = history.was_stuck(20.0, "a request did not stop")
        assert (history.stuck_note(21.0) or "").startswith("2 workers were ")
        assert history.stuck_note(20.0 + NOTE_SECONDS) is None
        assert history.next_start(POLICY) == 0.0

    def test_becoming_ready_does_not_forgive_crashes(self):
        history = self.crash(self.crash(History(), 10.0), 20.0).became_ready()
        assert history.next_start(POLICY) == 21.0

    def test_the_note_counts_the_crashes_of_the_last_minute(self):
        history = self.crash(History(), 10.0)
        assert history.crash_note(11.0) == "1 worker crashed in the last minute: it was killed by signal 9"
        history = self.crash(history, 20.0)
        assert (
            history.crash_note(21.0)
            == "2 workers crashed in the last minute: the last one was killed by signal 9"
        )
        assert (history.crash_note(10.0 + NOTE_SECONDS) or "").startswith("1 worker ")
        assert history.crash_note(20.0 + NOTE_SECONDS) is None

    def test_a_storm_of_crashes_is_counted_up_to_a_bound(self):
        history = History()
        for n in range(NOTE_CRASHES * 3):
            history = self.crash(history, 10.0 + n / 100)
        assert len(history.crash_times) == NOTE_CRASHES

    @pytest.mark.parametrize("change", ["load_failed", "became_ready"])
    def test_histories_are_values(self, change):
        history = self.crash(History(), 10.0)
        before = repr(history)
        if change == "load_failed":
            history.load_failed(1.0, 0.0, "x")
        else:
            history.became_ready()
        assert repr(history) == before

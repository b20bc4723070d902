"""The clock of everything durable: the time of day, but never set.

A machine's clock is set now and then: by hand, by NTP after a start without network, when a virtual machine wakes up.
Were leases and limits to follow it, an hour forward would end every task that waits, and an hour back would hold up
what is due. So every time that is stored comes from `now`, which only passes.

Where the records are in a database on another machine, its time of day counts, because every server sees the same:
`correct` sets `now` to it.

The time of day itself (`time.time`) is for what other clocks are compared with: signed URLs, signatures of callbacks,
cron schedules, the times of files, the dates at which keys expire, and the UTC days of their quotas.
"""

import time
from collections.abc import Callable

_STEADY = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def _passing() -> float:
    """Count the seconds that pass, including those in which the machine is suspended."""
    return time.monotonic() if _STEADY is None else time.clock_gettime(_STEADY)


class SteadyClock:
    """Seconds since the epoch, as the time of day was when it was made, plus what has passed since.

    `wall` is the time of day, and `passing` a clock that nobody can set.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, passing: Callable[[], float] = _passing
    ) -> None:
        self._wall = wall
        self._passing = passing
        self._offset = self._at_start = wall() - passing()

    def now(self) -> float:
        """Return the time that this server stores and compares."""
        return self._passing() + self._offset

    def correct(self, seconds: float) -> None:
        """Set this clock forward, not the machine's; below zero: back."""
        self._offset += seconds

    def was_set_by(self) -> float:
        """Return by how many seconds the machine's clock was set forward since; below zero: back."""
        return self._wall() - self._passing() - self._at_start


_clock = SteadyClock()
now = _clock.now
correct = _clock.correct
was_set_by = _clock.was_set_by

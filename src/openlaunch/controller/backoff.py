"""When to retry after failures, and sentences about them. Pure: `now` is an argument."""

from dataclasses import dataclass, field, replace

EARLY_EXITS = 3
"""Exits in a row, before any worker was ready, that count as a failure to load the bundle."""

NOTE_SECONDS = 60.0
"""How long a crash is reported."""

NOTE_CRASHES = 100
"""The largest number of crashes that is counted."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays in seconds that double from `first` up to `cap`; `free` failures in a row cost no delay.

    A worker that was ready for `stable` seconds before it crashed begins a new row.
    """

    first: float = 1.0
    cap: float = 30.0
    free: int = 0
    stable: float = 60.0

    def delay(self, failures: int) -> float:
        steps = failures - self.free - 1
        return 0.0 if steps < 0 else min(self.cap, self.first * 2.0 ** min(steps, 32))


@dataclass(frozen=True, slots=True)
class Streak:
    """Failures in a row, last counted at `since`. Workers that were started before fail together, and count once."""

    count: int = 0
    since: float = 0.0
    last_at: float = 0.0

    def failed(self, now: float, started_at: float) -> "Streak":
        """Count a failure of a worker that was started at that time."""
        if self.count and started_at < self.since:
            return Streak(self.count, self.since, now)
        return Streak(self.count + 1, now, now)

    def next_try(self, backoff: Backoff) -> float:
        return self.last_at + backoff.delay(self.count) if self.count else 0.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The back-off of workers that could not load, and that of workers that crashed while they served."""

    load: Backoff = Backoff()
    crash: Backoff = Backoff(free=1)


@dataclass(frozen=True, slots=True)
class History:
    """How a generation's workers have failed of late. `failure` says why it can't be loaded, until one is ready."""

    load_failures: Streak = field(default_factory=Streak)
    early_exits: Streak = field(default_factory=Streak)
    crashes: Streak = field(default_factory=Streak)
    failure: str | None = None
    early_end: str | None = None
    crash_end: str | None = None
    crash_times: tuple[float, ...] = ()
    stuck_times: tuple[float, ...] = ()
    stuck_reason: str | None = None

    def load_failed(self, now: float, started_at: float, reason: str) -> "History":
        """Count an environment that could not be built, or a worker that could not load or was not ready in time."""
        failures = self.load_failures.failed(now, started_at)
        return replace(self, load_failures=failures, failure=reason, early_exits=Streak())

    def exited_early(self, now: float, started_at: float, reason: str) -> "History":
        """Count a worker that ended before it was ready and gave no reason; the third in a row is a load failure."""
        exits = self.early_exits.failed(now, started_at)
        if exits.count >= EARLY_EXITS or self.failure is not None:
            return self.load_failed(now, started_at, reason)
        return replace(self, early_exits=exits, early_end=reason)

    def became_ready(self) -> "History":
        return replace(self, load_failures=Streak(), early_exits=Streak(), failure=None, early_end=None)

    def crashed(
        self,
        now: float,
        ready_at: float,
        started_at: float,
        end: str,
        policy: RetryPolicy,
        *,
        excused: bool = False,
    ) -> "History":
        """Count a worker that ended without being asked to, after it was ready; `end` says how.

        `excused`: it has shown that the bundle serves, so what ended it is likely to be a request. That begins a new
        row: requests that end workers must not keep the others waiting.
        """
        fresh = excused or now - ready_at >= policy.crash.stable
        before = Streak() if fresh else self.crashes
        return replace(
            self,
            crashes=before.failed(now, started_at),
            crash_times=_lately(self.crash_times, now),
            crash_end=end,
        )

    def was_stuck(self, now: float, reason: str) -> "History":
        """Count a worker that has to be replaced, because something in it does not stop."""
        return replace(self, stuck_times=_lately(self.stuck_times, now), stuck_reason=reason)

    def was_unhealthy(
        self, now: float, ready_at: float, started_at: float, reason: str, policy: RetryPolicy
    ) -> "History":
        """Count a worker whose health_fn said no: it is replaced as soon as one that has crashed would be."""
        crashed = self.crashed(now, ready_at, started_at, reason, policy)
        return replace(self.was_stuck(now, reason), crashes=crashed.crashes)

    def next_start(self, policy: RetryPolicy) -> float:
        """Return the time before which no worker of this generation should be started."""
        loads = max(self.load_failures.next_try(policy.load), self.early_exits.next_try(policy.load))
        return max(loads, self.crashes.next_try(policy.crash))

    def stuck_note(self, now: float) -> str | None:
        """Return a sentence such as "1 worker was replaced in the last minute: …"; None when none was."""
        count = sum(1 for t in self.stuck_times if t > now - NOTE_SECONDS)
        if not count:
            return None
        workers = "1 worker was" if count == 1 else f"{count} workers were"
        return f"{workers} replaced in the last minute: {self.stuck_reason}"

    def crash_note(self, now: float) -> str | None:
        """Return a sentence such as "2 workers crashed in the last minute: …"; None when none did."""
        count = sum(1 for t in self.crash_times if t > now - NOTE_SECONDS)
        if not count:
            return None
        workers = "1 worker" if count == 1 else f"{count} workers"
        return (
            f"{workers} crashed in the last minute: {'it' if count == 1 else 'the last one'} {self.crash_end}"
        )


def _lately(times: tuple[float, ...], now: float) -> tuple[float, ...]:
    """Return the times that are still reported, with this one."""
    return (*(t for t in times if t > now - NOTE_SECONDS), now)[-NOTE_CRASHES:]

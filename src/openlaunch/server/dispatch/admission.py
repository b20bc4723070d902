"""Tell whether a request that has to wait is admitted, and when the client of a refused one should retry."""

import math
from collections.abc import Callable

from openlaunch.errors import TooManyRequests
from openlaunch.server.dispatch.pools import WorkerPools
from openlaunch.server.dispatch.work import Work
from openlaunch.store.records import EndpointRecord
from openlaunch.turns import FairQueue

MAX_RETRY_AFTER = 60
UNKNOWN_RETRY_AFTER = 5
FRESH_SECONDS = 30.0
OVERRUN = 1.5
"""How many times longer than it may take a wait has to be expected for a request to be refused because of it."""


class DrainRate:
    """How many requests a second ended lately while others waited, which is what the workers can do.

    An exponential average over about `window` seconds; pure, `now` is given.
    """

    def __init__(self, window: float = 10.0) -> None:
        self._window = window
        self._rate = 0.0
        self._known_at = 0.0
        self._since: float | None = None
        self._count = 0

    def ended(self, now: float) -> None:
        """Count a request that has ended while others wait."""
        if self._since is None:
            self._since = now
            return
        self._count += 1
        if (elapsed := now - self._since) >= 1.0:
            weight = 1 - math.exp(-elapsed / self._window)
            latest = self._count / elapsed
            self._rate = latest if self._rate == 0 else self._rate + weight * (latest - self._rate)
            self._since, self._count, self._known_at = now, 0, now

    def pause(self) -> None:
        """Stop counting while nothing waits: what ends then says how many come, not how many could be done."""
        self._since, self._count = None, 0

    def per_second(self, now: float) -> float | None:
        """Return the rate; None when it is not known, or is old."""
        if self._rate <= 0 or now - self._known_at > max(FRESH_SECONDS, 3 / self._rate):
            return None
        return self._rate

    def retry_after(self, waiting: int) -> int:
        """Return the whole seconds until `waiting` requests will have ended, between 1 and `MAX_RETRY_AFTER`."""
        if self._rate <= 0:
            return UNKNOWN_RETRY_AFTER
        return max(1, min(MAX_RETRY_AFTER, math.ceil(waiting / self._rate)))


def expected_wait(ahead: int, rate: float | None, workers: int, max_workers: int) -> float | None:
    """Return the seconds until `ahead` requests have been done, if all workers that there may be worked at this rate.

    None when that can't be known: nothing was measured, or there is no worker.
    """
    if rate is None or workers < 1:
        return None
    return ahead / (rate * max(1.0, max_workers / workers))


def is_hopeless(wait: float | None, left: float) -> bool:
    """Tell whether a request that has `left` seconds would only wait for its deadline to pass."""
    return wait is not None and wait > left * OVERRUN


class Admission:
    """Admits work to a lane's bounded queue, or refuses it with the time after which to retry."""

    def __init__(
        self,
        endpoint: EndpointRecord,
        waiting: FairQueue[Work],
        pools: WorkerPools,
        max_waiting: int,
        now: Callable[[], float],
    ) -> None:
        self.endpoint = endpoint
        self.max_waiting = max_waiting
        self.rate = DrainRate()
        self._waiting = waiting
        self._pools = pools
        self._now = now

    def admit(self, work: Work, owner: str) -> None:
        """Make room in the queue for work of this owner; raise TooManyRequests where there can be none in time."""
        if self._waiting.size >= self.max_waiting:
            self.drop_cancelled()
        rate, left = self.rate.per_second(now := self._now()), work.deadline - now
        if rate is not None and self._waiting.size > rate * left * OVERRUN:
            self._refuse_hopeless(left, owner)
        if self._waiting.size >= self.max_waiting:
            self._make_room_for(owner)

    def _refuse_hopeless(self, left: float, owner: str) -> None:
        """Refuse work that would be too late; there can be some where more wait than are done in the time left."""
        if not is_hopeless(self.expected_wait(self._waiting.size), left):
            return
        self.drop_cancelled()
        ahead = self._waiting.ahead_of(owner)
        if is_hopeless(wait := self.expected_wait(ahead), left):
            raise TooManyRequests(
                f"{ahead} requests of the endpoint {self.endpoint.name!r} come before this one, which takes about "
                f"{wait:.1f} s, and its deadline is in {left:.1f} s",
                code="deadline_unreachable",
                retry_after=self.rate.retry_after(ahead),
            )

    def _make_room_for(self, owner: str) -> None:
        """Refuse the newest work of the owner who has most waiting: another owner's, or this work."""
        waiting = self._waiting.size
        full = TooManyRequests(
            f"{waiting} requests wait for the endpoint {self.endpoint.name!r} already, which is the limit",
            retry_after=self.rate.retry_after(waiting),
        )
        newest = self._waiting.make_room_for(owner)
        if newest is None:
            raise full
        newest.refused(full)

    def expected_wait(self, ahead: int) -> float | None:
        """Return the seconds until `ahead` requests have been done, at best; None when that is not known."""
        rate = self.rate.per_second(self._now())
        return expected_wait(ahead, rate, len(self._pools.by_id), self.endpoint.spec.max_workers)

    def drop_cancelled(self) -> None:
        """Drop cancelled work."""
        if any(work.cancelled for work in self._waiting):
            self._waiting.keep(lambda work: not work.cancelled)

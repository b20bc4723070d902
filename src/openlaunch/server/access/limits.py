"""Limits of keys on predictions: a rate with a burst, and a number a day. Pure; `now` is seconds since the epoch."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from openlaunch.errors import TooManyRequests

DAY_SECONDS = 24 * 3600
CLOCK_SECONDS = 1e-6
"""Error of a time since the epoch as a float, for which no caller is refused who waited for `retry_after`."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a key may do; None: there is no such limit.

    `burst` is how many requests may come at once after a quiet time; without it, what comes in one second.
    """

    requests_per_second: float | None = None
    burst: int | None = None
    requests_per_day: int | None = None

    @property
    def capacity(self) -> float:
        return float(self.burst or max(1, math.ceil(self.requests_per_second or 0)))

    def __bool__(self) -> bool:
        return self.requests_per_second is not None or self.requests_per_day is not None


class Usage(NamedTuple):
    """What a key has used: `missing` tokens of its bucket as of `at`, and `today` requests of the UTC `day`."""

    missing: float = 0.0
    at: float = 0.0
    day: int = 0
    today: int = 0


def spend(limits: Limits, usage: Usage, requests: int, now: float) -> Usage:
    """Return the usage after `requests` further requests.

    What is submitted in bulk counts as many requests. More at once than the burst are taken when the bucket is
    full, and paid off afterwards. With 0 requests, the function only checks whether one would be taken.

    Raises:
        TooManyRequests: a limit is exceeded; `retry_after` is when it is not.
    """
    rate, missing = limits.requests_per_second, 0.0
    if rate is not None:
        missing = max(0.0, usage.missing - rate * max(0.0, now - usage.at))
        room = limits.capacity - missing
        needed = min(max(requests, 1), limits.capacity)
        if room + rate * CLOCK_SECONDS < needed:
            raise TooManyRequests(
                f"this key may make {rate:g} request{'' if rate == 1 else 's'} per second: "
                "wait, or have an admin raise its limit",
                code="rate_limited",
                retry_after=(needed - room) / rate,
            )
    day = int(now // DAY_SECONDS)
    used = usage.today if day == usage.day else 0
    if limits.requests_per_day is not None and used + max(requests, 1) > limits.requests_per_day:
        raise TooManyRequests(
            f"this key may make {limits.requests_per_day} requests a day, and {used} were made since 0:00 UTC: "
            "wait for tomorrow, or have an admin raise its quota",
            code="quota_exceeded",
            retry_after=(day + 1) * DAY_SECONDS - now,
        )
    return Usage(missing + requests, now, day, used + requests)


def add(limits: Limits, usage: Usage, requests: int, now: float) -> Usage:
    """Return the usage after requests at another server, which may be more than the limits allow."""
    missing = max(0.0, usage.missing - (limits.requests_per_second or 0.0) * max(0.0, now - usage.at))
    day = int(now // DAY_SECONDS)
    return Usage(missing + requests, now, day, (usage.today if day == usage.day else 0) + requests)


class Meter:
    """The limits of one key, and what it has used."""

    __slots__ = ("_usage", "limits", "unsaid")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.unsaid = 0
        """Requests that were not said to other servers yet."""
        self._usage = Usage()

    def add(self, requests: int, now: float) -> None:
        """Count requests at another server."""
        self._usage = add(self.limits, self._usage, requests, now)

    def learn(self, day: int, requests: int) -> None:
        """Note how many requests were made on a day in all."""
        self._usage = self._usage._replace(day=day, today=requests)

    @property
    def today(self) -> tuple[int, int]:
        """The last day of a request, and how many were made on it."""
        return self._usage.day, self._usage.today

    def headers(self, now: float) -> dict[str, str]:
        """Return what is left of the rate, or else of the day, as clients of OpenAI's API read it."""
        limits, usage = self.limits, self._usage
        if (rate := limits.requests_per_second) is not None:
            missing = max(0.0, usage.missing - rate * max(0.0, now - usage.at))
            limit, reset = limits.capacity, missing / rate
        elif limits.requests_per_day is not None:
            day = now // DAY_SECONDS
            missing = usage.today if day == usage.day else 0
            limit, reset = limits.requests_per_day, (day + 1) * DAY_SECONDS - now
        else:
            return {}
        return {
            "x-ratelimit-limit-requests": f"{limit:.0f}",
            "x-ratelimit-remaining-requests": f"{max(0.0, limit - missing):.0f}",
            "x-ratelimit-reset-requests": f"{reset:.3f}s",
        }

    def spend(self, requests: int, now: float) -> None:
        """Count requests; raise what the function `spend` raises, and count nothing then."""
        self._usage = spend(self.limits, self._usage, requests, now)
        self.unsaid += requests

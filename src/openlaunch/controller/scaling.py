"""How many workers an endpoint should have: pure functions of its load, its limits and the time."""

import math
from dataclasses import dataclass

from openlaunch.controller.fleet import Load
from openlaunch.engines.documents import Capacity
from openlaunch.wire.endpoint_settings import EndpointSpec

_ROUNDING = 1e-9
"""What sums of cores may be off by."""


def desired_workers(load: Load, spec: EndpointSpec) -> int:
    """Return as many workers as the load fills, within the endpoint's minimum and maximum."""
    wanted = math.ceil((load.in_flight + load.queued) / spec.full)
    return clamp(wanted, spec)


def clamp(wanted: int, spec: EndpointSpec) -> int:
    """Return the nearest number of workers that the endpoint's minimum and maximum allow; the maximum wins."""
    return min(max(wanted, spec.min_workers), spec.max_workers)


def needed_workers(spec: EndpointSpec) -> int:
    """Return how many ready workers end a roll-out: the minimum, or 1 where the endpoint is to be warmed up."""
    return clamp(1 if spec.prewarm else 0, spec)


@dataclass(frozen=True, slots=True)
class DesireWindow:
    """The highest desire of the last `period` seconds: it follows up at once, and down after a quiet period.

    Only what may still become the highest is kept, so there is at most one sample for each level of desire.
    """

    period: float
    samples: tuple[tuple[float, int], ...] = ()
    """(time, desire): times rise, desires fall."""

    def add(self, now: float, desire: int) -> "DesireWindow":
        kept = tuple(s for s in self.samples if s[0] > now - self.period and s[1] > desire)
        return DesireWindow(self.period, (*kept, (now, desire)))

    @property
    def highest(self) -> int:
        """The highest desire in the window, 0 when nothing was added yet."""
        return self.samples[0][1] if self.samples else 0

    @property
    def falls_at(self) -> float:
        """When the highest desire leaves the window, if none is added; never where nothing is desired."""
        return self.samples[0][0] + self.period if self.highest else math.inf


@dataclass(frozen=True, slots=True)
class Usage:
    """What workers hold: cores and bytes of memory."""

    cpus: float = 0.0
    memory: int = 0


class Holdings:
    """What the workers of each endpoint hold, and what those of all others do."""

    def __init__(self) -> None:
        self._by_endpoint: dict[str, Usage] = {}
        self._total: Usage | None = None

    def set(self, endpoint_id: str, usage: Usage) -> None:
        self._by_endpoint[endpoint_id] = usage
        self._total = None

    def forget(self, endpoint_id: str) -> None:
        self.set(endpoint_id, Usage())
        del self._by_endpoint[endpoint_id]

    @property
    def total(self) -> Usage:
        """What the workers of all endpoints hold."""
        # Added up once for all who ask: every endpoint asks, and again and again.
        if self._total is None:
            cpus = math.fsum(usage.cpus for usage in self._by_endpoint.values())
            self._total = Usage(cpus, sum(usage.memory for usage in self._by_endpoint.values()))
        return self._total

    def beside(self, endpoint_id: str) -> Usage:
        """Return what the workers of all other endpoints hold."""
        total, own = self.total, self._by_endpoint.get(endpoint_id, Usage())
        return Usage(total.cpus - own.cpus, total.memory - own.memory)


def usage_of(spec: EndpointSpec, workers: int) -> Usage:
    """Return the resources that an endpoint declares for this number of workers."""
    return Usage(spec.cores * workers, spec.memory_bytes * workers)


def capacity_limit(spec: EndpointSpec, capacity: Capacity, used_by_others: Usage) -> int:
    """Return how many of the endpoint's workers fit beside the other endpoints' workers.

    At least its minimum and at least 1: resources cap scaling up, and never keep an endpoint from serving.
    """
    if capacity.elastic:
        return max(spec.max_workers, 1)
    fits = [
        (whole - used) / each
        for whole, used, each in (
            (capacity.cpus, used_by_others.cpus, spec.cores),
            (capacity.memory, used_by_others.memory, spec.memory_bytes),
        )
        if each > 0
    ]
    most = math.floor(min(fits) + _ROUNDING) if fits else spec.max_workers
    return max(most, spec.min_workers, 1)

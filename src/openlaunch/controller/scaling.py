"""How many workers an endpoint should have: pure functions of its load, its limits and the time."""

import math
from dataclasses import dataclass

from openlaunch.controller.fleet import Load
from openlaunch.engines.base import Capacity
from openlaunch.wire.endpoint_settings import EndpointSpec


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


@dataclass(frozen=True, slots=True)
class Usage:
    """What workers hold: cores and bytes of memory."""

    cpus: float = 0.0
    memory: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpus + other.cpus, self.memory + other.memory)


def usage_of(spec: EndpointSpec, workers: int) -> Usage:
    """Return the resources that an endpoint declares for this number of workers."""
    return Usage(spec.cores * workers, spec.memory_bytes * workers)


def capacity_limit(spec: EndpointSpec, capacity: Capacity, used_by_others: Usage) -> int:
    """Return how many of the endpoint's workers fit beside the other endpoints' workers.

    At least its minimum and at least 1: resources cap scaling up, and never keep an endpoint from serving.
    """
    fits = [
        (whole - used) / each
        for whole, used, each in (
            (capacity.cpus, used_by_others.cpus, spec.cores),
            (capacity.memory, used_by_others.memory, spec.memory_bytes),
        )
        if each > 0
    ]
    most = math.floor(min(fits)) if fits else spec.max_workers
    return max(most, spec.min_workers, 1)

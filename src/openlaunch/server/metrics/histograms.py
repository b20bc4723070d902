"""Counts of values in fixed buckets, for what is measured again and again: an observation is three additions."""

from bisect import bisect_left
from collections.abc import Sequence

SECONDS = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
)
"""The upper bounds of the buckets of all times, in seconds."""

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""The upper bounds of the buckets of how much is done at once."""


class Histogram:
    """How many values were observed in each bucket, the last of which has no bound, and the sum of all."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def mean(self) -> float | None:
        """The mean of what was observed; None: that is nothing."""
        count = sum(self.counts)
        return self.sum / count if count else None

    def copy(self) -> "Histogram":
        """Return one with the same counts."""
        return self.plus(Histogram(self.bounds))

    def plus(self, other: "Histogram") -> "Histogram":
        """Return one with the counts of both."""
        both = Histogram(self.bounds)
        both.counts = [mine + more for mine, more in zip(self.counts, other.counts, strict=True)]
        both.sum = self.sum + other.sum
        return both


def quantile(bounds: Sequence[float], counts: Sequence[int], part: float) -> float | None:
    """Return the value below which this part of what was counted lies, as far as buckets tell; None: there is none.

    Within a bucket values are taken to be spread evenly; those above the last bound are taken to be that bound.
    """
    total = sum(counts)
    if not total:
        return None
    rank, below, lower = part * total, 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    return bounds[-1]

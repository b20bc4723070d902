"""What is counted of the server itself: how late its loop is, how it commits, and what it refuses."""

from collections import Counter

from openlaunch.errors import APIError
from openlaunch.server.metrics.counts import MAX_CODES
from openlaunch.server.metrics.histograms import SIZES, Histogram


class ServerCounts:
    """What is counted of one server since it started. Nothing of it is paid for by a prediction that succeeds."""

    def __init__(self) -> None:
        self.loop_lag = Histogram()
        """By how many seconds a timer of the event loop was late, each time that was looked at."""
        self.commit_seconds, self.commit_sizes = Histogram(), Histogram(SIZES)
        """How long transactions took, and how many operations each had; written by the thread that commits."""
        self.refusals: Counter[str] = Counter()
        """The requests that were answered with an error, by its code."""

    def committed(self, seconds: float, operations: int) -> None:
        """Count a transaction."""
        self.commit_seconds.observe(seconds)
        self.commit_sizes.observe(operations)

    def refused(self, error: APIError) -> None:
        """Count a request that is answered with an error."""
        known = error.code in self.refusals or len(self.refusals) < MAX_CODES
        self.refusals[error.code if known else "other"] += 1

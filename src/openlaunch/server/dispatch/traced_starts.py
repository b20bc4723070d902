"""Spans of what a worker needs before it serves: its environment, its process and its bundle."""

from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.metrics.histograms import Histogram
from openlaunch.server.spans import Spans


class _Traced(Histogram):
    """Counts times, and sends a span for each of them."""

    __slots__ = ("_lane", "_name", "_spans")

    def __init__(self, spans: Spans, lane: Lane, name: str) -> None:
        super().__init__()
        self._spans, self._lane, self._name = spans, lane, name

    def observe(self, value: float) -> None:
        super().observe(value)
        endpoint = self._lane.endpoint
        self._spans.part(
            self._name, value, {"openlaunch.endpoint": endpoint.name, "openlaunch.owner": endpoint.owner}
        )


def trace_starts(spans: Spans, lane: Lane) -> None:
    """Send spans for the builds and the starts of workers of a new lane."""
    numbers = lane.numbers
    numbers.build_seconds = _Traced(spans, lane, "environment build")
    numbers.process_seconds = _Traced(spans, lane, "process start")
    numbers.load_seconds = _Traced(spans, lane, "load")

"""What `/metrics` shows of the server itself, as a collector of prometheus-client."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from openlaunch.engines.documents import GpuUse
from openlaunch.server.metrics.histograms import Histogram
from openlaunch.server.metrics.server_counts import ServerCounts
from openlaunch.wire.health import Check


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerNow:
    """A server at the moment of a scrape; `records` is None where the store did not answer in time."""

    version: str
    endpoints: int
    batch_waiting: int
    batch_running: int
    counts: ServerCounts
    leads: bool
    ready: bool
    wrong: Sequence[Check]
    """Checks of /readyz that are not OK."""
    connections: int
    max_connections: int
    callbacks: Mapping[str, int]
    callbacks_pending: int | None
    folder: Path
    gpus: Callable[[], Sequence[GpuUse]]
    """Asks the driver, which takes a while."""


class ServerCollector:
    """A collector of one moment, as prometheus-client takes them. Used in a thread: it only reads."""

    def __init__(self, now: ServerNow) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        """Yield all families of the server's metrics."""
        yield from _server(self._now)
        yield from _traffic(self._now)
        yield from _gpus(self._now.gpus())
        yield from ProcessCollector(registry=None).collect()


def _server(now: ServerNow) -> Iterator[Metric]:
    yield InfoMetricFamily("openlaunch_build", "The version of the server.", {"version": now.version})
    yield _gauge(
        "leader", "1 where this server has the workers, 0 where another one of the cluster has.", now.leads
    )
    yield _gauge("ready", "1 where no check of /readyz has failed, else 0.", now.ready)
    since = GaugeMetricFamily(
        "openlaunch_check_wrong_since_seconds",
        "Since when a check of /readyz has a status that is not ok, in seconds since 1970.",
        labels=["check", "status"],
    )
    for check in now.wrong:
        if check.since is not None:
            since.add_metric([check.name, check.status.value], check.since.timestamp())
    yield since
    yield _gauge("endpoints", "Endpoints; those past 1,000 have no metrics of their own.", now.endpoints)
    yield _histogram(
        "event_loop_lag_seconds", "How late the event loop was, twice a second.", now.counts.loop_lag
    )
    yield _histogram(
        "store_commit_seconds", "How long transactions of the store took.", now.counts.commit_seconds
    )
    yield _histogram(
        "store_commit_operations",
        "How many operations transactions of the store had.",
        now.counts.commit_sizes,
    )
    disk = os.statvfs(now.folder)
    yield _gauge(
        "disk_free_bytes", "What is free on the disk of the data directory.", disk.f_bavail * disk.f_frsize
    )
    yield _gauge(
        "disk_size_bytes", "The size of the disk of the data directory.", disk.f_blocks * disk.f_frsize
    )


def _traffic(now: ServerNow) -> Iterator[Metric]:
    yield _gauge("http_connections", "Open HTTP connections.", now.connections)
    yield _gauge("http_connections_limit", "How many HTTP connections may be open.", now.max_connections)
    refused = _counter("refused_requests", "Requests answered with an error, by its code.", "code")
    for code, count in sorted(now.counts.refusals.copy().items()):
        refused.add_metric([code], count)
    yield refused
    callbacks = _counter("callback_attempts", "Attempts to send a callback, by how they ended.", "outcome")
    for outcome, count in now.callbacks.items():
        callbacks.add_metric([outcome], count)
    yield callbacks
    if now.callbacks_pending is not None:
        yield _gauge(
            "callbacks_pending", "Callbacks that wait to be sent, up to 100,000.", now.callbacks_pending
        )
    yield _gauge("batch_tasks_waiting", "Tasks of batch jobs that wait.", now.batch_waiting)
    yield _gauge("batch_tasks_running", "Tasks of batch jobs that run.", now.batch_running)


def _gpus(gpus: Sequence[GpuUse]) -> Iterator[Metric]:
    if not gpus:
        return
    busy = GaugeMetricFamily(
        "openlaunch_gpu_utilization_ratio", "How busy a GPU was, 0 to 1.", labels=["gpu"]
    )
    used = GaugeMetricFamily("openlaunch_gpu_memory_used_bytes", "Memory of a GPU in use.", labels=["gpu"])
    size = GaugeMetricFamily("openlaunch_gpu_memory_bytes", "Memory of a GPU.", labels=["gpu"])
    for gpu in gpus:
        busy.add_metric([str(gpu.index)], gpu.utilization)
        used.add_metric([str(gpu.index)], gpu.memory_used)
        size.add_metric([str(gpu.index)], gpu.memory)
    yield from (busy, used, size)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"openlaunch_{name}", text, value)


def _counter(name: str, text: str, label: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"openlaunch_{name}", text, labels=[label])


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(f"openlaunch_{name}", text, _buckets(histogram), histogram.sum)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    names = [*map(str, map(float, histogram.bounds)), "+Inf"]
    return list(zip(names, accumulate(histogram.counts), strict=True))

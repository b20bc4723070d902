"""How the numbers of endpoints are shown: over time, and the last minute of each."""

from collections.abc import Sequence
from math import isnan

from openlaunch.server import clock
from openlaunch.server.control.context import Context
from openlaunch.server.metrics.counts import FAILED, LABELS, EndpointCounts
from openlaunch.server.metrics.histograms import SECONDS, Histogram, quantile
from openlaunch.server.metrics.history import FIELDS, RANGES, Point
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus
from openlaunch.wire.metrics import (
    EndpointMetricsResponse,
    EndpointSummary,
    EndpointTotals,
    MetricsRange,
    MetricsSummaryResponse,
    Times,
)

MINUTE = 60
MINUTES_SHOWN = 60
RECENT_SECONDS = 10
"""How much older than a minute what is not yet in a minute's point may be."""

_P50, _P99 = FIELDS.index("p50"), FIELDS.index("p99")


def over_time(
    wanted: MetricsRange, points: Sequence[Point], counts: EndpointCounts
) -> EndpointMetricsResponse:
    """Return the points by field, and all that was counted."""
    columns = zip(*(point[1:] for point in points), strict=True) if points else ([] for _ in FIELDS)
    return EndpointMetricsResponse(
        range=wanted,
        step_seconds=RANGES[wanted].step,
        at=[point[0] for point in points],
        series={
            name: [None if isnan(value) else round(value, 6) for value in column]
            for name, column in zip(FIELDS, columns, strict=True)
        },
        since_start=_totals(counts),
    )


def _totals(counts: EndpointCounts) -> EndpointTotals:
    total = counts.total()
    measured = {
        "waited": total.waited,
        "ran": total.ran,
        "whole": total.whole,
        "first_item": total.first_item,
        "gaps": total.gaps,
        "build": counts.build_seconds,
        "process": counts.process_seconds,
        "load": counts.load_seconds,
    }
    return EndpointTotals(
        ended=dict(zip(LABELS, total.ended, strict=True)),
        errors=dict(total.errors),
        times={name: _times(histogram) for name, histogram in measured.items()},
        request_bytes=total.request_bytes,
        response_bytes=total.response_bytes,
        resumes=total.resumes,
        tokens={
            "input": total.input_tokens,
            "output": total.output_tokens,
            "cached": total.cached_tokens,
        },
        submitted=counts.submitted,
        retries=counts.retries,
        dead_letters=counts.dead_letters,
        events=dict(counts.events),
    )


def _times(histogram: Histogram) -> Times:
    count = sum(histogram.counts)
    return Times(
        count=count,
        mean=histogram.sum / count if count else None,
        p50=quantile(SECONDS, histogram.counts, 0.5),
        p99=quantile(SECONDS, histogram.counts, 0.99),
    )


def summary(context: Context, endpoints: Sequence[EndpointRecord]) -> MetricsSummaryResponse:
    """Return the last minute of each endpoint, those with failures and with trouble first."""
    found = [_last_minute(context, endpoint) for endpoint in endpoints]
    found.sort(key=_order)
    return MetricsSummaryResponse(endpoints=found)


def _order(summary: EndpointSummary) -> tuple[float | str, ...]:
    serves = summary.status == EndpointStatus.READY.value
    stands = summary.waiting > 0 and not summary.workers
    return -summary.failure_rate, serves, not stands, -summary.rate, summary.owner, summary.name


def _last_minute(context: Context, endpoint: EndpointRecord) -> EndpointSummary:
    now, history = clock.now(), context.history
    recent = history.latest(endpoint.id, seconds=MINUTE + RECENT_SECONDS)
    minutes = history.latest(endpoint.id, MetricsRange.DAY, MINUTE * MINUTES_SHOWN)
    last = [point[1:] for point in recent if point[0] > now - MINUTE]
    ended = [sum(values[: len(LABELS)]) for values in last]
    load = context.lanes.load(endpoint.id)
    return EndpointSummary(
        id=endpoint.id,
        name=endpoint.name,
        owner=endpoint.owner,
        endpoint_type=endpoint.endpoint_type.value,
        status=endpoint.status.value,
        status_reason=endpoint.status_reason,
        rate=round(sum(ended) / MINUTE, 3),
        failure_rate=round(sum(values[index] for values in last for index in FAILED) / MINUTE, 3),
        p50=_mean([(values[_P50], count) for values, count in zip(last, ended, strict=True)]),
        p99=max((values[_P99] for values in last if not isnan(values[_P99])), default=None),
        waiting=load.queued,
        running=load.in_flight,
        workers=context.controller.workers(endpoint.id)[0],
        sparkline=_by_minute(minutes, recent, now),
    )


def _mean(weighted: Sequence[tuple[float, float]]) -> float | None:
    known = [(value, weight) for value, weight in weighted if not isnan(value) and weight]
    weights = sum(weight for _, weight in known)
    return round(sum(value * weight for value, weight in known) / weights, 6) if weights else None


def _by_minute(points: Sequence[Point], recent: Sequence[Point], now: float) -> list[int]:
    """Count by minutes, of which the current one has no point yet: `recent` has what came after the last point."""
    minutes, counted = [0] * MINUTES_SHOWN, points[-1][0] if points else 0.0
    for at, *values in (*points, *(point for point in recent if point[0] > counted)):
        minutes[max(0, MINUTES_SHOWN - 1 - int((now - at) / MINUTE))] += round(sum(values[: len(LABELS)]))
    return minutes

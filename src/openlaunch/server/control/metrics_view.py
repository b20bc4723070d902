"""How the numbers of endpoints are shown: over time, and the last minute of each."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isnan
from operator import attrgetter
from secrets import token_hex
from time import monotonic
from typing import TypedDict

from openlaunch.controller.events import message_of
from openlaunch.controller.fleet import Load
from openlaunch.server import clock
from openlaunch.server.control.context import Context
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.troubles import Trouble
from openlaunch.server.metrics.counts import FAILED, LABELS, EndpointCounts
from openlaunch.server.metrics.histograms import SECONDS, Histogram, quantile
from openlaunch.server.metrics.history import FIELDS, RANGES, History, Point
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus
from openlaunch.wire.events import EventKind
from openlaunch.wire.events import Trouble as ShownTrouble
from openlaunch.wire.keys import ALL_OWNERS
from openlaunch.wire.metrics import (
    Batches,
    EndpointMetricsResponse,
    EndpointSummary,
    EndpointTotals,
    MetricsRange,
    Points,
    Times,
)

MINUTE = 60
MINUTES_SHOWN = 60
RECENT_SECONDS = 10
"""How much older than a minute what is not yet in a minute's point may be."""

FRESH_SECONDS = 1.0
"""For how long a list is shown again to all who ask."""

OPEN_SECONDS = 2.5
"""For how long a list is shown again to pages with an older one: half of the time after which they ask again."""

KEPT_SECONDS = 60.0
"""For how long it is known what was in a list that nobody asks for."""

MAX_VERSIONS = 100
"""Answers that one list keeps for pages that have an older version of it."""

SLICE = 20
"""Endpoints that are looked at in one turn of the loop."""

_P50, _P99, _WAIT_P99 = (FIELDS.index(name) for name in ("p50", "p99", "wait_p99"))

Seen = tuple[EndpointRecord, Load, int, float | None, tuple[Trouble, ...]]
"""The parts of an endpoint that are compared each time: record, load, workers, oldest task and troubles."""


class _Recent(TypedDict):
    """What `EndpointSummary` has from the history."""

    rate: float
    failure_rate: float
    p50: float | None
    p99: float | None
    wait_p99: float | None
    sparkline: list[int]


def over_time(
    wanted: MetricsRange, points: Sequence[Point], counts: EndpointCounts
) -> EndpointMetricsResponse:
    """Return the points by field, and all that was counted."""
    return EndpointMetricsResponse(**by_field(wanted, points).model_dump(), since_start=_totals(counts))


def by_field(wanted: MetricsRange, points: Sequence[Point]) -> Points:
    """Return the points by field."""
    columns = zip(*(point[1:] for point in points), strict=True) if points else ([] for _ in FIELDS)
    return Points(
        range=wanted,
        step_seconds=RANGES[wanted].step,
        at=[point[0] for point in points],
        series={
            name: [None if isnan(value) else round(value, 6) for value in column]
            for name, column in zip(FIELDS, columns, strict=True)
        },
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
        times={name: times_of(histogram) for name, histogram in measured.items()},
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
        batches=Batches(count=sum(total.batches.counts), mean_size=total.batches.mean),
        events=dict(counts.events),
        worker_ends=dict(counts.ends),
    )


def troubles_of(lane: Lane) -> tuple[Trouble, ...]:
    """Return what is wrong with an endpoint now; of an update that failed before this server started, too."""
    endpoint, troubles = lane.endpoint, lane.troubles.now()
    failed = EventKind.UPDATE_FAILED
    if endpoint.status is EndpointStatus.UPDATE_FAILED and failed not in (each.kind for each in troubles):
        return Trouble(failed, endpoint.status_reason or "", endpoint.updated_at), *troubles
    return troubles


def shown_troubles(troubles: Iterable[Trouble]) -> list[ShownTrouble]:
    """Return what is wrong with an endpoint, for people."""
    return [
        ShownTrouble(kind=each.kind, message=message_of(each.kind, each.detail, 1), since=time_of(each.since))
        for each in troubles
    ]


def time_of(seconds: float) -> datetime:
    """Return a time, given in seconds since 1970."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def times_of(histogram: Histogram) -> Times:
    """Return how many times there are in a histogram, and what they were."""
    return Times(
        count=sum(histogram.counts),
        mean=histogram.mean,
        p50=quantile(SECONDS, histogram.counts, 0.5),
        p99=quantile(SECONDS, histogram.counts, 0.99),
    )


@dataclass(slots=True, kw_only=True)
class _List:
    """A list of endpoints, with the answers that were made of it."""

    lines: "list[_Known]"
    order: bytes
    """The ids, as JSON."""
    ordered: int
    """The version in which the order last changed."""
    version: int
    whole: bytes = b""
    changes: dict[int, bytes] = field(default_factory=dict)
    """By the version that the page has."""


class Summaries:
    """Makes lists of the last minute of endpoints; requests at about the same time get the same one.

    Used in the event loop's thread, which no part of the work holds for long, however many endpoints there are.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: dict[str, tuple[float, asyncio.Task[_List]]] = {}
        self._last: dict[str, _List] = {}
        """The list that was made last for each owner."""
        self._known: dict[str, _Known] = {}
        """By the id of an endpoint."""
        self._taken = -1
        self._name = token_hex(4)
        """In the name of each version: another server, and this one after a restart, has others."""
        self._version = 0
        self._making = asyncio.Lock()
        """Held while a list is made, so that no line of it is newer than its version."""

    async def of(self, owner: str) -> bytes:
        """Return the list of an owner's endpoints, or everybody's, as JSON: those with trouble first."""
        made = await self._list(owner, FRESH_SECONDS)
        if not made.whole:
            made.whole = b'{"endpoints":[%b]}' % _joined(made.lines)
        return made.whole

    async def changes(self, owner: str, known: str = "") -> bytes:
        """Return what is new in the list since a version of it, or all of it where that is not known.

        `endpoints` are those that have changed, in any order; `order` are all ids, or null where it is as it was.
        """
        made = await self._list(owner, OPEN_SECONDS if known else FRESH_SECONDS)
        name, _, number = known.partition("-")
        since = int(number) if name == self._name and number.isdecimal() else 0
        if since in made.changes:
            return made.changes[since]
        version = f"{self._name}-{made.version}".encode()
        order = made.order if made.ordered > since else b"null"
        lines = _joined(line for line in made.lines if line.version > since)
        answer = b'{"version":"%b","order":%b,"endpoints":[%b]}' % (version, order, lines)
        if len(made.changes) < MAX_VERSIONS:
            made.changes[since] = answer
        return answer

    async def _list(self, owner: str, seconds: float) -> _List:
        now = monotonic()
        if owner not in self._made or now - self._made[owner][0] >= seconds:
            self._made = {each: made for each, made in self._made.items() if now - made[0] < KEPT_SECONDS}
            self._last = {each: made for each, made in self._last.items() if each in self._made}
            self._made[owner] = now, asyncio.create_task(self._make(owner))
        return await asyncio.shield(self._made[owner][1])

    async def _make(self, owner: str) -> _List:
        async with self._making:
            self._look_at_history()
            found = []
            for number, lane in enumerate(self._context.lanes):
                endpoint = lane.endpoint
                if owner in (ALL_OWNERS, endpoint.owner) and endpoint.id != endpoint.owner:
                    found.append(self._last_minute(lane))
                if number % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
            found.sort(key=attrgetter("place"))
            order, last = json.dumps([each.id for each in found]).encode(), self._last.get(owner)
            if last is None or last.order != order:
                self._version += 1
            ordered = self._version if last is None or last.order != order else last.ordered
            made = _List(lines=found, order=order, ordered=ordered, version=self._version)
            self._last[owner] = made
            return made

    def _look_at_history(self) -> None:
        """Have each endpoint's points looked at again where there may be new ones, and forget what is deleted."""
        if self._context.history.taken != self._taken:
            self._taken = self._context.history.taken
            there = {lane.endpoint.id for lane in self._context.lanes}
            self._known = {each: known for each, known in self._known.items() if each in there}
            for known in self._known.values():
                known.is_recent = False

    def _last_minute(self, lane: Lane) -> "_Known":
        """Return what is known of an endpoint; its line is made anew where something has changed."""
        endpoint, load, troubles = lane.endpoint, lane.load(), troubles_of(lane)
        workers = self._context.controller.view.workers(endpoint.id)[0]
        seen = endpoint, load, workers, lane.oldest, troubles
        known = self._known.get(endpoint.id)
        if known is not None and known.is_recent and known.seen == seen:
            return known
        recent = known.recent if known and known.is_recent else _recent(self._context.history, endpoint.id)
        if known is not None and known.recent == recent and known.seen == seen:
            known.is_recent = True
            return known
        summary = EndpointSummary(
            id=endpoint.id,
            name=endpoint.name,
            owner=endpoint.owner,
            endpoint_type=endpoint.endpoint_type.value,
            status=endpoint.status.value,
            status_reason=endpoint.status_reason,
            waiting=load.queued,
            running=load.in_flight,
            workers=workers,
            oldest_task_at=None if lane.oldest is None else time_of(lane.oldest),
            troubles=shown_troubles(troubles),
            **recent,
        )
        self._version += 1
        line = summary.model_dump_json().encode()
        known = self._known[endpoint.id] = _Known(seen, recent, _order(summary), line, self._version)
        return known


@dataclass(slots=True)
class _Known:
    """An endpoint as it was at the last look, and its line in the list: most of them change seldom."""

    seen: Seen
    recent: _Recent
    place: tuple[float | str, ...]
    line: bytes
    version: int
    is_recent: bool = True
    """Whether there are no further points than those of `recent`."""

    @property
    def id(self) -> str:
        return self.seen[0].id


def _joined(lines: Iterable[_Known]) -> bytes:
    return b",".join(each.line for each in lines)


def _order(summary: EndpointSummary) -> tuple[float | str, ...]:
    serves = summary.status == EndpointStatus.READY.value
    wrong = bool(summary.troubles) or (summary.waiting > 0 and not summary.workers)
    return -summary.failure_rate, serves, not wrong, -summary.rate, summary.owner, summary.name


def _recent(history: History, endpoint_id: str) -> _Recent:
    now = clock.now()
    recent = history.latest(endpoint_id, seconds=MINUTE + RECENT_SECONDS)
    minutes = history.latest(endpoint_id, MetricsRange.DAY, MINUTE * MINUTES_SHOWN)
    last = [point[1:] for point in recent if point[0] > now - MINUTE]
    ended = [sum(values[: len(LABELS)]) for values in last]
    return {
        "rate": round(sum(ended) / MINUTE, 3),
        "failure_rate": round(sum(values[index] for values in last for index in FAILED) / MINUTE, 3),
        "p50": _mean([(values[_P50], count) for values, count in zip(last, ended, strict=True)]),
        "p99": _most(last, _P99),
        "wait_p99": _most(last, _WAIT_P99),
        "sparkline": _by_minute(minutes, recent, now),
    }


def _most(points: Sequence[Sequence[float]], index: int) -> float | None:
    return max((values[index] for values in points if not isnan(values[index])), default=None)


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

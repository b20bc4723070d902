"""The last hour, day and two weeks of each endpoint in bounded memory and one table: charts without Prometheus."""

import asyncio
import logging
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from operator import sub

from openlaunch.background import Background
from openlaunch.errors import APIError
from openlaunch.server import clock
from openlaunch.server.metrics.counts import LABELS, EndpointCounts, PredictionCounts
from openlaunch.server.metrics.histograms import SECONDS, quantile
from openlaunch.store import metric_points
from openlaunch.store.base import Store
from openlaunch.wire.metrics import MetricsRange

log = logging.getLogger(__name__)

MAX_WATCHED = 1000
"""Endpoints of which history is kept; each takes up to 62 KiB of memory, where it is never idle."""

SAVE_SECONDS = 60.0
BLOCK_POINTS = 60
"""The points of one row of the table."""

SLICE = 20
"""Endpoints that are looked at in one turn of the loop."""

HOUR_SECONDS = 3600
SHORTEST = 5
"""The seconds between two points of the last hour."""

GAUGES = ("waiting", "running", "workers")
TIMES = ("p50", "p99", "wait_p99", "run_p50", "run_p99")
FIELDS = (*LABELS, *TIMES, *GAUGES)
"""What a point has: how many predictions ended in each way, times in seconds, and how much there was at its end."""

_POINT = struct.Struct(f"<d{len(FIELDS)}f")
_NAN = float("nan")

Sum = tuple[list[int], list[int], list[int], list[int]]
"""How many predictions have ended in each way, and the buckets of the three times."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An endpoint as it is now: what has been counted, and the gauges of `GAUGES`."""

    id: str
    counts: EndpointCounts
    gauges: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Steps:
    """How far apart the points of a range are, and for how long they are kept."""

    step: int
    keep: int

    @property
    def block(self) -> int:
        """The time that one row of the table has the points of."""
        return self.step * BLOCK_POINTS

    @property
    def in_memory(self) -> int:
        """The time of which the points stay in memory: those of rows that may still change, or the last hour."""
        return max(2 * self.block, 3600 if self.step == SHORTEST else 0)


RANGES = {
    MetricsRange.HOUR: Steps(SHORTEST, 3600),
    MetricsRange.DAY: Steps(60, 24 * 3600),
    MetricsRange.TWO_WEEKS: Steps(900, 14 * 24 * 3600),
}
Point = tuple[float, ...]
"""A time, and the values of `FIELDS`."""


class Series:
    """The points of one endpoint in one range: those of the last blocks, of the shortest range all.

    There is no point where nothing has changed: what was there before holds until the next one.
    """

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.points = bytearray()
        self.saved_until = 0.0
        self._before: Sum | None = None
        self._last: Point = ()

    def take(self, now: float, counted: Sum, gauges: tuple[int, ...]) -> None:
        """Add a point of what has happened since the last one, unless that is nothing."""
        before, self._before = self._before, counted
        ended, waited, ran, whole = (
            list(map(sub, *pair)) if before else pair[0]
            for pair in zip(counted, before or counted, strict=True)
        )
        times = [
            *(quantile(SECONDS, whole, part) for part in (0.5, 0.99)),
            quantile(SECONDS, waited, 0.99),
            *(quantile(SECONDS, ran, part) for part in (0.5, 0.99)),
        ]
        values = (*ended, *(_NAN if time is None else time for time in times), *gauges)
        unchanged = (*ended, *gauges) == self._last
        self._last = (*ended, *gauges)
        if not unchanged or any(ended):
            self.points += _POINT.pack(now, *values)
            self._trim(now)

    def restore(self, points: bytes) -> None:
        """Begin with points that were stored."""
        self.points += points
        self.saved()

    def _trim(self, now: float) -> None:
        first = self._index(now - self.steps.in_memory)
        del self.points[: first * _POINT.size]

    def _index(self, at: float) -> int:
        """Return the number of points before this time."""
        low, high = 0, len(self.points) // _POINT.size
        while low < high:
            middle = (low + high) // 2
            if self._at(middle) < at:
                low = middle + 1
            else:
                high = middle
        return low

    def since(self, at: float) -> list[Point]:
        """Return the points from this time on, without a look at those before."""
        return _points(self.points[self._index(at) * _POINT.size :])

    def _at(self, index: int) -> float:
        at: float = _POINT.unpack_from(self.points, index * _POINT.size)[0]
        return at

    def unsaved(self) -> list[tuple[float, bytes]]:
        """Return the start and the points of each block that has points which are not stored."""
        block, size, points = self.steps.block, _POINT.size, self.points
        if not points or self._at(len(points) // size - 1) <= self.saved_until:
            return []
        found, start = [], (max(self.saved_until, self._at(0)) // block) * block
        while (first := self._index(start)) < len(points) // size:
            end = self._index(start + block)
            if end > first:
                found.append((start, bytes(points[first * size : end * size])))
            start += block
        return found

    def saved(self) -> None:
        """Note that all points are stored."""
        if self.points:
            self.saved_until = self._at(len(self.points) // _POINT.size - 1)


def _points(blob: bytes | bytearray) -> list[Point]:
    whole = len(blob) - len(blob) % _POINT.size
    return [tuple(values) for values in _POINT.iter_unpack(blob[:whole])]


def _sum(counts: PredictionCounts) -> Sum:
    return counts.ended, counts.waited.counts, counts.ran.counts, counts.whole.counts


class _History:
    """The three series of one endpoint."""

    def __init__(self) -> None:
        self.series = {name: Series(steps) for name, steps in RANGES.items()}
        self._activity = -1
        self._sum: Sum = ([], [], [], [])

    def take(self, now: float, watched: Watched, due: Iterable[MetricsRange]) -> None:
        """Add points to the series that are due."""
        activity = watched.counts.activity
        if activity != self._activity:
            self._activity, self._sum = activity, _sum(watched.counts.total())
        for name in due:
            self.series[name].take(now, self._sum, watched.gauges)


class History(Background):
    """Keeps points of all endpoints while the server runs. Used in the event loop's thread.

    `look` returns the endpoints as they are. Where the store can't be written, what is not stored is lost after a
    while, and nothing else happens. Of several servers on one database each has counted its own predictions: without
    a store, points stay in memory, so that none replaces those of another server.
    """

    def __init__(self, store: Store | None, look: Callable[[], list[Watched]]) -> None:
        self._store = store
        self._look = look
        self._endpoints: dict[str, _History] = {}
        self._due = dict.fromkeys(RANGES, 0.0)
        self._failed = False
        self.taken = 0
        """How many times all endpoints have been looked at: in between no point is new."""
        super().__init__("the history of metrics is no longer kept")

    async def stop(self) -> None:
        """Store what has happened until now."""
        await super().stop()
        self._due = dict.fromkeys(RANGES, 0.0)
        await self.take(clock.now())
        await self.save()

    async def _run(self) -> None:
        await self.load()
        step, save_at = RANGES[MetricsRange.HOUR].step, clock.now() + SAVE_SECONDS
        while True:
            await self.take(clock.now())
            if clock.now() >= save_at:
                save_at = clock.now() + SAVE_SECONDS
                await self.save()
            await asyncio.sleep(step - clock.now() % step)

    async def load(self) -> None:
        """Read the last points, of the shortest range all; those after them go into the same rows of the table."""
        if self._store is None:
            return
        try:
            for name, steps in RANGES.items():
                since = clock.now() - steps.in_memory - steps.block
                rows = await self._store.read(partial(metric_points.all_since, step=steps.step, at=since))
                for endpoint_id, blob in rows:
                    if (kept := self._of(endpoint_id)) is not None:
                        kept.series[name].restore(blob)
        except APIError as error:
            log.warning("the last points of the history of metrics could not be read: %s", error)

    def _of(self, endpoint_id: str) -> _History | None:
        if endpoint_id not in self._endpoints and len(self._endpoints) >= MAX_WATCHED:
            return None
        return self._endpoints.setdefault(endpoint_id, _History())

    async def take(self, now: float) -> None:
        """Add a point to each series that is due."""
        due = [name for name, at in self._due.items() if now >= at]
        for name in due:
            step = RANGES[name].step
            self._due[name] = now - now % step + step
        watched = self._look()
        for gone in self._endpoints.keys() - {each.id for each in watched}:
            del self._endpoints[gone]
        for number, each in enumerate(watched):
            if (kept := self._of(each.id)) is not None:
                kept.take(now, each, due)
            if number % SLICE == SLICE - 1:
                await asyncio.sleep(0)
        self.taken += 1

    async def save(self) -> None:
        """Store the points that are in memory alone."""
        if self._store is None:
            return
        rows = [
            (endpoint_id, series.steps.step, start, blob)
            for endpoint_id, kept in self._endpoints.items()
            for series in kept.series.values()
            for start, blob in series.unsaved()
        ]
        now = clock.now()
        oldest = {steps.step: now - steps.keep - steps.block for steps in RANGES.values()}
        try:
            await self._store.write(partial(metric_points.save, rows=rows, oldest=oldest))
        except Exception as error:
            if not self._failed:
                log.warning(
                    "the history of metrics can't be stored; it is tried again each minute: %s", error
                )
            self._failed = True
            return
        self._failed = False
        for kept in self._endpoints.values():
            for series in kept.series.values():
                series.saved()

    async def recent(self, endpoint_id: str, wanted: MetricsRange, owner: str = "") -> list[Point]:
        """Return the points of an endpoint in a range, oldest first."""
        steps, kept = RANGES[wanted], self._endpoints.get(endpoint_id)
        since = clock.now() - steps.keep
        found = {} if kept is None else {point[0]: point for point in _points(kept.series[wanted].points)}
        if wanted is not MetricsRange.HOUR and self._store is not None:
            load = partial(
                metric_points.of_endpoint, endpoint_id=endpoint_id, step=steps.step, at=since - steps.block
            )
            stored = {p[0]: p for blob in await self._store.read(load, owner) for p in _points(blob)}
            found = stored | found
        return [found[at] for at in sorted(found) if at >= since]

    async def after(self, at: float, endpoint_id: str, wanted: MetricsRange, owner: str = "") -> list[Point]:
        """Return the points of an endpoint in a range after that time; what is recent is in memory."""
        if clock.now() - at < RANGES[wanted].in_memory and endpoint_id in self._endpoints:
            return [p for p in self._endpoints[endpoint_id].series[wanted].since(at) if p[0] > at]
        return [point for point in await self.recent(endpoint_id, wanted, owner) if point[0] > at]

    def latest(
        self, endpoint_id: str, of: MetricsRange = MetricsRange.HOUR, seconds: float = HOUR_SECONDS
    ) -> list[Point]:
        """Return the points of the last `seconds`, up to an hour, that are in memory, oldest first."""
        kept = self._endpoints.get(endpoint_id)
        return [] if kept is None else kept.series[of].since(clock.now() - seconds)

"""The history of metrics, whatever database is behind it: charts that outlast a restart, in bounded room."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, delete, insert
from store_drivers import Opener

from openlaunch.errors import Unavailable
from openlaunch.server.metrics import history as module
from openlaunch.server.metrics.counts import EndpointCounts
from openlaunch.server.metrics.history import FIELDS, RANGES, History, Watched
from openlaunch.store import metric_points
from openlaunch.store.base import Store
from openlaunch.store.tables import bundles, endpoints
from openlaunch_worker.frames import Outcome

START = 1_800_000_000.0
HOUR, DAY, WEEKS = RANGES


def _with_endpoint(conn: Connection) -> None:
    bundle = {"id": "bun", "owner": "o", "name": "b", "flavor": {}, "metadata": {}, "schemas": {}}
    conn.execute(insert(bundles).values(**bundle, created_at=0.0, version=1))
    endpoint = {"id": "end", "owner": "o", "name": "e", "endpoint_type": "sync", "bundle_id": "bun"}
    more = {"generation": 1, "spec": {}, "status": "READY", "created_at": 0.0, "updated_at": 0.0}
    conn.execute(insert(endpoints).values(**endpoint, **more))


class World:
    """One endpoint that is watched, and a clock that a test sets."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.counts, self.ids = START, EndpointCounts(), ["end"]
        monkeypatch.setattr(module.clock, "now", lambda: self.now)
        self.store = store
        self.history = self.restarted()

    def restarted(self) -> History:
        self.counts = EndpointCounts()
        self.history = History(self.store, lambda: [Watched(i, self.counts, (0, 0, 1)) for i in self.ids])
        return self.history

    async def pass_time(self, seconds: float, predictions: int = 0) -> None:
        self.now += seconds
        for _ in range(predictions):
            self.counts.of(1).answered(Outcome.SUCCESS, 0.0, 1.0)
        await self.history.take(self.now)


Test = Callable[[World], Awaitable[None]]


@pytest.fixture
def in_world(opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Runs a test in a world, with a store that has one endpoint."""

    async def run(test: Test) -> None:
        async with opener(tmp_path) as store:
            await store.write(_with_endpoint)
            await test(World(store, monkeypatch))

    return lambda test: asyncio.run(run(test))


def ok(points: list[tuple[float, ...]]) -> list[float]:
    return [point[1 + FIELDS.index("ok")] for point in points]


def test_what_happened_between_two_looks_is_a_point_and_nothing_is_none(in_world):
    async def test(world: World) -> None:
        await world.pass_time(0)
        for predictions in (3, 0, 0, 0, 2):
            await world.pass_time(5, predictions)
        points = await world.history.recent("end", HOUR)
        assert (ok(points), points[1][0]) == ([0, 3, 0, 2], START + 5)
        assert ok(world.history.latest("end")) == ok(points)

    in_world(test)


def test_each_range_has_its_own_steps(in_world):
    async def test(world: World) -> None:
        await world.pass_time(0)
        for _ in range(36):
            await world.pass_time(5, predictions=1)
        assert ok(await world.history.recent("end", HOUR)) == [0] + [1] * 36
        assert ok(await world.history.recent("end", DAY)) == [0, 12, 12, 12]
        await world.pass_time(900)
        assert ok(await world.history.recent("end", WEEKS)) == [0, 36]

    in_world(test)


def test_what_was_stored_is_there_after_a_restart_and_what_comes_later_is_beside_it(in_world):
    async def test(world: World) -> None:
        await world.pass_time(0)
        for _ in range(240):
            await world.pass_time(5, predictions=1)
            if world.now % 60 == 0:
                await world.history.save()
        await world.history.save()
        before = {name: ok(await world.history.recent("end", name)) for name in RANGES}
        await world.restarted().load()
        assert {name: ok(await world.history.recent("end", name)) for name in RANGES} == before
        assert len(before[HOUR]) == 241
        await world.pass_time(0)
        for _ in range(24):
            await world.pass_time(5, predictions=1)
        await world.history.save()
        await world.restarted().load()
        assert len(await world.history.recent("end", HOUR)) > 260
        assert sum(ok(await world.history.recent("end", DAY))) > 250

    in_world(test)


def test_memory_and_the_table_are_bounded(in_world):
    async def test(world: World) -> None:
        await world.pass_time(0)
        for _ in range(1500):
            await world.pass_time(5, predictions=1)
        points = await world.history.recent("end", HOUR)
        assert 700 <= len(points) <= 721
        assert len(world.history.latest("end")) == len(points)
        await world.history.save()
        for _ in range(20):
            await world.pass_time(24 * 3600, predictions=1)
            await world.history.save()
        assert len(await world.store.read(lambda c: metric_points.of_endpoint(c, "end", 5, 0))) <= 2
        assert len(await world.store.read(lambda c: metric_points.of_endpoint(c, "end", 900, 0))) <= 16

    in_world(test)


def test_without_a_store_points_stay_in_memory_and_replace_nothing_that_is_stored(in_world):
    async def test(world: World) -> None:
        await world.pass_time(0)
        await world.pass_time(5, predictions=1)
        await world.history.save()
        alone = History(None, lambda: [Watched("end", world.counts, (0, 0, 1))])
        await alone.load()
        await alone.take(world.now + 5)
        await alone.save()
        assert len(await alone.recent("end", DAY)) == len(await alone.recent("end", HOUR)) == 1
        await world.restarted().load()
        assert ok(await world.history.recent("end", HOUR)) == [0, 1]

    in_world(test)


def test_of_a_deleted_endpoint_nothing_is_left(in_world):
    async def test(world: World) -> None:
        await world.pass_time(0)
        await world.pass_time(5, predictions=1)
        await world.history.save()
        await world.store.write(lambda conn: conn.execute(delete(endpoints)))
        world.ids = []
        await world.pass_time(5)
        await world.history.save()
        assert await world.store.read(lambda c: metric_points.all_since(c, 5, 0)) == []
        assert world.history.latest("end") == []

    in_world(test)


def test_while_nothing_can_be_stored_points_are_kept_in_memory_and_stored_later(
    in_world, monkeypatch, caplog
):
    async def test(world: World) -> None:
        async def full(*_: object) -> None:
            raise Unavailable("the disk is full")

        await world.pass_time(0)
        with monkeypatch.context() as patch:
            patch.setattr(world.store, "write", full)
            for _ in range(3):
                await world.pass_time(5, predictions=1)
                await world.history.save()
        assert caplog.text.count("the disk is full") == 1
        await world.history.save()
        await world.restarted().load()
        assert ok(await world.history.recent("end", HOUR)) == [0, 1, 1, 1]

    in_world(test)

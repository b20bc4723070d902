"""The real controller in virtual time, with an engine and a fleet that only look so.

A bundle's name says how its workers behave: see `FakeEngine`.
"""

import asyncio
import atexit
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from example_bundles import make_bundle, make_flavor
from sqlalchemy import Connection, StaticPool, create_engine
from virtual_time import VirtualLoop

from openlaunch.background import BackgroundTasks
from openlaunch.controller import supervisor as supervisor_module
from openlaunch.controller.actions import Action, SetStatus
from openlaunch.controller.controller import Controller
from openlaunch.controller.endpoint import ControllerSettings
from openlaunch.controller.fleet import Load
from openlaunch.controller.plan import plan
from openlaunch.controller.reports import Reports
from openlaunch.controller.situation import Phase, Policy, Situation
from openlaunch.controller.supervisor import Supervisor
from openlaunch.controller.trial import Trial
from openlaunch.engines.base import EngineError, EngineEvents, NoRoom, OneMachine
from openlaunch.engines.documents import BuildOrder, Capacity, WorkerExit, WorkerSpec
from openlaunch.server.metrics.counts import EndpointCounts
from openlaunch.store import bundles, endpoints, tables
from openlaunch.store.records import BundleRecord, CanaryRecord, EndpointRecord
from openlaunch.wire.bundles import CloudpickleArtifactFlavor
from openlaunch.wire.endpoint_settings import EndpointSettings, EndpointSpec
from openlaunch.wire.endpoints import CanaryStatus, EndpointStatus, EndpointType
from openlaunch.wire.why import EndpointWhy

T = TypeVar("T")

BUILD_SECONDS = 3.0
LOAD_SECONDS = 2.0
DRAIN_SECONDS = 5.0
STOP_SECONDS = 1.0
RULE = {"rollback_after_failures": 2, "probation_requests": 5}
POLICY = Policy(load_timeout=60.0, drain_timeout=90.0)
BUNDLES = ("good", "better", "best", "does-not-load", "no-environment", "dies-early", "hangs", "crashes")
KILLED = WorkerExit(None, 9)

_loop = VirtualLoop()
_folder = tempfile.TemporaryDirectory()


@atexit.register
def _close() -> None:
    _loop.cancel_all()
    _loop.run(_store.close())
    _loop.close()
    _folder.cleanup()


def make_spec(**changes: object) -> EndpointSpec:
    """One worker at least, three at most, a request each."""
    values = {"min_workers": 1, "max_workers": 3, "per_worker": 1, "cpus": 1.0, "memory": 0, "storage": 0}
    return EndpointSpec.model_validate(values | changes)


def make_record(spec: EndpointSpec, **changes: object) -> EndpointRecord:
    """An endpoint as a create route stores it."""
    record = EndpointRecord(
        id="end_1",
        owner="ada",
        name="digits",
        endpoint_type=EndpointType.SYNC,
        bundle_id="good",
        generation=1,
        spec=spec,
        status=EndpointStatus.UPDATE_PENDING,
        status_reason=None,
        created_at=0.0,
        updated_at=0.0,
    )
    return replace(record, **changes)  # type: ignore[arg-type]


class MemoryStore:
    """Implements `Store` in this thread: operations run at once, on a database in memory.

    All simulations share one, because its tables take longer to create than most simulations run.
    """

    def __init__(self) -> None:
        self._engine = create_engine("sqlite://", poolclass=StaticPool)
        self.do(tables.metadata.create_all)
        for name in BUNDLES:
            bundle = make_bundle(name, make_flavor(load_predict_fn=name))
            self.do(lambda conn, bundle=bundle: bundles.insert(conn, bundle))  # type: ignore[misc]

    def begin(self, record: EndpointRecord) -> None:
        """Forget the endpoint of the simulation before, and store this one."""
        for table in (tables.endpoints, tables.endpoint_events):
            self.do(lambda conn, table=table: conn.execute(table.delete()))  # type: ignore[misc]
        self.do(lambda conn: endpoints.insert(conn, record))

    def do(self, op: Callable[[Connection], T]) -> T:
        with self._engine.begin() as conn:
            return op(conn)

    async def write(self, op: Callable[[Connection], T], owner: str = "") -> T:
        return self.do(op)

    async def read(self, op: Callable[[Connection], T], owner: str = "") -> T:
        return self.do(op)

    async def close(self) -> None:
        self._engine.dispose()


_store = MemoryStore()


async def no_secrets(owner: str, names: Sequence[str]) -> Mapping[str, str]:
    return {}


class FakeFleet:
    """Implements `Fleet` and `Traffic`: its load and its trials are what the test says."""

    address = "/nowhere"

    def __init__(self, drain: Callable[[str], None]) -> None:
        self.waiting = Load(0, 0)
        self.tried: dict[int, Trial] = {}
        self.refused: list[str] = []
        self.bundles: dict[str, str] = {}
        self.drain = drain

    def expect(
        self,
        worker_id: str,
        token: str,
        endpoint: EndpointRecord,
        bundle: BundleRecord,
        generation: int,
        secrets: Mapping[str, str],
    ) -> None:
        self.bundles[worker_id] = bundle.id

    def terms(
        self, endpoint: EndpointRecord, bundle: BundleRecord, generation: int, secrets: Mapping[str, str]
    ) -> str:
        return bundle.id

    def rest(self, worker_id: str) -> None:
        raise AssertionError("no worker has a server that sleeps here")

    def wake(self, worker_id: str) -> None:
        raise AssertionError("no worker sleeps here")

    def forget(self, worker_id: str, reason: str, *, with_node: bool = False) -> None:
        del self.bundles[worker_id]

    def is_wanted(self, worker_id: str) -> bool:
        return False

    def is_excused(self, worker_id: str) -> bool:
        return False

    def load(self, endpoint_id: str) -> Load:
        return self.waiting

    def trials(self, endpoint_id: str) -> dict[int, Trial]:
        return self.tried

    def update_endpoint(self, endpoint: EndpointRecord) -> None:
        pass

    def remove_endpoint(self, endpoint_id: str) -> None:
        pass

    def numbers(self, endpoint_id: str) -> EndpointCounts:
        return EndpointCounts()

    def set_elsewhere(self, *, elsewhere: bool) -> None:
        """There is one server."""

    def fail_waiting(self, endpoint_id: str, reason: str) -> None:
        self.refused.append(reason)


class FakeEngine(OneMachine):
    """Implements what the controller uses of `Engine`: after a while a worker loads, or does what its bundle says."""

    def __init__(self, gpus: int) -> None:
        self.builds = self.logs = self
        self.drain_seconds = DRAIN_SECONDS
        self.cpus = 1000
        self.gpus = gpus
        self.held_by_others = 0
        self.started: list[tuple[float, str]] = []
        self.drained: list[str] = []
        self._running: dict[str, WorkerSpec] = {}
        self._tasks = BackgroundTasks("the simulation failed")

    def listen(self, events: EngineEvents) -> None:
        assert isinstance(events, Reports)
        self._events = events

    def note(self, endpoint_id: str, worker_id: str, text: str) -> None:
        """Write no log."""

    def capacity(self) -> Capacity:
        return Capacity(self.cpus, 1 << 40, self.gpus, self._free())

    def _free(self) -> int:
        held = sum(spec.resources.gpus for spec in self._running.values())
        return max(0, self.gpus - self.held_by_others - held)

    async def prepare(self, build: BuildOrder) -> str:
        self._events.build_started(build.id)
        self._events.build_does(build.id, "downloading torch (846.6MiB)")
        await asyncio.sleep(BUILD_SECONDS)
        assert isinstance(build.flavor, CloudpickleArtifactFlavor)
        if build.flavor.load_predict_fn == "no-environment":
            raise EngineError("uv found no such package")
        return build.flavor.load_predict_fn

    async def prune(self, used: Collection[str]) -> list[str]:
        return []

    async def start(self, spec: WorkerSpec) -> None:
        if spec.resources.gpus > self._free():
            raise NoRoom("the GPUs are taken")
        self.started.append((_loop.now, spec.worker_id))
        self._running[spec.worker_id] = spec
        self._tasks.spawn(self._load(spec))

    async def _load(self, spec: WorkerSpec) -> None:
        await asyncio.sleep(LOAD_SECONDS)
        if spec.worker_id not in self._running:
            return
        match spec.environment:
            case "hangs":
                pass
            case "does-not-load":
                self._events.worker_load_failed(spec.worker_id, "ImportError: no module named torch", None)
                await self._end(spec.worker_id, WorkerExit(3, None), STOP_SECONDS)
            case "dies-early":
                await self._end(spec.worker_id, WorkerExit(None, 11))
            case "crashes":
                self._events.worker_ready(spec.worker_id)
                await self._end(spec.worker_id, KILLED, 1.0)
            case _:
                self._events.worker_ready(spec.worker_id)

    async def stop(self, worker_id: str, grace: float) -> None:
        await self._end(worker_id, WorkerExit(None, 15), STOP_SECONDS)

    def drain(self, worker_id: str) -> None:
        self.drained.append(worker_id)
        self.end_later(worker_id, WorkerExit(0, None), self.drain_seconds)

    def end_later(self, worker_id: str, ended: WorkerExit, seconds: float = 0.0) -> None:
        """End a worker's process."""
        self._tasks.spawn(self._end(worker_id, ended, seconds))

    async def _end(self, worker_id: str, ended: WorkerExit, seconds: float = 0.0) -> None:
        await asyncio.sleep(seconds)
        if self._running.pop(worker_id, None) is not None:
            self._events.worker_ended(worker_id, ended)

    def kill_all(self) -> None:
        """End everything with the server."""
        self._running.clear()


@dataclass(frozen=True)
class SimWorker:
    """A worker as tests look at it."""

    id: str
    bundle: str
    phase: Phase


class Simulation:
    """One endpoint, from the moment that a create route has stored it. `check` is called with every plan."""

    def __init__(
        self,
        record: EndpointRecord,
        gpus: int = 0,
        check: Callable[[Situation, list[Action]], None] = lambda *_: None,
    ) -> None:
        _loop.cancel_all()
        self._check = check
        self._broken: Exception | None = None
        self._record = record
        self.statuses: list[tuple[EndpointStatus, str | None]] = []
        self._store = _store
        self._store.begin(record)
        self.engine = FakeEngine(gpus)
        self._serve()

    def _serve(self) -> None:
        supervisor_module.plan = self._plan
        self.fleet = FakeFleet(self.engine.drain)
        settings = ControllerSettings(Path(_folder.name), tick=5.0, policy=POLICY)
        fleet, now = self.fleet, lambda: _loop.now
        self._controller = Controller(self._store, fleet, fleet, self.engine, settings, now, no_secrets)  # type: ignore[arg-type]
        _loop.run(self._controller.start())

    def _plan(self, situation: Situation, policy: Policy) -> list[Action]:
        actions = plan(situation, policy)
        self.statuses += [(a.status, a.reason) for a in actions if isinstance(a, SetStatus)]
        try:
            self._check(situation, actions)
        except AssertionError as error:
            self._broken = self._broken or error
        return actions

    # What tests look at.

    @property
    def record(self) -> EndpointRecord:
        return self._supervisor.endpoint.record

    @property
    def _supervisor(self) -> Supervisor:
        found = self._controller._supervisors.get(self._record.id)
        assert found is not None
        return found

    @property
    def workers(self) -> dict[str, SimWorker]:
        return {w.id: SimWorker(w.id, self.fleet.bundles[w.id], w.phase) for w in self._supervisor.roster}

    def count(self, *phases: Phase, bundle: str | None = None) -> int:
        """The workers in one of these phases, of one bundle or of all."""
        return sum(w.phase in phases and bundle in (None, w.bundle) for w in self.workers.values())

    def has_been_ready(self, generation: int) -> bool:
        state = self.situation().generations.get(generation)
        return state is not None and state.ready_since is not None

    def situation(self) -> Situation:
        return self._supervisor.observe()

    def why(self) -> EndpointWhy:
        return self._supervisor.explain()

    # What the outside does.

    @property
    def load(self) -> Load:
        return self.fleet.waiting

    @load.setter
    def load(self, load: Load) -> None:
        self.fleet.waiting = load
        if load.queued:
            self._in_loop(lambda: self._controller.reports.demand(self._record.id))

    def _change(self, **changes: object) -> None:
        record = replace(self.record, **changes)  # type: ignore[arg-type]
        self._store.do(lambda conn: endpoints.update(conn, record))
        self._in_loop(lambda: self._controller.apply(record))

    def deploy(self, bundle: str, **changes: object) -> None:
        """Ask for another bundle, or for other resources: a new generation."""
        self._change(
            bundle_id=bundle,
            generation=self.record.next_generation,
            spec=self.record.spec.changed(EndpointSettings(**changes)),
            status=EndpointStatus.UPDATE_PENDING,
            status_reason=None,
        )

    def scale(self, low: int, high: int) -> None:
        """Ask for another minimum and maximum: the workers stay."""
        self._change(spec=self.record.spec.changed(EndpointSettings(min_workers=low, max_workers=high)))

    def start_canary(self, bundle: str, percent: int, **settings: int) -> None:
        """Give a second bundle a share."""
        starting, number = CanaryStatus.STARTING, self.record.next_generation
        self._change(canary=CanaryRecord(bundle, number, percent, starting, None, _loop.now, **settings))

    def promote(self) -> None:
        """Make the canary's generation the endpoint's."""
        canary = self.record.live_canary
        assert canary is not None
        self._change(
            bundle_id=canary.bundle_id,
            generation=canary.generation,
            status=EndpointStatus.UPDATE_PENDING,
            canary=None,
        )

    def roll_back(self) -> None:
        """End the canary."""
        canary = self.record.live_canary
        assert canary is not None
        self._change(canary=replace(canary, status=CanaryStatus.ROLLED_BACK))

    def predict(self, generation: int, count: int, error: str | None = None) -> None:
        """Let `count` predictions of a generation end, all well or all with this error."""
        before = self.fleet.tried.get(generation, Trial())
        places = tuple(range(before.requests + 1, before.requests + count + 1)) if error else ()
        self.fleet.tried[generation] = Trial(
            before.requests + count,
            before.failures + len(places),
            before.failed_at + places,
            error or before.error,
        )

    def kill(self, index: int) -> None:
        """End a worker's process at once, whatever it does."""
        if workers := sorted(self.workers):
            self._in_loop(lambda: self.engine.end_later(workers[index % len(workers)], KILLED))

    def lose(self, index: int) -> None:
        """End a worker's connection: its process follows a little later."""
        if workers := sorted(self.workers):
            self._in_loop(lambda: self._controller.reports.worker_lost(workers[index % len(workers)]))

    def others_hold(self, gpus: int) -> None:
        """Let the workers of other endpoints hold this number of GPUs."""
        self.engine.held_by_others = gpus

    def restart_server(self) -> None:
        """Kill the server and start it again: only the store is left."""
        _loop.cancel_all()
        self.engine.kill_all()
        load = self.load
        self._serve()
        self.load = load

    def run(self, seconds: float) -> None:
        """Let time pass, and at least as much as the controller takes to see what has happened."""
        _loop.run(asyncio.sleep(max(seconds, 0.05)))
        if self._broken is not None:
            raise self._broken

    def _in_loop(self, call: Callable[[], None]) -> None:
        async def calling() -> None:
            call()

        _loop.run(calling())

"""A fleet in virtual time: does what a plan says, as a supervisor does, and lets workers load, fail and die."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from openlaunch.controller.backoff import History
from openlaunch.controller.fleet import Load
from openlaunch.controller.gpu_pool import GpuPool
from openlaunch.controller.plan import (
    Action,
    Build,
    BuildEnvironment,
    DrainWorker,
    Generation,
    Gpus,
    Phase,
    Policy,
    Refuse,
    SetCanary,
    SetStatus,
    Situation,
    StartWorker,
    StopWorker,
    Worker,
    plan,
)
from openlaunch.controller.scaling import DesireWindow, desired_workers, needed_workers
from openlaunch.controller.trial import Trial
from openlaunch.store.records import CanaryRecord, EndpointRecord
from openlaunch.wire.endpoint_settings import EndpointSettings, EndpointSpec
from openlaunch.wire.endpoints import CanaryStatus, EndpointStatus, EndpointType

BUILD_SECONDS = 3.0
LOAD_SECONDS = 2.0
DRAIN_SECONDS = 5.0
STOP_SECONDS = 1.0
QUIET_SECONDS = 30.0
POLICY = Policy(load_timeout=60.0, drain_timeout=90.0)


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


@dataclass(slots=True)
class SimWorker:
    """A worker's process in the simulation."""

    id: str
    generation: int
    bundle: str
    started_at: float
    since: float
    phase: Phase = Phase.STARTING
    ready_at: float | None = None
    expected: bool = False


@dataclass
class Simulation:
    """One endpoint. A bundle's name says how it behaves: see `_loaded` and `_built`."""

    record: EndpointRecord
    gpus: int = 0
    limit: int = 1000
    now: float = 1000.0
    load: Load = field(default_factory=lambda: Load(0, 0))
    check: Callable[["Simulation", Situation, list[Action]], None] = lambda *_: None
    workers: dict[str, SimWorker] = field(default_factory=dict)
    builds: dict[int, Build] = field(default_factory=dict)
    histories: dict[int, History] = field(default_factory=dict)
    trials: dict[int, Trial] = field(default_factory=dict)
    ready_since: dict[int, float] = field(default_factory=dict)
    started: list[tuple[float, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    statuses: list[tuple[EndpointStatus, str | None]] = field(default_factory=list)
    drain_seconds: float = DRAIN_SECONDS

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._pool = GpuPool(tuple(range(self.gpus)))
        self._window = DesireWindow(QUIET_SECONDS)

    # What the outside does.

    def deploy(self, bundle: str, **changes: object) -> None:
        """Ask for another bundle, or for other resources: a new generation."""
        self.record = replace(
            self.record,
            bundle_id=bundle,
            generation=self.record.next_generation,
            spec=self.record.spec.changed(EndpointSettings(**changes)),
            status=EndpointStatus.UPDATE_PENDING,
            status_reason=None,
        )

    def start_canary(self, bundle: str, percent: int, **settings: int) -> None:
        """Give a second bundle a share."""
        starting = CanaryStatus.STARTING
        canary = CanaryRecord(
            bundle, self.record.next_generation, percent, starting, None, self.now, **settings
        )
        self.record = replace(self.record, canary=canary)

    def promote(self) -> None:
        """Make the canary's generation the endpoint's."""
        canary = self.record.live_canary
        assert canary is not None
        self.record = replace(
            self.record,
            bundle_id=canary.bundle_id,
            generation=canary.generation,
            status=EndpointStatus.UPDATE_PENDING,
            canary=None,
        )

    def roll_back(self) -> None:
        """End the canary."""
        canary = self.record.live_canary
        assert canary is not None
        self.record = replace(self.record, canary=replace(canary, status=CanaryStatus.ROLLED_BACK))

    def predict(self, generation: int, count: int, error: str | None = None) -> None:
        """Let so many predictions of a generation end, all well or all with this error."""
        before = self.trials.get(generation, Trial())
        places = tuple(range(before.requests + 1, before.requests + count + 1)) if error else ()
        self.trials[generation] = Trial(
            before.requests + count,
            before.failures + len(places),
            before.failed_at + places,
            error or before.error,
        )

    def scale(self, low: int, high: int) -> None:
        """Ask for another minimum and maximum: the workers stay."""
        self.record = replace(
            self.record, spec=self.record.spec.changed(EndpointSettings(min_workers=low, max_workers=high))
        )

    def kill(self, index: int) -> None:
        """End a worker's process at once, whatever it does."""
        if self.workers:
            self._exit(sorted(self.workers)[index % len(self.workers)], "was killed by signal 9")

    def lose(self, index: int) -> None:
        """End a worker's connection: its process follows a little later."""
        if self.workers:
            worker = self.workers[sorted(self.workers)[index % len(self.workers)]]
            if worker.phase in (Phase.STARTING, Phase.READY):
                worker.phase, worker.since = Phase.LOST, self.now
            self._later(STOP_SECONDS, lambda: self._exit(worker.id, "lost its connection, and was stopped"))

    def others_hold(self, gpus: int) -> None:
        """Let the workers of other endpoints hold so many GPUs, or as many as are free."""
        self._pool.give_back("others")
        self._pool.take("others", min(gpus, self._pool.free))

    def restart_server(self) -> None:
        """End the server and start it again: only the record is left."""
        self.workers.clear()
        self.builds.clear()
        self.histories.clear()
        self.trials.clear()
        self.ready_since.clear()
        self.__post_init__()

    def run(self, seconds: float) -> None:
        """Let so much time pass: events in their order, a look at the endpoint after each and every 5 s."""
        end = self.now + seconds
        self.settle()
        while self.now < end:
            due = min((at for at, _, _ in self._events), default=end)
            self.now = min(end, due, self.now + 5.0)
            ready = sorted(e for e in self._events if e[0] <= self.now)
            self._events = [e for e in self._events if e[0] > self.now]
            for _, _, happen in ready:
                happen()
            self.settle()

    def settle(self) -> None:
        """Plan and do until there is nothing to do: that has to come to an end."""
        for _ in range(50):
            situation = self.situation()
            actions = plan(situation, POLICY)
            self.check(self, situation, actions)
            for action in actions:
                self._do(action)
            if all(isinstance(action, Refuse) for action in actions):
                return
        raise AssertionError(f"the plan does not settle: {actions}")

    def situation(self) -> Situation:
        """What a supervisor would observe now."""
        spec = self.record.spec
        rolling = self.record.status in (EndpointStatus.UPDATE_PENDING, EndpointStatus.UPDATE_IN_PROGRESS)
        wanted = max(desired_workers(self.load, spec), needed_workers(spec) if rolling else 0)
        self._window = self._window.add(self.now, wanted)
        return Situation(
            endpoint=self.record,
            workers=tuple(Worker(w.id, w.generation, w.phase, w.since) for w in self.workers.values()),
            generations={n: self._generation(n) for n in self.builds},
            desired=min(max(self._window.highest, spec.min_workers), spec.max_workers),
            limit=self.limit,
            gpus=Gpus(self._pool.free, self._pool.waits_for(spec), self._pool.problem(spec)),
            now=self.now,
        )

    def _generation(self, number: int) -> Generation:
        trial, ready_since = self.trials.get(number, Trial()), self.ready_since.get(number)
        return Generation(self.builds[number], self._history(number), None, trial, ready_since)

    def count(self, *phases: Phase, bundle: str | None = None) -> int:
        """The workers in one of these phases, of one bundle or of all."""
        return sum(w.phase in phases and bundle in (None, w.bundle) for w in self.workers.values())

    # What a plan asks for.

    def _do(self, action: Action) -> None:
        match action:
            case BuildEnvironment(generation, bundle):
                self.builds[generation] = Build.BUILDING
                self._later(BUILD_SECONDS, lambda: self._built(generation, bundle))
            case StartWorker(generation, bundle):
                self._start(generation, bundle)
            case DrainWorker(worker_id):
                self._drain(self.workers[worker_id])
            case StopWorker(worker_id, failure):
                self._stop(self.workers[worker_id], failure)
            case SetStatus(status, reason, generation, bundle, rejected):
                self.record = replace(
                    self.record,
                    status=status,
                    status_reason=reason,
                    ready_generation=generation,
                    ready_bundle_id=bundle,
                    rejected_generation=rejected,
                )
                self.statuses.append((status, reason))
            case SetCanary(generation, status, reason):
                canary = self.record.live_canary
                assert canary is not None
                assert canary.generation == generation
                self.record = replace(self.record, canary=replace(canary, status=status, reason=reason))
            case Refuse(reason):
                self.refused.append(reason)

    def _start(self, generation: int, bundle: str) -> None:
        assert self.builds[generation] is Build.BUILT, "a worker needs an environment"
        self._count += 1
        worker = SimWorker(f"w{self._count:05}", generation, bundle, self.now, self.now)
        if self._pool.take(worker.id, self.record.spec.gpus) is None:
            return
        self.started.append((self.now, generation))
        self.workers[worker.id] = worker
        self._later(LOAD_SECONDS, lambda: self._loaded(worker))

    def _drain(self, worker: SimWorker) -> None:
        if worker.phase is Phase.READY:
            worker.phase, worker.since, worker.expected = Phase.DRAINING, self.now, True
            self._later(self.drain_seconds, lambda: self._exit(worker.id, "exited with code 0"))

    def _stop(self, worker: SimWorker, failure: str | None) -> None:
        if worker.phase is Phase.STOPPING:
            return
        if failure is not None:
            self._load_failed(worker, failure)
        worker.phase, worker.since, worker.expected = Phase.STOPPING, self.now, True
        self._later(STOP_SECONDS, lambda: self._exit(worker.id, "was killed by signal 15"))

    # What happens by itself.

    def _built(self, generation: int, bundle: str) -> None:
        if bundle == "no-environment":
            self.builds[generation] = Build.NONE
            before = self._history(generation)
            self.histories[generation] = before.load_failed(self.now, self.now, "uv found no such package")
        else:
            self.builds[generation] = Build.BUILT

    def _loaded(self, worker: SimWorker) -> None:
        if worker.id not in self.workers or worker.phase is not Phase.STARTING:
            return
        match worker.bundle:
            case "hangs":
                return
            case "does-not-load":
                self._load_failed(worker, "ImportError: no module named torch")
                worker.phase, worker.since, worker.expected = Phase.STOPPING, self.now, True
                self._later(STOP_SECONDS, lambda: self._exit(worker.id, "exited with code 3"))
            case "dies-early":
                self._exit(worker.id, "was killed by signal 11")
            case bundle:
                worker.phase, worker.since, worker.ready_at = Phase.READY, self.now, self.now
                self.histories[worker.generation] = self._history(worker.generation).became_ready()
                self.ready_since.setdefault(worker.generation, self.now)
                if bundle == "crashes":
                    self._later(1.0, lambda: self._exit(worker.id, "was killed by signal 9"))

    def _load_failed(self, worker: SimWorker, reason: str) -> None:
        before = self._history(worker.generation)
        self.histories[worker.generation] = before.load_failed(self.now, worker.started_at, reason)

    def _exit(self, worker_id: str, end: str) -> None:
        worker = self.workers.pop(worker_id, None)
        if worker is None:
            return
        self._pool.give_back(worker_id)
        if worker.expected:
            return
        before = self._history(worker.generation)
        if worker.ready_at is None:
            after = before.exited_early(self.now, worker.started_at, f"a worker {end} before it was ready")
        else:
            after = before.crashed(self.now, worker.ready_at, worker.started_at, end, POLICY.retry)
        self.histories[worker.generation] = after

    def _history(self, generation: int) -> History:
        return self.histories.get(generation, History())

    def _later(self, seconds: float, happen: Callable[[], None]) -> None:
        self._count += 1
        self._events.append((self.now + seconds, self._count, happen))

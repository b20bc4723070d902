"""The heart of the controller: from what is wanted and what is there to what to do. Pure, `now` is given.

The newest generation of an endpoint replaces the older ones worker by worker: as many old workers stay as the
newest lacks ready ones. While the newest is not known to load, the `ready` generation is the fallback: it is
kept at its full size, and goes on serving when the newest fails.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from openlaunch.controller.backoff import History, RetryPolicy
from openlaunch.controller.scaling import needed_workers
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus


class Phase(StrEnum):
    """Where a worker stands. LOST: its connection ended and its process has not yet."""

    STARTING = "starting"
    READY = "ready"
    LOST = "lost"
    DRAINING = "draining"
    STOPPING = "stopping"


class Build(StrEnum):
    """Where a generation's environment stands."""

    NONE = "none"
    QUEUED = "queued"
    BUILDING = "building"
    BUILT = "built"


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker as it is seen now; `since` is when it came into this phase."""

    id: str
    generation: int
    phase: Phase
    since: float


@dataclass(frozen=True, slots=True)
class Generation:
    """What is known of a generation: its environment, and how its workers have failed.

    `load_seconds` is how long its workers may take to be ready, where its bundle says so.
    """

    build: Build = Build.NONE
    history: History = field(default_factory=History)
    load_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that can be handed out now; `problem` is why the endpoint can never have what it asks for."""

    free: int = 0
    waits_for: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds in seconds, and the back-offs."""

    load_timeout: float = 600.0
    drain_timeout: float = 600.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a plan depends on.

    `desired` is the number of workers that the load asks for, `limit` the number that the machine's cores and
    memory hold; the limit takes away no worker that is there.
    """

    endpoint: EndpointRecord
    workers: tuple[Worker, ...]
    generations: Mapping[int, Generation]
    desired: int
    limit: int
    gpus: Gpus
    now: float

    @property
    def newest(self) -> Generation:
        """What is known of the generation that is wanted."""
        return self.generations.get(self.endpoint.generation, Generation())

    @property
    def problem(self) -> str | None:
        """Why the newest generation can't be served now."""
        return self.gpus.problem or self.newest.history.failure

    @property
    def fallback(self) -> int | None:
        """The older generation that serves until the newest is known to load."""
        ready = self.endpoint.ready_generation
        waits = self.endpoint.status is not EndpointStatus.READY or self.problem is not None
        return ready if waits and ready != self.endpoint.generation else None

    @property
    def target(self) -> int:
        """How many workers should serve, whatever their generation."""
        return min(self.desired, max(self.limit, self.count(Phase.READY)))

    def count(self, *phases: Phase, newest: bool | None = None) -> int:
        """The workers in one of these phases, of the newest generation, the others, or all."""
        return len(self.select(*phases, newest=newest))

    def select(self, *phases: Phase, newest: bool | None = None) -> list[Worker]:
        """The same as a list, the youngest first."""
        chosen = [
            w
            for w in self.workers
            if w.phase in phases and newest in (None, w.generation == self.endpoint.generation)
        ]
        return sorted(chosen, key=lambda w: (-w.since, w.id))

    def may_start(self, generation: int, policy: Policy) -> bool:
        """Whether the generation's environment is there and its back-off has passed."""
        state = self.generations.get(generation, Generation())
        return state.build is Build.BUILT and state.history.next_start(policy.retry) <= self.now


@dataclass(frozen=True, slots=True)
class BuildEnvironment:
    """Build the environment of this generation's bundle."""

    generation: int
    bundle_id: str


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker of this generation."""

    generation: int
    bundle_id: str


@dataclass(frozen=True, slots=True)
class DrainWorker:
    """Let the worker finish what it runs, and exit."""

    worker_id: str


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Stop the worker. `failure` says why that counts as a failure to load; None when it is just not needed."""

    worker_id: str
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Record where the endpoint stands, and which generation was ready last."""

    status: EndpointStatus
    reason: str | None
    ready_generation: int | None
    ready_bundle_id: str | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse what waits and can't be queued for good: no worker can be started."""

    reason: str


Action = BuildEnvironment | StartWorker | DrainWorker | StopWorker | SetStatus | Refuse


def plan(s: Situation, policy: Policy) -> list[Action]:
    """What to do now. Doing it, and asking again when something has happened, leads to what is wanted.

    Nothing is planned for an endpoint that is being deleted: its workers are retired, and its status stays.
    """
    if s.endpoint.status is EndpointStatus.DELETE_IN_PROGRESS:
        return []
    older = list(_older_workers(s, policy))
    promised = sum(isinstance(action, StartWorker) for action in older)
    return [
        *_stop_overdue(s, policy),
        *_build(s, policy),
        *_newest_workers(s, policy, promised),
        *older,
        *_record(s),
    ]


def _stop_overdue(s: Situation, policy: Policy) -> Iterator[Action]:
    for worker in s.select(Phase.STARTING):
        allowed = s.generations.get(worker.generation, Generation()).load_seconds or policy.load_timeout
        if s.now - worker.since > allowed:
            yield StopWorker(worker.id, f"a worker was not ready within {allowed:g} s of its start")
    for worker in s.select(Phase.DRAINING):
        if s.now - worker.since > policy.drain_timeout:
            yield StopWorker(worker.id)


def _build(s: Situation, policy: Policy) -> Iterator[Action]:
    """Build what is missing; after a failure only while there is somebody to serve, and with back-off."""
    endpoint = s.endpoint
    if s.problem is None or s.target > 0:
        yield from _build_one(s, endpoint.generation, endpoint.bundle_id, policy)
    if s.fallback is not None and endpoint.ready_bundle_id is not None and s.target > 0:
        yield from _build_one(s, s.fallback, endpoint.ready_bundle_id, policy)


def _build_one(s: Situation, generation: int, bundle_id: str, policy: Policy) -> Iterator[Action]:
    state = s.generations.get(generation, Generation())
    if state.build is Build.NONE and state.history.next_start(policy.retry) <= s.now:
        yield BuildEnvironment(generation, bundle_id)


_ALIVE = (Phase.STARTING, Phase.READY, Phase.LOST)
"""LOST workers keep their place until it is known how they ended, which decides on the back-off."""


def _newest_workers(s: Situation, policy: Policy, promised: int) -> Iterator[Action]:
    """Scale the newest generation; the GPUs of `promised` workers are for the fallback, which is known to load."""
    alive = s.count(*_ALIVE, newest=True)
    if alive > s.target:
        lost = s.count(Phase.LOST, newest=True)  # they serve nobody, and leave by themselves
        yield from _scale_down(s, alive - lost - s.target, newest=True)
        return
    missing = s.target - alive
    if s.problem is not None:  # one worker at a time tries whether it loads again
        missing = min(missing, 1 - s.count(Phase.STARTING, newest=True))
    if missing <= 0 or s.gpus.problem is not None or not s.may_start(s.endpoint.generation, policy):
        return
    startable = _startable(s, missing, promised)
    yield from (StartWorker(s.endpoint.generation, s.endpoint.bundle_id) for _ in range(startable))
    if s.problem is None:
        yield from _make_room(s, missing - startable, alive + startable)


def _startable(s: Situation, missing: int, promised: int = 0) -> int:
    gpus = s.endpoint.spec.gpus
    return min(missing, max(0, s.gpus.free // gpus - promised)) if gpus else missing


def _make_room(s: Situation, short: int, coming: int) -> Iterator[Action]:
    """Old workers give up their GPUs where the newest generation can't have any otherwise.

    One goes on serving until a new one is ready, unless no new one can come without its GPUs.
    """
    leaving = s.count(Phase.DRAINING, Phase.STOPPING, newest=False)
    there, serving = s.count(Phase.STARTING, Phase.READY, newest=False), s.count(Phase.READY, newest=False)
    keeps_one = not s.count(Phase.READY, newest=True) and (serving > 1 or leaving + coming > 0)
    yield from _scale_down(s, min(short - leaving, there - keeps_one), newest=False)


def _older_workers(s: Situation, policy: Policy) -> Iterator[Action]:
    """Keep as many as the newest generation lacks ready workers; replace them only while they are the fallback."""
    outdated = [
        w for w in s.select(Phase.STARTING, newest=False) if w.generation != s.endpoint.ready_generation
    ]
    yield from (StopWorker(w.id) for w in outdated)
    wanted = max(0, s.target - s.count(Phase.READY, newest=True))
    alive = s.count(*_ALIVE, newest=False) - len(outdated)
    if alive > wanted:
        lost = s.count(Phase.LOST, newest=False)
        yield from _scale_down(s, alive - lost - wanted, newest=False, but=outdated)
    elif wanted > alive:
        yield from _start_fallback(s, wanted - alive, policy)


def _start_fallback(s: Situation, missing: int, policy: Policy) -> Iterator[Action]:
    generation, bundle_id = s.fallback, s.endpoint.ready_bundle_id
    if generation is None or bundle_id is None or not s.may_start(generation, policy):
        return
    newest_may_come = s.problem is None and s.newest.build is Build.BUILT
    if s.endpoint.spec.gpus and newest_may_come:  # the GPUs are for the newest
        return
    yield from (StartWorker(generation, bundle_id) for _ in range(_startable(s, missing)))


def _scale_down(s: Situation, surplus: int, *, newest: bool, but: Iterable[Worker] = ()) -> Iterator[Action]:
    """First those that are not ready yet, then the youngest: the oldest have the warmest caches."""
    spared = {worker.id for worker in but}
    starting = [w for w in s.select(Phase.STARTING, newest=newest) if w.id not in spared]
    leaving: list[Action] = [StopWorker(w.id) for w in starting]
    leaving += [DrainWorker(w.id) for w in s.select(Phase.READY, newest=newest)]
    yield from leaving[: max(0, surplus)]


def _record(s: Situation) -> Iterator[Action]:
    endpoint = s.endpoint
    status, reason = _status(s)
    proven = s.count(Phase.READY, newest=True) > 0
    ready = (
        (endpoint.generation, endpoint.bundle_id)
        if proven
        else (endpoint.ready_generation, endpoint.ready_bundle_id)
    )
    new = SetStatus(status, reason, *ready)
    old = SetStatus(
        endpoint.status, endpoint.status_reason, endpoint.ready_generation, endpoint.ready_bundle_id
    )
    if new != old:
        yield new
    if status is EndpointStatus.UPDATE_FAILED and reason is not None and not _can_serve(s):
        yield Refuse(reason)


def _can_serve(s: Situation) -> bool:
    """Whether a worker is ready, or an older generation can give one."""
    if s.count(Phase.READY):
        return True
    if s.fallback is None or s.gpus.problem is not None:
        return False
    return s.generations.get(s.fallback, Generation()).history.failure is None


def _status(s: Situation) -> tuple[EndpointStatus, str | None]:
    status, ready = s.endpoint.status, s.count(Phase.READY, newest=True)
    needed = needed_workers(s.endpoint.spec)
    if ready and ready >= needed:
        return EndpointStatus.READY, _ready_note(s)
    if s.problem is not None and (not ready or status is not EndpointStatus.READY):
        return EndpointStatus.UPDATE_FAILED, s.problem
    if status is EndpointStatus.UPDATE_FAILED:  # a further try is no success yet
        return status, s.endpoint.status_reason
    if status is EndpointStatus.READY or (s.newest.build is Build.BUILT and not needed):
        return EndpointStatus.READY, _ready_note(s)
    return _progress(s, ready, needed)


def _ready_note(s: Situation) -> str | None:
    history = s.newest.history
    if history.failure is not None:
        return f"a worker could not be started: {history.failure}"
    if (note := history.crash_note(s.now) or history.stuck_note(s.now)) is not None:
        return note
    if history.early_end is not None:
        return history.early_end
    if s.count(Phase.READY) < s.target and s.gpus.waits_for is not None:
        return s.gpus.waits_for
    if s.desired > s.target:
        return f"not scaled beyond {s.target}: more workers do not fit this machine's cores and memory"
    return None


def _progress(s: Situation, ready: int, needed: int) -> tuple[EndpointStatus, str | None]:
    match s.newest.build:
        case Build.NONE:
            return s.endpoint.status, s.endpoint.status_reason
        case Build.QUEUED:
            return s.endpoint.status, "waits for the environments of other endpoints to be built"
        case Build.BUILDING:
            return EndpointStatus.UPDATE_IN_PROGRESS, "the environment is being built"
        case Build.BUILT:
            count = f"{ready} of {needed} workers are ready"
            note = s.newest.history.early_end or s.gpus.waits_for
            return EndpointStatus.UPDATE_IN_PROGRESS, f"{count}; {note}" if note else count

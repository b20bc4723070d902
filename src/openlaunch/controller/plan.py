"""The heart of the controller: from what is wanted and what is there to what to do. Pure, `now` is given.

The newest generation of an endpoint replaces the older ones worker by worker: as many old workers stay as the
newest lacks ready ones. While the newest is not known to load, the `ready` generation is the fallback: it is
kept at its full size, and goes on serving when the newest fails. Where a rule asks for it, its workers are kept
until the newest has passed its probation: it is rejected when its first predictions fail.

A canary is a generation beside these, with workers on top of theirs: whatever becomes of it, they are as they
were. Its number is above the endpoint's, which is what it becomes when the canary is promoted.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from openlaunch.controller.backoff import History, RetryPolicy
from openlaunch.controller.scaling import needed_workers
from openlaunch.controller.trial import PROBATION_SECONDS, Rule, Trial, failed_predictions
from openlaunch.store.records import CanaryRecord, EndpointRecord
from openlaunch.wire.endpoints import CanaryStatus, EndpointStatus


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
    """What is known of a generation: its environment, and how its workers and its predictions have failed.

    `load_seconds` is how long its workers may take to be ready, where its bundle says so; `ready_since` is when
    the first of them was, None before; `bundle_name` is known once it is built.
    """

    build: Build = Build.NONE
    history: History = field(default_factory=History)
    load_seconds: float | None = None
    trial: Trial = field(default_factory=Trial)
    ready_since: float | None = None
    bundle_name: str | None = None


UNKNOWN = Generation()
"""A generation that nothing has been done for."""


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
        return self.generations.get(self.endpoint.generation, UNKNOWN)

    @property
    def problem(self) -> str | None:
        """Why the newest generation can't be served now."""
        return self.rejection or self.gpus.problem or self.newest.history.failure

    @property
    def rule(self) -> Rule | None:
        """The rule that the newest generation's first predictions are held against: another has to be there."""
        return Rule.of(self.endpoint.spec) if self.endpoint.replaces_another else None

    @property
    def rejection(self) -> str | None:
        """Why the newest generation is rolled back: its first predictions have failed."""
        if self.endpoint.is_rejected:
            return self.endpoint.status_reason or "its first predictions failed"
        if (rule := self.rule) is None:
            return None
        bundle = _bundle_label(self.newest, self.endpoint.bundle_id)
        return failed_predictions(self.newest.trial, rule, bundle)

    @property
    def on_probation(self) -> bool:
        """Whether the newest generation serves, and the one before is kept for a roll-back."""
        rule, since = self.rule, self.newest.ready_since
        if rule is None or since is None or self.rejection is not None:
            return False
        return self.now - since < PROBATION_SECONDS and not self.newest.trial.is_over(rule)

    @property
    def ready_newest(self) -> int:
        """The newest generation's workers that serve, and are to go on with it."""
        return 0 if self.rejection is not None else self.count(Phase.READY, newest=True)

    @property
    def fallback(self) -> int | None:
        """The older generation that serves until the newest is known to load."""
        ready = self.endpoint.ready_generation
        waits = self.endpoint.status is not EndpointStatus.READY or self.problem is not None
        return ready if waits and ready != self.endpoint.generation else None

    @property
    def target(self) -> int:
        """How many workers should serve, whatever their generation."""
        newest, older = self.count(Phase.READY, newest=True), self.count(Phase.READY, newest=False)
        there = max(newest, older) if self.on_probation else newest + older
        return min(self.desired, max(self.limit, there))

    def count(self, *phases: Phase, newest: bool | None = None) -> int:
        """The workers in one of these phases, of the newest generation, the ones before, or both."""
        return len(self.select(*phases, newest=newest))

    def select(self, *phases: Phase, newest: bool | None = None) -> list[Worker]:
        """The same as a list, the youngest first."""
        chosen = [
            w
            for w in self.workers
            if w.phase in phases
            and not self.is_beside(w.generation)
            and newest in (None, w.generation == self.endpoint.generation)
        ]
        return _youngest_first(chosen)

    def beside(self, *phases: Phase) -> list[Worker]:
        """Those of the canary, and of canaries that have ended, the youngest first."""
        return _youngest_first(w for w in self.workers if w.phase in phases and self.is_beside(w.generation))

    def is_beside(self, generation: int) -> bool:
        """Whether it is a canary's, or that of one that has ended."""
        canary = self.endpoint.canary
        return generation > self.endpoint.generation or (
            canary is not None and canary.generation == generation
        )

    def may_start(self, generation: int, policy: Policy) -> bool:
        """Whether the generation's environment is there and its back-off has passed."""
        state = self.generations.get(generation, UNKNOWN)
        return state.build is Build.BUILT and state.history.next_start(policy.retry) <= self.now


def _youngest_first(workers: Iterable[Worker]) -> list[Worker]:
    return sorted(workers, key=lambda w: (-w.since, w.id))


def _bundle_label(generation: Generation, bundle_id: str) -> str:
    return bundle_id if generation.bundle_name is None else f"{generation.bundle_name} ({bundle_id})"


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
    """Record where the endpoint stands, which generation was ready last, and one that is rolled back."""

    status: EndpointStatus
    reason: str | None
    ready_generation: int | None
    ready_bundle_id: str | None
    rejected_generation: int | None = None


@dataclass(frozen=True, slots=True)
class SetCanary:
    """Record where the canary of this generation stands."""

    generation: int
    status: CanaryStatus
    reason: str | None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Refuse what waits and can't be queued for good: no worker can be started."""

    reason: str


Action = BuildEnvironment | StartWorker | DrainWorker | StopWorker | SetStatus | SetCanary | Refuse


def plan(s: Situation, policy: Policy) -> list[Action]:
    """What to do now. Doing it, and asking again when something has happened, leads to what is wanted.

    Nothing is planned for an endpoint that is being deleted: its workers are retired, and its status stays.
    """
    if s.endpoint.status is EndpointStatus.DELETE_IN_PROGRESS:
        return []
    older = list(_older_workers(s, policy))
    newest = list(_newest_workers(s, policy, _starts(older)))
    return [
        *_stop_overdue(s, policy),
        *_build(s, policy),
        *newest,
        *older,
        *_canary(s, policy, _starts(older) + _starts(newest)),
        *_record(s),
    ]


def _starts(actions: Iterable[Action]) -> int:
    return sum(isinstance(action, StartWorker) for action in actions)


def _stop_overdue(s: Situation, policy: Policy) -> Iterator[Action]:
    for worker in (*s.select(Phase.STARTING), *s.beside(Phase.STARTING)):
        allowed = s.generations.get(worker.generation, UNKNOWN).load_seconds or policy.load_timeout
        if s.now - worker.since > allowed:
            yield StopWorker(worker.id, f"a worker was not ready within {allowed:g} s of its start")
    for worker in (*s.select(Phase.DRAINING), *s.beside(Phase.DRAINING)):
        if s.now - worker.since > policy.drain_timeout:
            yield StopWorker(worker.id)


def _build(s: Situation, policy: Policy) -> Iterator[Action]:
    """Build what is missing; after a failure only while there is somebody to serve, and with back-off."""
    endpoint = s.endpoint
    if s.rejection is None and (s.problem is None or s.target > 0):
        yield from _build_one(s, endpoint.generation, endpoint.bundle_id, policy)
    if s.fallback is not None and endpoint.ready_bundle_id is not None and s.target > 0:
        yield from _build_one(s, s.fallback, endpoint.ready_bundle_id, policy)


def _build_one(s: Situation, generation: int, bundle_id: str, policy: Policy) -> Iterator[Action]:
    state = s.generations.get(generation, UNKNOWN)
    if state.build is Build.NONE and state.history.next_start(policy.retry) <= s.now:
        yield BuildEnvironment(generation, bundle_id)


_ALIVE = (Phase.STARTING, Phase.READY, Phase.LOST)
"""LOST workers keep their place until it is known how they ended, which decides on the back-off."""


def _newest_workers(s: Situation, policy: Policy, promised: int) -> Iterator[Action]:
    """Scale the newest generation; the GPUs of `promised` workers are for the fallback, which is known to load."""
    alive = s.count(*_ALIVE, newest=True)
    if s.rejection is not None:
        yield from _scale_down(s, alive, newest=True)
        return
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
    """Keep as many as the newest generation lacks ready workers; replace them only while they are the fallback.

    While the newest is on probation all that are there are kept.
    """
    outdated = [
        w for w in s.select(Phase.STARTING, newest=False) if w.generation != s.endpoint.ready_generation
    ]
    yield from (StopWorker(w.id) for w in outdated)
    wanted = max(0, s.target - s.ready_newest)
    kept = s.target if s.on_probation else wanted
    alive = s.count(*_ALIVE, newest=False) - len(outdated)
    if alive > kept:
        lost = s.count(Phase.LOST, newest=False)
        yield from _scale_down(s, alive - lost - kept, newest=False, but=outdated)
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
    """So many leave, of the ready ones the youngest: the oldest have the warmest caches."""
    spared = {worker.id for worker in but}
    there = s.select(Phase.STARTING, Phase.READY, newest=newest)
    yield from _leave([w for w in there if w.id not in spared], surplus)


def _leave(workers: Iterable[Worker], surplus: int) -> Iterator[Action]:
    """So many of the workers leave, those that are not ready first; the youngest are given first."""
    workers = list(workers)
    leaving: list[Action] = [StopWorker(w.id) for w in workers if w.phase is Phase.STARTING]
    leaving += [DrainWorker(w.id) for w in workers if w.phase is Phase.READY]
    yield from leaving[: max(0, surplus)]


def _record(s: Situation) -> Iterator[Action]:
    endpoint = s.endpoint
    status, reason = _status(s)
    proven = s.ready_newest > 0 and not s.on_probation
    ready = (
        (endpoint.generation, endpoint.bundle_id)
        if proven
        else (endpoint.ready_generation, endpoint.ready_bundle_id)
    )
    rejected = endpoint.generation if s.rejection is not None else endpoint.rejected_generation
    new = SetStatus(status, reason, *ready, rejected)
    old = SetStatus(
        endpoint.status,
        endpoint.status_reason,
        endpoint.ready_generation,
        endpoint.ready_bundle_id,
        endpoint.rejected_generation,
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
    return s.generations.get(s.fallback, UNKNOWN).history.failure is None


def _status(s: Situation) -> tuple[EndpointStatus, str | None]:
    status, ready = s.endpoint.status, s.ready_newest
    needed = needed_workers(s.endpoint.spec)
    if s.rejection is not None:
        return EndpointStatus.UPDATE_FAILED, s.rejection
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
    if s.on_probation and s.rule is not None:
        return (
            f"on probation: the workers of before are kept until {s.rule.among} predictions have ended, "
            f"or {PROBATION_SECONDS:g} s have passed"
        )
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


# The canary.


def _canary(s: Situation, policy: Policy, promised: int) -> Iterator[Action]:
    """Keep the canary's workers at its share; those of one that has ended leave."""
    canary = s.endpoint.live_canary
    failure = None if canary is None else _canary_failure(s, canary)
    ended = canary is None or failure is not None
    staying = [w for w in s.beside(*_ALIVE) if not ended and canary and w.generation == canary.generation]
    leaving = [w for w in s.beside(Phase.STARTING, Phase.READY) if w not in staying]
    yield from _leave(leaving, len(leaving))
    if canary is None:
        return
    if failure is None:
        yield from _canary_workers(s, canary, staying, policy, promised)
    yield from _record_canary(s, canary, failure)


def _canary_workers(
    s: Situation, canary: CanaryRecord, alive: list[Worker], policy: Policy, promised: int
) -> Iterator[Action]:
    yield from _build_one(s, canary.generation, canary.bundle_id, policy)
    target = _canary_target(s, canary)
    if len(alive) > target:
        lost = sum(w.phase is Phase.LOST for w in alive)
        yield from _leave([w for w in alive if w.phase is not Phase.LOST], len(alive) - lost - target)
    elif s.may_start(canary.generation, policy):
        missing = _startable(s, target - len(alive), promised)
        yield from (StartWorker(canary.generation, canary.bundle_id) for _ in range(missing))


def _canary_target(s: Situation, canary: CanaryRecord) -> int:
    """The workers that its share of the load fills, as far as the machine has room beside the others; one always."""
    share = math.ceil(s.target * canary.percent / 100)
    return max(1, min(share, s.limit - s.target))


def _canary_failure(s: Situation, canary: CanaryRecord) -> str | None:
    """Why the canary is over: none of its workers can load its bundle, or its first predictions have failed."""
    state = s.generations.get(canary.generation, UNKNOWN)
    if state.history.failure is not None and not _ready_canaries(s, canary):
        return state.history.failure
    rule = Rule.of(canary)
    return failed_predictions(state.trial, rule, _bundle_label(state, canary.bundle_id))


def _ready_canaries(s: Situation, canary: CanaryRecord) -> int:
    return sum(w.generation == canary.generation for w in s.beside(Phase.READY))


def _record_canary(s: Situation, canary: CanaryRecord, failure: str | None) -> Iterator[Action]:
    if failure is not None:
        new = SetCanary(canary.generation, CanaryStatus.FAILED, failure)
    elif canary.status is CanaryStatus.SERVING or _ready_canaries(s, canary):
        note = s.generations.get(canary.generation, UNKNOWN).history.crash_note(s.now)
        new = SetCanary(canary.generation, CanaryStatus.SERVING, note)
    else:
        new = SetCanary(canary.generation, CanaryStatus.STARTING, _canary_progress(s, canary))
    if new != SetCanary(canary.generation, canary.status, canary.reason):
        yield new


def _canary_progress(s: Situation, canary: CanaryRecord) -> str | None:
    state = s.generations.get(canary.generation, UNKNOWN)
    if state.build is Build.BUILDING:
        return "the environment is being built"
    started = any(w.generation == canary.generation for w in s.beside(Phase.STARTING))
    return state.history.early_end or (None if started else s.gpus.waits_for)

"""What a plan is made of: an endpoint, its workers and generations as they are seen now."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from openlaunch.controller.backoff import History, RetryPolicy
from openlaunch.controller.gpus import Gpus
from openlaunch.controller.trial import PROBATION_SECONDS, Rule, Trial, failed_predictions
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus


class Phase(StrEnum):
    """Where a worker stands. LOST: its connection ended and its process has not yet. ASLEEP: it has no GPUs."""

    STARTING = "starting"
    READY = "ready"
    LOST = "lost"
    DRAINING = "draining"
    ASLEEP = "asleep"
    STOPPING = "stopping"


class Build(StrEnum):
    """Where a generation's environment stands."""

    NONE = "none"
    QUEUED = "queued"
    BUILDING = "building"
    BUILT = "built"


BUILD_PROGRESS = {
    Build.QUEUED: "the environment waits for those of other endpoints to be built",
    Build.BUILDING: "the environment is being built",
}


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker as it is seen now; `since` is when it came into this phase.

    One that is `worn` is replaced as the workers of an older generation are.
    """

    id: str
    generation: int
    phase: Phase
    since: float
    worn: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """What is known of a generation: its environment, and how its workers and its predictions have failed.

    `load_seconds` is how long its workers may take to be ready, where its bundle says so; `ready_since` is when
    the first of them was, None before; `bundle_name` is known once it is built. While it is being built,
    `build_step` says what is done, and `build_since` since when.
    """

    build: Build = Build.NONE
    history: History = field(default_factory=History)
    load_seconds: float | None = None
    trial: Trial = field(default_factory=Trial)
    ready_since: float | None = None
    bundle_name: str | None = None
    build_step: str = ""
    build_since: float = 0.0

    def build_progress(self, now: float) -> str | None:
        """Say what is being built, and for how long; None where nothing is."""
        if self.build is not Build.BUILDING:
            return BUILD_PROGRESS.get(self.build)
        step = f": {self.build_step}" if self.build_step else ""
        return f"{BUILD_PROGRESS[self.build]}, for {max(0.0, now - self.build_since):.0f} s so far{step}"


UNKNOWN = Generation()
"""A generation that nothing has been done for."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds in seconds, and the back-offs."""

    load_timeout: float = 600.0
    drain_timeout: float = 600.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True)
class NoRoomSince:
    """What a worker waits for that could not be started, since when, and when that was last tried."""

    waits_for: str
    since: float
    tried_at: float

    def again(self, waits_for: str, now: float) -> "NoRoomSince":
        """Return what stands after another try without room."""
        return NoRoomSince(waits_for, self.since if self.stands(now) else now, now)

    def stands(self, now: float) -> bool:
        """Return whether a worker is still waited for: it is tried with each look."""
        return now - self.tried_at <= TRY_SECONDS


TRY_SECONDS = 3.0
"""How long after the last try a worker counts as waited for."""

ROOM_SECONDS = 30.0
"""How long a worker of the newest generation waits for room before older ones make some for it."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a plan depends on.

    `desired` is the number of workers that the load asks for, `limit` the number that the machine's cores and
    memory hold; the limit takes away no worker that is there. `no_room` is set where the last worker that was to be
    started could not be.
    """

    endpoint: EndpointRecord
    workers: tuple[Worker, ...]
    generations: Mapping[int, Generation]
    desired: int
    limit: int
    gpus: Gpus
    now: float
    no_room: NoRoomSince | None = None

    @property
    def waits_for(self) -> str | None:
        """What a further worker waits for."""
        return self.gpus.waits_for or (None if self.no_room is None else self.no_room.waits_for)

    @property
    def needs_room(self) -> bool:
        """Whether a worker of the newest generation has waited for long, and older generations hold room."""
        if self.no_room is None or self.now - self.no_room.since < ROOM_SECONDS:
            return False
        older = self.select(Phase.STARTING, Phase.READY, newest=False)
        return any(worker.generation != self.endpoint.generation for worker in older)

    @property
    def newest(self) -> Generation:
        return self.generations.get(self.endpoint.generation, UNKNOWN)

    @property
    def problem(self) -> str | None:
        """Why the newest generation can't be served now."""
        return self.rejection or self.gpus.problem or self.newest.history.failure

    @property
    def rule(self) -> Rule | None:
        """The rule for the newest generation's first predictions, where it replaces another generation."""
        return Rule.of(self.endpoint.spec) if self.endpoint.replaces_another else None

    @property
    def rejection(self) -> str | None:
        """Why the newest generation is rolled back: its first predictions have failed."""
        if self.endpoint.is_rejected:
            return self.endpoint.status_reason or "its first predictions failed"
        if (rule := self.rule) is None:
            return None
        bundle = bundle_label(self.newest, self.endpoint.bundle_id)
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
        """The newest generation's workers that serve and are to stay."""
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

    @property
    def is_settled(self) -> bool:
        """Whether all that is wanted is there, and nothing is on its way."""
        endpoint = self.endpoint
        known = endpoint.status in (EndpointStatus.READY, EndpointStatus.UPDATE_FAILED)
        awake = [worker for worker in self.workers if worker.phase is not Phase.ASLEEP]
        all_ready = all(worker.phase is Phase.READY for worker in awake)
        return known and endpoint.live_canary is None and all_ready and len(awake) >= self.desired

    def count(self, *phases: Phase, newest: bool | None = None) -> int:
        """Count the workers in one of these phases, of the newest generation, the ones before, or both."""
        return len(self.select(*phases, newest=newest))

    def select(self, *phases: Phase, newest: bool | None = None) -> list[Worker]:
        """Return the workers that `count` counts, the youngest first."""
        chosen = [
            w
            for w in self.workers
            if w.phase in phases and not self.is_beside(w.generation) and newest in (None, self._is_newest(w))
        ]
        return youngest_first(chosen)

    def _is_newest(self, worker: Worker) -> bool:
        return worker.generation == self.endpoint.generation and not (worker.worn and self.rejection is None)

    def beside(self, *phases: Phase) -> list[Worker]:
        """Return the workers of the canary, and of canaries that have ended, the youngest first."""
        return youngest_first(w for w in self.workers if w.phase in phases and self.is_beside(w.generation))

    def is_beside(self, generation: int) -> bool:
        """Return whether the generation is a canary, or was one."""
        canary = self.endpoint.canary
        return generation > self.endpoint.generation or (
            canary is not None and canary.generation == generation
        )

    def may_start(self, generation: int, policy: Policy) -> bool:
        state = self.generations.get(generation, UNKNOWN)
        return state.build is Build.BUILT and state.history.next_start(policy.retry) <= self.now


def youngest_first(workers: Iterable[Worker]) -> list[Worker]:
    """Sort workers by when they came into their phase, the last one first."""
    return sorted(workers, key=lambda w: (-w.since, w.id))


def bundle_label(generation: Generation, bundle_id: str) -> str:
    """Return how a reason names a bundle: by its name, where that is known, and its id."""
    return bundle_id if generation.bundle_name is None else f"{generation.bundle_name} ({bundle_id})"


def does_not_fit(s: Situation) -> str:
    """Say that the machine is too small for the workers that the load asks for."""
    return f"{s.desired} workers are wanted, and {s.limit} fit this machine's cores and memory"


def count_of_workers(count: int) -> str:
    """Return "1 worker", or "3 workers"."""
    return "1 worker" if count == 1 else f"{count} workers"

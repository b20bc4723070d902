"""Which workers an endpoint has."""

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from openlaunch.controller.situation import Phase, Worker
from openlaunch.wire.workers import WorkerEnd


@dataclass(slots=True)
class WorkerState:
    """A worker, from its start until its process has ended.

    `ready_at` is None until it was ready, and `worn` set once another one should take its place. `expected` is set
    once its end is not a failure of its own, and `reported` once an event has said why it ends. `end` is set where
    that does not follow from how the process ended.
    """

    id: str
    generation: int
    started_at: float
    since: float
    phase: Phase = Phase.STARTING
    ready_at: float | None = None
    expected: bool = False
    reported: bool = False
    worn: bool = False
    end: WorkerEnd | None = None
    end_reason: str | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def short_id(self) -> str:
        return self.id.rpartition(".")[2]

    def enter(self, phase: Phase, now: float) -> None:
        self.phase, self.since = phase, now

    async def wait_gone(self, seconds: float) -> bool:
        """Wait until the process has ended, for `seconds` at most; False when it has not."""
        try:
            async with asyncio.timeout(seconds):
                await self.gone.wait()
        except TimeoutError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class WorkerNow:
    """A worker at one moment. Times are by the event loop's clock; `reason` is why it ends, where that is known."""

    id: str
    short_id: str
    generation: int
    phase: Phase
    since: float
    started_at: float
    reason: str | None


class Roster:
    """The workers whose processes have not ended."""

    def __init__(self) -> None:
        self._workers: dict[str, WorkerState] = {}

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def awake(self) -> int:
        """How many there are without those that sleep."""
        return sum(worker.phase is not Phase.ASLEEP for worker in self)

    def __iter__(self) -> Iterator[WorkerState]:
        return iter(list(self._workers.values()))

    def get(self, worker_id: str, *phases: Phase) -> WorkerState | None:
        """Return a worker, if it is there and in one of these phases; of none given, in any."""
        worker = self._workers.get(worker_id)
        return worker if worker is not None and (not phases or worker.phase in phases) else None

    def add(self, worker: WorkerState) -> None:
        self._workers[worker.id] = worker

    def remove(self, worker: WorkerState) -> None:
        del self._workers[worker.id]

    def described(self) -> list[WorkerNow]:
        """Describe the workers, in the order in which they were started."""
        return [
            WorkerNow(w.id, w.short_id, w.generation, w.phase, w.since, w.started_at, w.end_reason)
            for w in self
        ]

    def generations(self) -> set[int]:
        return {worker.generation for worker in self}

    def seen(self, leaving: Collection[str] = ()) -> tuple[Worker, ...]:
        """Return the workers for a plan. Of a generation's worn ones only one is so, because one goes at a time.

        Those that are `leaving` are replaced as worn ones are.
        """
        worn: dict[int, str] = {}
        for worker in self:
            if (worker.worn or worker.id in leaving) and worker.phase is Phase.READY:
                worn.setdefault(worker.generation, worker.id)
        return tuple(Worker(w.id, w.generation, w.phase, w.since, w.id in worn.values()) for w in self)

    def counts(self, canary: int | None) -> tuple[int, int]:
        """Count workers that are ready, and those that should be and are not yet; without the canary's."""
        phases = [worker.phase for worker in self if worker.generation != canary]
        return phases.count(Phase.READY), phases.count(Phase.STARTING) + phases.count(Phase.LOST)

    def ready_of(self, generation: int) -> int:
        return sum(w.phase is Phase.READY for w in self if w.generation == generation)

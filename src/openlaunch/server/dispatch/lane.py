"""One endpoint's traffic: its workers' slots, and what waits for one."""

import asyncio
import math
from collections.abc import Callable
from time import monotonic

from openlaunch.controller.fleet import Load
from openlaunch.errors import DeadlineExceeded, NotFound, Unavailable
from openlaunch.server.dispatch.admission import Admission
from openlaunch.server.dispatch.backlog import Backlog
from openlaunch.server.dispatch.bursts import Bursts
from openlaunch.server.dispatch.claims import Claims
from openlaunch.server.dispatch.links import WorkerLink
from openlaunch.server.dispatch.lone_work import LoneWork
from openlaunch.server.dispatch.pools import WorkerPools
from openlaunch.server.dispatch.recent_outcomes import Tally
from openlaunch.server.dispatch.trial_counts import Trials
from openlaunch.server.dispatch.troubles import Troubles
from openlaunch.server.dispatch.work import Work
from openlaunch.server.metrics.counts import EndpointCounts
from openlaunch.store.cluster import not_leading
from openlaunch.store.records import EndpointRecord
from openlaunch.turns import FairQueue
from openlaunch.wire.endpoints import EndpointStatus

SERVED_SECONDS = 10.0
"""How long the answers of a worker that has left show that its bundle serves."""


class Lane:
    """Brings together an endpoint's work and its workers. Used in the event loop's thread only."""

    def __init__(
        self,
        endpoint: EndpointRecord,
        max_waiting: int,
        demand: Callable[[str], None],
        loop: asyncio.AbstractEventLoop,
        failed: Callable[[str], None] = lambda endpoint_id: None,
        free_slots: Callable[["Lane"], None] = lambda lane: None,
        note: Callable[[str, str], None] = lambda worker_id, text: None,
    ) -> None:
        self.endpoint = endpoint
        self.backlog = Backlog()
        """What waits in the durable queue; written by `server.queue` alone."""
        self.oldest: float | None = None
        """When the oldest task of that was submitted, as `server.queue` last looked; None where none waits."""
        self.refusal: str | None = None
        self._elsewhere = False
        self.numbers = EndpointCounts()
        self.tally = Tally(note, loop.time)
        self.bursts, self.troubles = Bursts(), Troubles()
        self.trials = Trials(self._generation_barred)
        self._demand = demand
        self._failed = failed
        self._free_slots = free_slots
        self._now = loop.time
        self._answered: dict[int, float] = {}
        """When the last worker left that had answered, by its generation."""
        self._pools = WorkerPools(endpoint, self.trials)
        self._waiting: FairQueue[Work] = FairQueue()
        self.admission = Admission(endpoint, self._waiting, self._pools, max_waiting, loop.time)
        self._rate = self.admission.rate
        self._lone = LoneWork(self._pools, loop.time, self.ask_for_workers)
        self.claims = Claims(self._pools, self._waiting, self._lone, self.admission, self.backlog)
        self.update(endpoint)

    def update(self, endpoint: EndpointRecord) -> None:
        if endpoint.generation != self.endpoint.generation:
            self.tally.deployed()
        self.endpoint = self.admission.endpoint = endpoint
        self.trials.update(endpoint)
        self._pools.update(endpoint)
        if self._waiting.size:
            self.pump()

    def _generation_barred(self) -> None:
        self._pools.place_all()
        self._failed(self.endpoint.id)

    def submit(self, work: Work, owner: str = "") -> None:
        """Give the work to a worker with a free slot, else let it wait; owners whose work waits take turns.

        Raises:
            NotFound: the endpoint is being deleted.
            Unavailable: no worker can be started.
            TooManyRequests: too many wait already, or the work's deadline would pass before its turn.
        """
        if work.alone:
            self._admit(work, owner)
            self._lone.append(owner, work)
            return
        worker = self._pools.next_free()
        if worker is not None:
            self._pools.give(worker, work)
            return
        self._admit(work, owner)
        self._waiting.append(owner, work)
        self.ask_for_workers()

    def wait_again(self, work: Work) -> None:
        """Give work to another worker that was admitted and has not run; it comes before its owner's other work."""
        try:
            self._check_serves(work)
        except (NotFound, Unavailable) as error:
            work.refused(error)
            return
        self._waiting.append(work.owner, work, first=True)
        self.pump()
        if self._waiting.size:
            self.ask_for_workers()

    def _admit(self, work: Work, owner: str) -> None:
        work.began = monotonic()
        self._check_serves(work)
        self.admission.admit(work, owner)

    def _check_serves(self, work: Work) -> None:
        """Raise what an endpoint answers that has no worker and gets none."""
        work.numbers = self.numbers.refused
        endpoint = self.endpoint
        if endpoint.status is EndpointStatus.DELETE_IN_PROGRESS:
            raise NotFound(f"the endpoint {endpoint.name!r} is being deleted", code="endpoint_not_found")
        if endpoint.spec.max_workers == 0:
            raise Unavailable(
                f"the endpoint {endpoint.name!r} has max_workers=0: raise it to let it serve",
                code="scaled_to_zero",
            )
        if self._elsewhere and not self._pools.by_id:
            raise self._led_elsewhere()
        if not self._pools.by_id and (reason := self._failed_reason()) is not None:
            self.ask_for_workers()
            raise self.failure(reason)

    def set_elsewhere(self, *, elsewhere: bool) -> None:
        """Refuse what has no worker, because another server has the workers; or do so no longer."""
        self._elsewhere = elsewhere
        if elsewhere:
            self.refuse_waiting(self._led_elsewhere())

    def _led_elsewhere(self) -> Unavailable:
        return not_leading(f"the workers of the endpoint {self.endpoint.name!r}")

    def failure(self, reason: str) -> Unavailable:
        """Return the error of a request for which there is no worker, and none can be started."""
        return Unavailable(
            f"the endpoint {self.endpoint.name!r} has no worker: {reason}",
            code="endpoint_failed",
            retry_after=5,
        )

    def _failed_reason(self) -> str | None:
        if self.refusal is not None:
            return self.refusal
        if self.endpoint.status is EndpointStatus.UPDATE_FAILED and self.endpoint.ready_generation is None:
            return self.endpoint.status_reason or "its last update failed"
        return None

    def ask_for_workers(self) -> None:
        self._demand(self.endpoint.id)

    def pump(self) -> None:
        """Give what waits to free slots, in the order of its turns."""
        now = self._now()
        while self._waiting.size:
            worker = self._pools.next_free()
            if worker is None:
                return
            work = self._waiting.popleft()
            if work.deadline <= now:
                work.refused(DeadlineExceeded("the deadline passed while the request waited for a worker"))
            elif not work.cancelled:
                self._pools.give(worker, work)

    def freed(self, worker: WorkerLink) -> None:
        """Use a slot of the worker that has become free."""
        waiting = self._waiting.size
        if waiting or self.backlog.size:
            self._rate.ended(self._now())
        else:
            self._rate.pause()
        pools = self._pools
        if worker.worker_id in pools.by_id:
            if worker is pools.apart:
                self._lone.run_next()
            else:
                pools.freed(worker)
            if waiting:
                self.pump()
        if self.backlog.size:
            self._free_slots(self)

    def heard(self, worker: WorkerLink) -> None:
        """Use the slots of a worker that has heard of all that was cancelled in it."""
        self._pools.heard(worker)
        self.pump()
        self._free_slots(self)

    def add_worker(self, worker: WorkerLink) -> None:
        self.refusal = None
        self._pools.add(worker)
        self.pump()  # first: a worker that came in the place of one that lone work ended is not for that alone
        if self._lone.waiting.size and self._pools.apart is None:
            self._lone.run_next()
        self._free_slots(self)

    def holders(self) -> list[Work] | None:
        """Return what holds all slots that the endpoint can have; None where one is free, or may still come."""
        workers = self._pools.by_id
        most = self.endpoint.spec.max_workers
        if self._pools.free_slots() or most is None or len(workers) < most:
            return None
        return self.running()

    def running(self) -> list[Work]:
        """Return what this server has running in the endpoint's workers."""
        return [work for worker in self._pools.by_id.values() for work in worker.running.values()]

    def most_slots(self) -> int | None:
        """Return how many slots the workers have; None where another worker may come."""
        workers, most = self._pools.by_id.values(), self.endpoint.spec.max_workers
        if most is None or len(workers) < most:
            return None
        return sum(self.endpoint.spec_of(worker.generation).slots for worker in workers)

    def serves(self, worker: WorkerLink) -> bool:
        """Tell whether another worker of the same bundle has answered a moment ago."""
        generation = worker.generation
        there = any(other.answered and other.generation == generation for other in self._pools.by_id.values())
        return there or self._answered.get(generation, -math.inf) > self._now() - SERVED_SECONDS

    def remove_worker(self, worker: WorkerLink) -> None:
        """Give the worker nothing more."""
        if worker.answered:
            self._answered = {worker.generation: self._now()}
        self._pools.remove(worker)
        self._lone.worker_removed(worker)

    def used_tokens(self, owner: str, tokens: int, *, waited: bool) -> None:
        """Count tokens that an owner's request took: the next turn is of the owner that was given least."""
        self._waiting.charge(owner, tokens, waited=waited)

    @property
    def workers(self) -> int:
        """How many workers take requests."""
        return len(self._pools.by_id)

    def load(self) -> Load:
        self.admission.drop_cancelled()
        self._lone.drop_cancelled()
        running = sum(len(worker.running) for worker in self._pools.by_id.values())
        queued = self._waiting.size + self._lone.waiting.size + self.backlog.size
        return Load(in_flight=running, queued=queued)

    def refuse_waiting(self, error: NotFound | Unavailable) -> None:
        """End with this error everything that waits for a slot."""
        for work in [*self._waiting.clear(), *self._lone.clear()]:
            work.refused(error)

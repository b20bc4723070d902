"""One endpoint's traffic: its workers' slots, and what waits for one."""

import asyncio
from collections import deque
from collections.abc import Callable

from openlaunch.controller.fleet import Load
from openlaunch.controller.trial import Rule
from openlaunch.errors import DeadlineExceeded, NotFound, TooManyRequests, Unavailable
from openlaunch.server.dispatch.admission import DrainRate, expected_wait, is_hopeless
from openlaunch.server.dispatch.backlog import Backlog
from openlaunch.server.dispatch.canary_share import CanaryShare
from openlaunch.server.dispatch.fair_queue import FairQueue
from openlaunch.server.dispatch.links import WorkerLink
from openlaunch.server.dispatch.outcome_counts import OutcomeCounts
from openlaunch.server.dispatch.work import Work
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus

AHEAD_SECONDS = 0.02
MAX_AHEAD = 256


class Lane:
    """Everything in memory about one endpoint. Used in the event loop's thread only.

    A worker stands in its pool exactly once while it has a free slot, so a slot is found in constant time. Taking
    from the left and putting back at the right spreads requests evenly; only one that has become idle goes to the
    left, because its memory is still in the processor's caches, and those that idle for long are not woken. `_free`
    is the pool of the newest generation; the ones before it, in `_older`, get what the newest has no slot for. A
    canary's pool is apart.
    """

    def __init__(
        self,
        endpoint: EndpointRecord,
        max_waiting: int,
        demand: Callable[[str], None],
        loop: asyncio.AbstractEventLoop,
        failed: Callable[[str], None] = lambda endpoint_id: None,
    ) -> None:
        self.endpoint = endpoint
        self.backlog = Backlog()
        """What waits in the durable queue; written by `server.queue` alone."""
        self.refusal: str | None = None
        self._task_seconds: float | None = None
        self._max_waiting = max_waiting
        self._demand = demand
        self._failed = failed
        self._loop = loop
        self._workers: dict[str, WorkerLink] = {}
        self._free: deque[WorkerLink] = deque()
        self._waiting: FairQueue[Work] = FairQueue()
        # What may run only alone, and the worker that is emptied for it, or runs one of them.
        self._alone: deque[Work] = deque()
        self._apart: WorkerLink | None = None
        self._older: deque[WorkerLink] = deque()
        self._canary: deque[WorkerLink] = deque()
        self._split: CanaryShare | None = None
        self.tallies: dict[int, OutcomeCounts] = {}
        """By generation: of the two sides of a canary, or of a probation. Those of the last one stay to be seen."""
        self._rules: dict[int, Rule | None] = {}
        self._barred: set[int] = set()
        self._rate = DrainRate()
        self.update(endpoint)

    def update(self, endpoint: EndpointRecord) -> None:
        """The endpoint has changed: each generation's workers get the share that is theirs from now on."""
        self.endpoint = endpoint
        canary = endpoint.live_canary
        if canary is None:
            self._split = None
        elif self._split is None or self._split.percent != canary.percent:
            self._split = CanaryShare(canary.percent)
        rules = _rules(endpoint)
        if rules and rules.keys() != self._rules.keys():
            kept = {g: tally for g, tally in self.tallies.items() if g in self._rules}
            self.tallies = {g: kept.get(g) or self._new_tally(g) for g in rules}
        self._rules = rules
        self._barred &= rules.keys()
        for worker in self._workers.values():
            self._place(worker)
        if self._waiting.size:
            self.pump()

    def _new_tally(self, generation: int) -> OutcomeCounts:
        return OutcomeCounts(lambda: self._prediction_failed(generation))

    def _prediction_failed(self, generation: int) -> None:
        """Give a generation nothing more once it has failed too often: the controller ends it after that."""
        rule = self._rules.get(generation)
        if rule is None or generation in self._barred:
            return
        if self.tallies[generation].trial().verdict(rule) is not None:
            self._barred.add(generation)
            for worker in self._workers.values():
                self._place(worker)
            self._failed(self.endpoint.id)

    def _place(self, worker: WorkerLink) -> None:
        """Put the worker into the pool of its generation."""
        worker.tally = self.tallies[worker.generation] if worker.generation in self._rules else None
        pool = self._pool_of(worker.generation)
        if pool is not worker.pool:
            self._unlist(worker)
            worker.pool = pool
        self._list(worker)

    def _pool_of(self, generation: int) -> deque[WorkerLink] | None:
        endpoint = self.endpoint
        if generation in self._barred or generation == endpoint.rejected_generation:
            return None
        if endpoint.canary is not None and generation == endpoint.canary.generation:
            return None if endpoint.live_canary is None else self._canary
        if generation > endpoint.generation:
            return None
        return self._free if generation == endpoint.generation else self._older

    def submit(self, work: Work, owner: str = "") -> None:
        """Give the work to a worker with a free slot, else let it wait; owners whose work waits take turns.

        Raises:
            NotFound: the endpoint is being deleted.
            Unavailable: no worker can be started.
            TooManyRequests: too many wait already, or so many that its deadline would pass before its turn.
        """
        if work.alone:
            self._admit(work, owner)
            self._alone.append(work)
            self._run_alone()
            return
        worker = self._next_free()
        if worker is not None:
            self._assign(worker, work)
            return
        self._admit(work, owner)
        self._waiting.append(owner, work)
        self.ask_for_workers()

    def _admit(self, work: Work, owner: str) -> None:
        endpoint = self.endpoint
        if endpoint.status is EndpointStatus.DELETE_IN_PROGRESS:
            raise NotFound(f"the endpoint {endpoint.name!r} is being deleted", code="endpoint_not_found")
        if endpoint.spec.max_workers == 0:
            raise Unavailable(
                f"the endpoint {endpoint.name!r} has max_workers=0: raise it to let it serve",
                code="scaled_to_zero",
            )
        if not self._workers and (reason := self._failed_reason()) is not None:
            self.ask_for_workers()
            raise Unavailable(
                f"the endpoint {endpoint.name!r} has no worker: {reason}",
                code="endpoint_failed",
                retry_after=5,
            )
        if self._waiting.size >= self._max_waiting:
            self._drop_finished()
        self._refuse_hopeless(work.deadline - self._loop.time(), owner)
        if self._waiting.size >= self._max_waiting:
            self._make_room_for(owner)

    def _make_room_for(self, owner: str) -> None:
        """Refuse the newest of who has most waiting: that is somebody else, or this request."""
        waiting = self._waiting.size
        full = TooManyRequests(
            f"{waiting} requests wait for the endpoint {self.endpoint.name!r} already, which is the limit",
            retry_after=self._rate.retry_after(waiting),
        )
        newest = self._waiting.make_room_for(owner)
        if newest is None:
            raise full
        newest.refused(full)

    def _refuse_hopeless(self, left: float, owner: str) -> None:
        """Refuse a request whose deadline, in `left` seconds, would pass before its turn."""
        if not is_hopeless(self.expected_wait(self._waiting.size), left):
            return
        self._drop_finished()
        ahead = self._waiting.ahead_of(owner)
        if is_hopeless(wait := self.expected_wait(ahead), left):
            raise TooManyRequests(
                f"{ahead} requests of the endpoint {self.endpoint.name!r} come before this one, which takes about "
                f"{wait:.1f} s, and its deadline is in {left:.1f} s",
                code="deadline_unreachable",
                retry_after=self._rate.retry_after(ahead),
            )

    def expected_wait(self, ahead: int) -> float | None:
        """Seconds until so many requests have been done, at best; None when that is not known."""
        rate = self._rate.per_second(self._loop.time())
        return expected_wait(ahead, rate, len(self._workers), self.endpoint.spec.max_workers)

    def ask_for_workers(self) -> None:
        """Tell the controller that something waits."""
        self._demand(self.endpoint.id)

    def _failed_reason(self) -> str | None:
        if self.refusal is not None:
            return self.refusal
        if self.endpoint.status is EndpointStatus.UPDATE_FAILED and self.endpoint.ready_generation is None:
            return self.endpoint.status_reason or "its last update failed"
        return None

    def retry_after(self, waiting: int) -> int:
        """Seconds after which a further try makes sense when so many wait."""
        return self._rate.retry_after(waiting)

    # Slots.

    def tasks_wanted(self) -> int:
        """How many tasks to claim now: for the slots that are free, and for those that soon will be.

        What is claimed ahead is what the workers are done with in `AHEAD_SECONDS`, so that short tasks need not wait
        for a claim each, and long ones are left in the queue. It is topped up by the half, to keep claims few.
        """
        ahead = self._ahead()
        pools = (self._free, self._older, self._canary)
        free = sum(w.slots - len(w.running) for pool in pools for w in pool if not w.draining)
        wanted = free + ahead - self._waiting.size - self.backlog.claiming
        return wanted if wanted > ahead // 2 and len(self._alone) < MAX_AHEAD else 0

    def _ahead(self) -> int:
        if not self._task_seconds:
            return 0
        slots = sum(worker.slots for worker in self._workers.values())
        return min(int(slots * AHEAD_SECONDS / self._task_seconds), MAX_AHEAD, self._max_waiting)

    def task_took(self, seconds: float) -> None:
        """A task has run for so long in its worker."""
        known = self._task_seconds
        self._task_seconds = seconds if known is None else known + (seconds - known) / 8

    def _next_free(self) -> WorkerLink | None:
        """The worker for what comes next; None: it has to wait.

        What is the canary's goes to the others when it has no free slot; what is theirs waits for them, and goes to
        the canary only when there are no others.
        """
        if self._split is None:
            return _first_free(self._free) or _first_free(self._older)
        if self._split.is_canarys_turn() or not self._has_others():
            canary = _first_free(self._canary)
            if canary is not None:
                return canary
        return _first_free(self._free) or _first_free(self._older)

    def _has_others(self) -> bool:
        return any(w.pool is self._free or w.pool is self._older for w in self._workers.values())

    def _assign(self, worker: WorkerLink, work: Work) -> None:
        worker.send_work(work)
        pool = worker.pool
        assert pool is not None
        pool.popleft()
        if len(worker.running) < worker.slots:
            pool.append(worker)
        else:
            worker.listed = False
        if self._split is not None:
            self._split.given(to_canary=pool is self._canary)

    def _list(self, worker: WorkerLink) -> None:
        pool = worker.pool
        if pool is None or worker.listed or worker.draining or worker is self._apart:
            return
        if len(worker.running) < worker.slots:
            worker.listed = True
            pool.append(worker)

    def _unlist(self, worker: WorkerLink) -> None:
        if worker.listed and worker.pool is not None:
            worker.listed = False
            worker.pool.remove(worker)

    def pump(self) -> None:
        """Give what waits to free slots, in the order of its turns."""
        now = self._loop.time()
        while self._waiting.size:
            worker = self._next_free()
            if worker is None:
                return
            work = self._waiting.popleft()
            if work.deadline <= now:
                work.refused(DeadlineExceeded("the deadline passed while the request waited for a worker"))
            elif not work.cancelled:
                self._assign(worker, work)

    def _run_alone(self) -> None:
        """Run the next of what may run only alone. One worker at a time is emptied for that; the others go on."""
        self._drop_unwanted_alone()
        worker = self._apart
        if not self._alone:
            if worker is not None and not any(work.alone for work in worker.running.values()):
                self._apart = None
                self._list(worker)
            return
        if worker is None:
            worker = self._set_apart()
        if worker is not None and not worker.running:
            worker.excused = True
            worker.send_work(self._alone.popleft())

    def _drop_unwanted_alone(self) -> None:
        now = self._loop.time()
        while self._alone and (self._alone[0].cancelled or self._alone[0].deadline <= now):
            work = self._alone.popleft()
            if not work.cancelled:
                work.refused(DeadlineExceeded("the deadline passed while it waited for a worker of its own"))

    def _set_apart(self) -> WorkerLink | None:
        workers = [w for w in self._workers.values() if w.pool is not None and not w.draining]
        if not workers:
            self.ask_for_workers()
            return None
        worker = self._apart = min(workers, key=lambda w: len(w.running))
        self._unlist(worker)
        return worker

    # Workers come and go.

    def add_worker(self, worker: WorkerLink) -> None:
        """The worker is ready."""
        self.refusal = None
        self._workers[worker.worker_id] = worker
        self._place(worker)
        if self._alone and self._apart is None:
            self._run_alone()
        self.pump()

    def remove_worker(self, worker: WorkerLink) -> None:
        """The worker gets nothing more."""
        self._workers.pop(worker.worker_id, None)
        self._unlist(worker)
        if worker is self._apart:
            self._apart = None
            self._run_alone()

    def freed(self, worker: WorkerLink) -> None:
        """One of the worker's slots has become free."""
        waiting = self._waiting.size
        if waiting or self.backlog.size:
            self._rate.ended(self._loop.time())
        else:
            self._rate.pause()
        if worker.worker_id in self._workers:
            if worker is self._apart:
                self._run_alone()
            else:
                self._list(worker)
                pool = worker.pool
                if pool and not worker.running and pool[-1] is worker:
                    pool.rotate(1)
            if waiting:
                self.pump()

    # The load, and refusing what waits.

    def load(self) -> Load:
        """Requests and tasks in workers, and those that wait."""
        self._drop_finished()
        running = sum(len(worker.running) for worker in self._workers.values())
        queued = self._waiting.size + len(self._alone) + self.backlog.size
        return Load(in_flight=running, queued=queued)

    def _drop_finished(self) -> None:
        if any(work.cancelled for work in self._waiting):
            self._waiting.keep(lambda work: not work.cancelled)
        if any(work.cancelled for work in self._alone):
            self._alone = deque(work for work in self._alone if not work.cancelled)

    def refuse_waiting(self, error: NotFound | Unavailable) -> None:
        """Nothing of what waits will get a slot."""
        alone, self._alone = self._alone, deque()
        for work in [*self._waiting.clear(), *alone]:
            work.refused(error)


def _rules(endpoint: EndpointRecord) -> dict[int, Rule | None]:
    """The generations whose predictions are counted, and what they are held against.

    Of a canary both sides are counted; else the newest generation where it is on probation.
    """
    rule = Rule.of(endpoint.spec) if endpoint.replaces_another else None
    if (canary := endpoint.live_canary) is not None:
        return {endpoint.generation: rule, canary.generation: Rule.of(canary)}
    return {endpoint.generation: rule} if rule is not None else {}


def _first_free(pool: deque[WorkerLink]) -> WorkerLink | None:
    while pool:
        worker = pool[0]
        if not worker.draining and len(worker.running) < worker.slots:
            return worker
        pool.popleft()
        worker.listed = False
    return None

"""One endpoint's traffic: its workers' slots, and what waits for one."""

import asyncio
import math
from collections import deque
from collections.abc import Callable

from openlaunch.controller.fleet import Load
from openlaunch.controller.trial import Rule
from openlaunch.errors import DeadlineExceeded, NotFound, TooManyRequests, Unavailable
from openlaunch.server.links import WorkerLink
from openlaunch.server.split import Split
from openlaunch.server.tally import Tally
from openlaunch.server.work import Work
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus

MAX_RETRY_AFTER = 60
AHEAD_SECONDS = 0.02
MAX_AHEAD = 256


class DrainRate:
    """How many requests a second have ended lately, for the Retry-After of a refused one.

    An exponential average over about `window` seconds; pure, `now` is given.
    """

    def __init__(self, window: float = 10.0) -> None:
        self._window = window
        self._rate = 0.0
        self._since: float | None = None
        self._count = 0

    def ended(self, now: float) -> None:
        """One more request has ended."""
        if self._since is None:
            self._since = now
        self._count += 1
        if (elapsed := now - self._since) >= 1.0:
            weight = 1 - math.exp(-elapsed / self._window)
            latest = self._count / elapsed
            self._rate = latest if self._rate == 0 else self._rate + weight * (latest - self._rate)
            self._since, self._count = now, 0

    def retry_after(self, waiting: int) -> int:
        """Whole seconds until `waiting` requests will have ended, between 1 and `MAX_RETRY_AFTER`."""
        if self._rate <= 0:
            return 5
        return max(1, min(MAX_RETRY_AFTER, math.ceil(waiting / self._rate)))


class Lane:
    """Everything in memory about one endpoint. Used in the event loop's thread only.

    A worker stands in its pool exactly once while it has a free slot, so a slot is found in constant time, and
    taking from the left and putting back at the right spreads requests evenly. `_free` is the pool of the newest
    generation; the ones before it, in `_older`, get what the newest has no slot for. A canary's pool is apart.
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
        self.queued_tasks = 0
        """Async tasks in the store that no gateway has claimed, as far as is known here."""
        self.arriving_tasks = 0
        """Async tasks on their way to the store, which the queue has to have room for."""
        self.claiming_tasks = 0
        """Tasks that are being claimed for this lane, which will need slots."""
        self.refusal: str | None = None
        self._task_seconds: float | None = None
        self._max_waiting = max_waiting
        self._demand = demand
        self._failed = failed
        self._loop = loop
        self._workers: dict[str, WorkerLink] = {}
        self._free: deque[WorkerLink] = deque()
        self._older: deque[WorkerLink] = deque()
        self._canary: deque[WorkerLink] = deque()
        self._split: Split | None = None
        self.tallies: dict[int, Tally] = {}
        """By generation: of the two sides of a canary, or of a probation. Those of the last one stay to be seen."""
        self._rules: dict[int, Rule | None] = {}
        self._barred: set[int] = set()
        self._waiting: deque[Work] = deque()
        self._rate = DrainRate()
        self.update(endpoint)

    def update(self, endpoint: EndpointRecord) -> None:
        """The endpoint has changed: each generation's workers get the share that is theirs from now on."""
        self.endpoint = endpoint
        canary = endpoint.live_canary
        if canary is None:
            self._split = None
        elif self._split is None or self._split.percent != canary.percent:
            self._split = Split(canary.percent)
        rules = _rules(endpoint)
        if rules and rules.keys() != self._rules.keys():
            kept = {g: tally for g, tally in self.tallies.items() if g in self._rules}
            self.tallies = {g: kept.get(g) or self._new_tally(g) for g in rules}
        self._rules = rules
        self._barred &= rules.keys()
        for worker in self._workers.values():
            self._place(worker)
        if self._waiting:
            self.pump()

    def _new_tally(self, generation: int) -> Tally:
        return Tally(lambda: self._prediction_failed(generation))

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

    def submit(self, work: Work) -> None:
        """Give the work to a worker with a free slot, else let it wait.

        Raises:
            NotFound: the endpoint is being deleted.
            Unavailable: no worker can be started.
            TooManyRequests: too many wait already.
        """
        worker = self._next_free()
        if worker is not None:
            self._assign(worker, work)
            return
        self._admit()
        self._waiting.append(work)
        self.ask_for_workers()

    def _admit(self) -> None:
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
        if len(self._waiting) >= self._max_waiting:
            self._drop_finished()
        if len(self._waiting) >= self._max_waiting:
            raise TooManyRequests(
                f"{len(self._waiting)} requests wait for the endpoint {endpoint.name!r} already, which is the limit",
                retry_after=self._rate.retry_after(len(self._waiting)),
            )

    def ask_for_workers(self) -> None:
        """Tell the controller that something waits."""
        self._demand(self.endpoint.id)

    def _failed_reason(self) -> str | None:
        if self.refusal is not None:
            return self.refusal
        if self.endpoint.status is EndpointStatus.UPDATE_FAILED:
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
        wanted = free + ahead - len(self._waiting) - self.claiming_tasks
        return wanted if wanted > ahead // 2 else 0

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
        if pool is None or worker.listed or worker.draining:
            return
        if len(worker.running) < worker.slots:
            worker.listed = True
            pool.append(worker)

    def _unlist(self, worker: WorkerLink) -> None:
        if worker.listed and worker.pool is not None:
            worker.listed = False
            worker.pool.remove(worker)

    def pump(self) -> None:
        """Give what waits to free slots, in order of arrival."""
        now = self._loop.time()
        while self._waiting:
            worker = self._next_free()
            if worker is None:
                return
            work = self._waiting.popleft()
            if work.deadline <= now:
                work.refused(DeadlineExceeded("the deadline passed while the request waited for a worker"))
            elif not work.cancelled:
                self._assign(worker, work)

    # Workers come and go.

    def add_worker(self, worker: WorkerLink) -> None:
        """The worker is ready."""
        self.refusal = None
        self._workers[worker.worker_id] = worker
        self._place(worker)
        self.pump()

    def remove_worker(self, worker: WorkerLink) -> None:
        """The worker gets nothing more."""
        self._workers.pop(worker.worker_id, None)
        self._unlist(worker)

    def freed(self, worker: WorkerLink) -> None:
        """One of the worker's slots has become free."""
        self._rate.ended(self._loop.time())
        if worker.worker_id in self._workers:
            self._list(worker)
            if self._waiting:
                self.pump()

    # The load, and refusing what waits.

    def load(self) -> Load:
        """Requests and tasks in workers, and those that wait."""
        self._drop_finished()
        running = sum(len(worker.running) for worker in self._workers.values())
        return Load(in_flight=running, queued=len(self._waiting) + self.queued_tasks)

    def _drop_finished(self) -> None:
        if any(work.cancelled for work in self._waiting):
            self._waiting = deque(work for work in self._waiting if not work.cancelled)

    def refuse_waiting(self, error: NotFound | Unavailable) -> None:
        """Nothing of what waits will get a slot."""
        waiting, self._waiting = self._waiting, deque()
        for work in waiting:
            work.refused(error)


def _rules(endpoint: EndpointRecord) -> dict[int, Rule | None]:
    """The generations whose predictions are counted, and what they are held against.

    Of a canary both sides are counted; else the newest generation where it is on probation.
    """
    rule = Rule.of(endpoint.spec.extra) if endpoint.replaces_another else None
    if (canary := endpoint.live_canary) is not None:
        return {endpoint.generation: rule, canary.generation: Rule.of(canary.settings)}
    return {endpoint.generation: rule} if rule is not None else {}


def _first_free(pool: deque[WorkerLink]) -> WorkerLink | None:
    while pool:
        worker = pool[0]
        if not worker.draining and len(worker.running) < worker.slots:
            return worker
        pool.popleft()
        worker.listed = False
    return None

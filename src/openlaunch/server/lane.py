"""One endpoint's traffic: its workers' slots, and what waits for one."""

import asyncio
import math
from collections import deque
from collections.abc import Callable

from openlaunch.controller.fleet import Load
from openlaunch.errors import DeadlineExceeded, NotFound, TooManyRequests, Unavailable
from openlaunch.server.links import WorkerLink
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

    A worker stands in `_free` exactly once while it has a free slot, so a slot is found in constant time. Taking from
    the left and putting back at the right spreads requests evenly; only one that has become idle goes to the left,
    because its memory is still in the processor's caches, and those that idle for long are not woken.
    """

    def __init__(
        self,
        endpoint: EndpointRecord,
        max_waiting: int,
        demand: Callable[[str], None],
        loop: asyncio.AbstractEventLoop,
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
        self._loop = loop
        self._workers: dict[str, WorkerLink] = {}
        self._free: deque[WorkerLink] = deque()
        self._waiting: deque[Work] = deque()
        # What may run only alone, and the worker that is emptied for it, or runs one of them.
        self._alone: deque[Work] = deque()
        self._apart: WorkerLink | None = None
        self._rate = DrainRate()

    def submit(self, work: Work) -> None:
        """Give the work to a worker with a free slot, else let it wait.

        Raises:
            NotFound: the endpoint is being deleted.
            Unavailable: no worker can be started.
            TooManyRequests: too many wait already.
        """
        if work.alone:
            self._admit()
            self._alone.append(work)
            self._run_alone()
            return
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
        free = sum(w.slots - len(w.running) for w in self._free if not w.draining)
        wanted = free + ahead - len(self._waiting) - self.claiming_tasks
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
        while self._free:
            worker = self._free[0]
            if worker.draining or len(worker.running) >= worker.slots:
                self._free.popleft()
                worker.listed = False
                continue
            return worker
        return None

    def _assign(self, worker: WorkerLink, work: Work) -> None:
        worker.send_work(work)
        self._free.popleft()
        if len(worker.running) < worker.slots:
            self._free.append(worker)
        else:
            worker.listed = False

    def _list(self, worker: WorkerLink) -> None:
        if not worker.listed and not worker.draining and len(worker.running) < worker.slots:
            worker.listed = True
            self._free.append(worker)

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
        workers = [worker for worker in self._workers.values() if not worker.draining]
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
        self._list(worker)
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

    def _unlist(self, worker: WorkerLink) -> None:
        if worker.listed:
            worker.listed = False
            self._free.remove(worker)

    def freed(self, worker: WorkerLink) -> None:
        """One of the worker's slots has become free."""
        self._rate.ended(self._loop.time())
        if worker.worker_id in self._workers:
            if worker is self._apart:
                self._run_alone()
            else:
                self._list(worker)
                if not worker.running and self._free and self._free[-1] is worker:
                    self._free.rotate(1)
            if self._waiting:
                self.pump()

    # The load, and refusing what waits.

    def load(self) -> Load:
        """Requests and tasks in workers, and those that wait."""
        self._drop_finished()
        running = sum(len(worker.running) for worker in self._workers.values())
        return Load(in_flight=running, queued=len(self._waiting) + len(self._alone) + self.queued_tasks)

    def _drop_finished(self) -> None:
        if any(work.cancelled for work in self._waiting):
            self._waiting = deque(work for work in self._waiting if not work.cancelled)
        if any(work.cancelled for work in self._alone):
            self._alone = deque(work for work in self._alone if not work.cancelled)

    def refuse_waiting(self, error: NotFound | Unavailable) -> None:
        """Nothing of what waits will get a slot."""
        waiting, self._waiting, self._alone = [*self._waiting, *self._alone], deque(), deque()
        for work in waiting:
            work.refused(error)

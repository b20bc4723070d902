"""One endpoint's traffic: its workers' slots, and what waits for one."""

import asyncio
from collections import deque
from collections.abc import Callable

from openlaunch.controller.fleet import Load
from openlaunch.errors import DeadlineExceeded, NotFound, TooManyRequests, Unavailable
from openlaunch.server.admission import DrainRate, expected_wait, is_hopeless
from openlaunch.server.links import WorkerLink
from openlaunch.server.turns import Turns
from openlaunch.server.work import Work
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoints import EndpointStatus

AHEAD_SECONDS = 0.02
MAX_AHEAD = 256


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
        self.last_claimed = ""
        """The owner of the task that was claimed last. The only thing here that the store's thread sets."""
        self.refusal: str | None = None
        self._task_seconds: float | None = None
        self._max_waiting = max_waiting
        self._demand = demand
        self._loop = loop
        self._workers: dict[str, WorkerLink] = {}
        self._free: deque[WorkerLink] = deque()
        self._waiting: Turns[Work] = Turns()
        # What may run only alone, and the worker that is emptied for it, or runs one of them.
        self._alone: deque[Work] = deque()
        self._apart: WorkerLink | None = None
        self._rate = DrainRate()

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
        wanted = free + ahead - self._waiting.size - self.claiming_tasks
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
        waiting = self._waiting.size
        if waiting or self.queued_tasks:
            self._rate.ended(self._loop.time())
        else:
            self._rate.pause()
        if worker.worker_id in self._workers:
            if worker is self._apart:
                self._run_alone()
            else:
                self._list(worker)
                if not worker.running and self._free and self._free[-1] is worker:
                    self._free.rotate(1)
            if waiting:
                self.pump()

    # The load, and refusing what waits.

    def load(self) -> Load:
        """Requests and tasks in workers, and those that wait."""
        self._drop_finished()
        running = sum(len(worker.running) for worker in self._workers.values())
        queued = self._waiting.size + len(self._alone) + self.queued_tasks
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

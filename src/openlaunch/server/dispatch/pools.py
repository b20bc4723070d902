"""The workers of a lane, and which of them gets the next request."""

from collections import deque

from openlaunch.server.dispatch.links import WorkerLink
from openlaunch.server.dispatch.trial_counts import Trials
from openlaunch.server.dispatch.work import Work
from openlaunch.store.records import EndpointRecord

MAX_OWED = 1600
"""Limit on the percent owed to a canary without a free slot, which it catches up with later."""


class CanaryShare:
    """Gives a canary `percent` of the predictions, evenly: at 25, every fourth one.

    What the canary could not take is owed to it, and what it took beyond its share is taken off.
    """

    __slots__ = ("_owed", "percent")

    def __init__(self, percent: int) -> None:
        self.percent = percent
        self._owed = 0

    def is_canarys_turn(self) -> bool:
        return self._owed + self.percent >= 100

    def given(self, *, to_canary: bool) -> None:
        owed = self._owed + self.percent - (100 if to_canary else 0)
        self._owed = max(-100, min(owed, MAX_OWED))


class WorkerPools:
    """Lists each worker in the pool of its generation exactly while it has a free slot.

    So a slot is found in constant time. Taking from the left and putting back at the right spreads requests evenly;
    only a worker that has become idle goes to the left, because its memory is still in the processor's caches, and
    those that idle for long are not woken. Older generations get what the newest has no slot for. A canary's pool is
    apart.
    """

    def __init__(self, endpoint: EndpointRecord, trials: Trials) -> None:
        self.by_id: dict[str, WorkerLink] = {}
        self.apart: WorkerLink | None = None
        """The worker that is emptied for work that must run alone, or runs it; it is in no pool."""
        self._endpoint = endpoint
        self._trials = trials
        self._newest: deque[WorkerLink] = deque()
        self._older: deque[WorkerLink] = deque()
        self._canary: deque[WorkerLink] = deque()
        self._share: CanaryShare | None = None

    def update(self, endpoint: EndpointRecord) -> None:
        """Give each generation's workers the share that is theirs from now on."""
        self._endpoint = endpoint
        canary = endpoint.live_canary
        if canary is None:
            self._share = None
        elif self._share is None or self._share.percent != canary.percent:
            self._share = CanaryShare(canary.percent)
        self.place_all()

    def place_all(self) -> None:
        for worker in self.by_id.values():
            self._place(worker)

    def add(self, worker: WorkerLink) -> None:
        self.by_id[worker.worker_id] = worker
        self._place(worker)

    def remove(self, worker: WorkerLink) -> None:
        """Give the worker nothing more."""
        self.by_id.pop(worker.worker_id, None)
        self._unlist(worker)

    def free_slots(self) -> int:
        """Count the slots that a request can have now."""
        pools = (self._newest, self._older, self._canary)
        return sum(w.slots - len(w.running) for pool in pools for w in pool if w.takes_work)

    def next_free(self) -> WorkerLink | None:
        """Return the worker for the next request; None: it has to wait.

        A canary's requests go to the others when it has no free slot. The others' requests wait for them, and go to
        the canary only when there are no others.
        """
        share = self._share
        if share is not None and (share.is_canarys_turn() or not self._has_others()):
            canary = _first_free(self._canary)
            if canary is not None:
                return canary
        worker = _first_free(self._newest) if self._newest else None
        return _first_free(self._older) if worker is None and self._older else worker

    def _has_others(self) -> bool:
        return any(w.pool is self._newest or w.pool is self._older for w in self.by_id.values())

    def give(self, worker: WorkerLink, work: Work) -> None:
        """Send work to the worker that `next_free` returned."""
        worker.send_work(work)
        pool = worker.pool
        assert pool is not None
        pool.popleft()
        if len(worker.running) < worker.slots:
            pool.append(worker)
        else:
            worker.listed = False
        if self._share is not None:
            self._share.given(to_canary=pool is self._canary)

    def freed(self, worker: WorkerLink) -> None:
        """List a worker that has a free slot again; one that has become idle comes first."""
        # Not by `_list`: this is called once for each request, and a call costs as much as all of it.
        pool = worker.pool
        if pool is None or not worker.takes_work:
            return
        if not worker.listed:
            worker.listed = True
            pool.append(worker)
        if not worker.running and pool[-1] is worker:
            pool.rotate(1)

    def heard(self, worker: WorkerLink) -> None:
        """List a worker again that takes work again."""
        if worker.worker_id in self.by_id:
            self._list(worker)

    def set_apart(self, worker: WorkerLink) -> None:
        """Give the worker no more requests until `rejoin`."""
        self.apart = worker
        self._unlist(worker)

    def rejoin(self) -> None:
        worker, self.apart = self.apart, None
        if worker is not None:
            self._list(worker)

    def _place(self, worker: WorkerLink) -> None:
        worker.counts = self._trials.counts_of(worker.generation)
        pool = self._pool_of(worker.generation)
        if pool is not worker.pool:
            self._unlist(worker)
            worker.pool = pool
        self._list(worker)

    def _pool_of(self, generation: int) -> deque[WorkerLink] | None:
        endpoint = self._endpoint
        if self._trials.is_barred(generation) or generation == endpoint.rejected_generation:
            return None
        if endpoint.canary is not None and generation == endpoint.canary.generation:
            return None if endpoint.live_canary is None else self._canary
        if generation > endpoint.generation:
            return None
        return self._newest if generation == endpoint.generation else self._older

    def _list(self, worker: WorkerLink) -> None:
        pool = worker.pool
        if pool is None or worker.listed or not worker.takes_work or worker is self.apart:
            return
        if len(worker.running) < worker.slots:
            worker.listed = True
            pool.append(worker)

    def _unlist(self, worker: WorkerLink) -> None:
        if worker.listed and worker.pool is not None:
            worker.listed = False
            worker.pool.remove(worker)


def _first_free(pool: deque[WorkerLink]) -> WorkerLink | None:
    while pool:
        worker = pool[0]
        if worker.takes_work and len(worker.running) < worker.slots:
            return worker
        pool.popleft()
        worker.listed = False
    return None

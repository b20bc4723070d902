"""Work that must run alone: what may have ended the workers that ran it, and so must not take others along."""

from collections.abc import Callable

from openlaunch.errors import DeadlineExceeded
from openlaunch.server.dispatch.links import WorkerLink
from openlaunch.server.dispatch.pools import WorkerPools
from openlaunch.server.dispatch.work import Work
from openlaunch.turns import FairQueue


class LoneWork:
    """Empties one worker at a time for work that must run alone, while the other workers serve as before."""

    def __init__(
        self, pools: WorkerPools, now: Callable[[], float], ask_for_workers: Callable[[], None]
    ) -> None:
        self.waiting: FairQueue[Work] = FairQueue()
        self._pools = pools
        self._now = now
        self._ask_for_workers = ask_for_workers

    def append(self, owner: str, work: Work) -> None:
        """Run the work in its owner's turn, once a worker is empty."""
        self.waiting.append(owner, work)
        self.run_next()

    def run_next(self) -> None:
        """Send the next work to the worker that is apart, where that one is empty."""
        self._drop_unwanted()
        worker = self._pools.apart
        if worker is not None and not worker.slots and not worker.running:
            self._pools.rejoin()  # other servers have its slots now
            worker = None
        if not self.waiting.size:
            if worker is not None and not any(work.alone for work in worker.running.values()):
                self._pools.rejoin()
            return
        if worker is None:
            worker = self._set_apart()
        if worker is not None and not worker.running:
            worker.excused = True
            worker.send_work(self.waiting.popleft())

    def _drop_unwanted(self) -> None:
        now = self._now()
        for work in [work for work in self.waiting if work.deadline <= now]:
            work.refused(DeadlineExceeded("the deadline passed while it waited for a worker of its own"))
        self.drop_cancelled()

    def _set_apart(self) -> WorkerLink | None:
        workers = [w for w in self._pools.by_id.values() if w.pool is not None and w.slots and not w.draining]
        if not workers:
            self._ask_for_workers()
            return None
        worker = min(workers, key=lambda w: len(w.running))
        self._pools.set_apart(worker)
        return worker

    def worker_removed(self, worker: WorkerLink) -> None:
        """Empty another worker where the removed one was apart."""
        if worker is self._pools.apart:
            self._pools.apart = None
            self.run_next()

    def drop_cancelled(self) -> None:
        """Drop cancelled work."""
        self.waiting.keep(lambda work: not work.cancelled)

    def clear(self) -> list[Work]:
        """Take out everything that waits."""
        return self.waiting.clear()

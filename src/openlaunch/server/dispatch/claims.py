"""How many tasks of the durable queue a lane claims."""

from openlaunch.server.dispatch.admission import Admission
from openlaunch.server.dispatch.backlog import Backlog
from openlaunch.server.dispatch.lone_work import LoneWork
from openlaunch.server.dispatch.pools import WorkerPools
from openlaunch.server.dispatch.work import Work
from openlaunch.turns import FairQueue
from openlaunch.wire.endpoints import EndpointType

AHEAD_SECONDS = 0.02
MAX_AHEAD = 512
KEPT_PART = 5
"""One of how many slots batches leave free for requests, which need not wait for a long answer to end."""


class Claims:
    """Says for how many tasks there are slots, or soon will be, by how long tasks take."""

    def __init__(
        self,
        pools: WorkerPools,
        waiting: FairQueue[Work],
        lone: LoneWork,
        admission: Admission,
        backlog: Backlog,
    ) -> None:
        self._pools, self._waiting, self._lone = pools, waiting, lone
        self._admission, self._backlog = admission, backlog
        self._task_seconds: float | None = None

    @property
    def of_tasks(self) -> bool:
        """Whether its callers send tasks. Another's tasks are lines of batches, which its requests come before."""
        return self._admission.endpoint.endpoint_type is EndpointType.ASYNC

    def wanted(self) -> int:
        """Return how many tasks to claim now: for the slots that are free, and for those that soon will be.

        Tasks claimed ahead are what the workers can do in `AHEAD_SECONDS`, so that short tasks need not wait for a
        claim each, and long ones are left in the queue. Claims are made for at least half of that, to keep them few.
        """
        pools, waiting = self._pools, self._waiting
        slots = sum(worker.slots for worker in pools.by_id.values())
        if not self.of_tasks:  # a part of the slots stays free for requests
            kept = min(-(-slots // KEPT_PART), max(0, slots - 1))
            return max(0, pools.free_slots() - kept - waiting.size - self._backlog.claiming)
        ahead = 0
        if self._task_seconds:
            ahead = min(
                int(slots * AHEAD_SECONDS / self._task_seconds), MAX_AHEAD, self._admission.max_waiting
            )
        wanted = pools.free_slots() + ahead - waiting.size - self._backlog.claiming
        return wanted if wanted > ahead // 2 and self._lone.waiting.size < MAX_AHEAD else 0

    def task_took(self, seconds: float) -> None:
        """Take into the average how long a task ran in its worker."""
        known = self._task_seconds
        self._task_seconds = seconds if known is None else known + (seconds - known) / 8

"""An endpoint's traffic where several servers use its workers: what waits here is said to their nodes."""

from collections.abc import Callable
from typing import Any

from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.links import WorkerLink
from openlaunch.server.dispatch.work import Work
from openlaunch.store.records import EndpointRecord


class SharedLane(Lane):
    """A lane that calls `changed` whenever what waits in it may have changed.

    Its `demand` is called with each request and task that finds no free slot, as that of any lane.
    """

    def __init__(
        self,
        endpoint: EndpointRecord,
        max_waiting: int,
        *,
        changed: Callable[["SharedLane"], None],
        **given: Any,
    ) -> None:
        self._changed = changed
        super().__init__(endpoint, max_waiting, **given)

    @property
    def waiting(self) -> int:
        """How many requests and tasks wait here for a slot."""
        return self._waiting.size + self._lone.waiting.size

    def holders(self) -> list[Work] | None:
        """Return what holds all slots; None also where another server has one, because what it runs is not known."""
        spec_of, workers = self.endpoint.spec_of, self._pools.by_id.values()
        shared = any(worker.slots < spec_of(worker.generation).slots for worker in workers)
        return None if shared else super().holders()

    def granted(self, worker: WorkerLink) -> None:
        """Use more slots of a worker."""
        if self._lone.waiting.size:
            self._lone.run_next()
        self.heard(worker)

    def submit(self, work: Work, owner: str = "") -> None:
        super().submit(work, owner)
        if work.alone:
            self._changed(self)

    def ask_for_workers(self) -> None:
        super().ask_for_workers()
        self._changed(self)

    def pump(self) -> None:
        super().pump()
        self._changed(self)

    def update(self, endpoint: EndpointRecord) -> None:
        super().update(endpoint)
        if self._waiting.size and not self._pools.by_id and (reason := self._failed_reason()) is not None:
            self.refuse_waiting(self.failure(reason))

    def refuse_waiting(self, error: Any) -> None:
        super().refuse_waiting(error)
        self._changed(self)

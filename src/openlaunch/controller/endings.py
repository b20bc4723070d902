"""How the workers of one endpoint end, and what is learnt from it."""

import logging

from openlaunch.controller.endpoint import WatchedEndpoint
from openlaunch.controller.generations import MAX_REASON, Generations
from openlaunch.controller.roster import Roster, WorkerState
from openlaunch.controller.situation import Phase
from openlaunch.wire.events import EventKind

log = logging.getLogger(__name__)


class Endings:
    """Takes workers that have ended out of the roster, and counts failures in the history of their generation."""

    def __init__(self, endpoint: WatchedEndpoint, roster: Roster, generations: Generations) -> None:
        self._endpoint = endpoint
        self._roster = roster
        self._generations = generations

    def load_failed(self, worker: WorkerState, reason: str) -> None:
        """Count a worker that can't load its bundle; its process still has to end."""
        endpoint, generation = self._endpoint, self._generations.get(worker.generation)
        generation.history = generation.history.load_failed(
            endpoint.now(), worker.started_at, reason[:MAX_REASON]
        )
        worker.enter(Phase.STOPPING, endpoint.now())
        worker.expected = worker.reported = True
        endpoint.tell(EventKind.WORKER_FAILED, reason)
        endpoint.changed.set()

    def gone(self, worker: WorkerState, reason: str, last_lines: str = "") -> None:
        """Take a worker out whose process has ended; `reason` says how, and `last_lines` are its log's."""
        endpoint, fleet = self._endpoint, self._endpoint.parts.fleet
        self._roster.remove(worker)
        excused = fleet.is_excused(worker.id)
        fleet.forget(worker.id, reason)
        if not worker.expected:
            self._failed(worker, reason, last_lines, excused)
        elif not worker.reported:
            drained = worker.phase is Phase.DRAINING
            endpoint.tell(EventKind.WORKER_DRAINED if drained else EventKind.WORKER_STOPPED)
        worker.gone.set()
        endpoint.changed.set()

    def _failed(self, worker: WorkerState, end: str, last_lines: str, excused: bool) -> None:
        """Count a worker that ended without being asked to, while it served or before it was ready."""
        endpoint, generation = self._endpoint, self._generations.get(worker.generation)
        log.warning("worker %s of endpoint %r %s", worker.short_id, endpoint.record.name, end)
        endpoint.note(f"worker {worker.short_id} {end}")
        early = "" if worker.ready_at is not None else " before it was ready"
        endpoint.tell(EventKind.WORKER_CRASHED, end.removeprefix("was ") + early)
        if worker.ready_at is not None:
            generation.history = generation.history.crashed(
                endpoint.now(),
                worker.ready_at,
                worker.started_at,
                end,
                endpoint.parts.settings.policy.retry,
                excused=excused,
            )
            return
        log_end = f"; its log ends with:\n{last_lines}" if last_lines else ""
        reason = f"a worker {end} before it was ready{log_end}"[:MAX_REASON]
        generation.history = generation.history.exited_early(endpoint.now(), worker.started_at, reason)

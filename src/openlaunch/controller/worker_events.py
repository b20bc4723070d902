"""What happens to workers without a plan's doing: they become ready, can't load, get stuck, are lost, end."""

import asyncio
import logging
from contextlib import suppress

from openlaunch.controller.roster import WorkerState
from openlaunch.controller.situation import Phase
from openlaunch.controller.worker_control import WorkerControl
from openlaunch.engines.documents import WorkerExit
from openlaunch.wire.events import EventKind
from openlaunch.wire.workers import WorkerEnd

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05


class WorkerEvents:
    """Records what the gateway and the engine report of an endpoint's workers. Unknown ids are ignored."""

    def __init__(self, control: WorkerControl) -> None:
        self._control = control
        self._endpoint = control.endpoint
        self._roster = control.roster

    def ready(self, worker_id: str) -> None:
        if (worker := self._roster.get(worker_id, Phase.STARTING)) is None:
            return
        worker.ready_at = self._endpoint.now()
        worker.enter(Phase.READY, worker.ready_at)
        generation = self._control.generations.get(worker.generation)
        generation.history = generation.history.became_ready()
        generation.ready_since = generation.ready_since or worker.ready_at
        self._endpoint.note(f"worker {worker.short_id} is ready")
        self._endpoint.tell(EventKind.WORKER_READY)
        self._endpoint.changed.set()

    def load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        """Record that a worker could not load the bundle, and see to it that it ends."""
        if (worker := self._roster.get(worker_id, Phase.STARTING)) is None:
            return
        lines = reason.strip().splitlines() or ["the bundle could not be loaded"]
        self._endpoint.note(
            f"worker {worker.short_id} could not load the bundle: {reason}\n{traceback or ''}"
        )
        self._control.load_failed(worker, lines[0])
        self._endpoint.tasks.spawn(self._see_to_its_end(worker))

    def stuck(self, worker_id: str, reason: str) -> None:
        """Replace a worker in which something does not stop: it gets no further requests."""
        if (worker := self._roster.get(worker_id, Phase.READY, Phase.DRAINING)) is None:
            return
        endpoint, generation = self._endpoint, self._control.generations.get(worker.generation)
        log.warning("worker %s of endpoint %r is replaced: %s", worker.short_id, endpoint.record.name, reason)
        endpoint.note(f"worker {worker.short_id} is replaced: {reason}")
        endpoint.tell(EventKind.WORKER_REPLACED, reason)
        worker.end, worker.end_reason = WorkerEnd.STUCK, f"was replaced, because {reason}"
        generation.history = generation.history.was_stuck(endpoint.now(), reason)
        self._control.drain(worker_id)
        endpoint.changed.set()
        endpoint.tasks.spawn(self._kill_when_unwanted(worker))

    def leaving(self, worker_id: str, reason: str) -> None:
        """Replace a worker that wants to end: the gateway has drained it."""
        if (worker := self._roster.get(worker_id, Phase.STARTING, Phase.READY)) is not None:
            self._endpoint.note(f"worker {worker.short_id} finishes what it runs, and ends: {reason}")
            self._endpoint.tell(EventKind.WORKER_REPLACED, reason)
            worker.expected = worker.phase is Phase.READY  # to leave before it is ready is a failure to load
            worker.enter(Phase.DRAINING, self._endpoint.now())
            self._endpoint.changed.set()

    def unhealthy(self, worker_id: str, reason: str) -> None:
        """Replace a worker whose health_fn says no: the gateway has drained it."""
        if (worker := self._roster.get(worker_id, Phase.READY)) is None:
            return
        endpoint, generation = self._endpoint, self._control.generations.get(worker.generation)
        log.warning("worker %s of endpoint %r is replaced: %s", worker.short_id, endpoint.record.name, reason)
        endpoint.note(f"worker {worker.short_id} finishes what it runs, and ends: {reason}")
        endpoint.tell(EventKind.WORKER_UNHEALTHY, reason)
        now, retry = endpoint.now(), endpoint.parts.settings.policy.retry
        generation.history = generation.history.was_unhealthy(
            now, worker.ready_at or now, worker.started_at, reason, retry
        )
        worker.expected = True
        worker.enter(Phase.DRAINING, now)
        endpoint.changed.set()

    def rested(self, worker_id: str, problem: str) -> None:
        """Note a worker that sleeps. One that could not fall asleep ends, and so does one that could not wake up."""
        worker = self._roster.get(worker_id, Phase.DRAINING, Phase.STARTING)
        if worker is None:
            return
        if worker.phase is Phase.DRAINING and not problem:
            self._control.fell_asleep(worker)
            return
        wanted = "fall asleep" if worker.phase is Phase.DRAINING else "wake up"
        log.warning(
            "worker %s of %r could not %s: %s", worker.short_id, self._endpoint.record.name, wanted, problem
        )
        self._endpoint.note(f"worker {worker.short_id} could not {wanted}, and ends: {problem}")
        self._control.stop(worker_id, None)
        worker.end_reason = f"was stopped, because it could not {wanted}: {problem}"

    def worn(self, worker_id: str, reason: str) -> None:
        """Have the plan replace a worker, which serves until another one does."""
        worker = self._roster.get(worker_id, Phase.READY)
        if worker is not None and not worker.worn:
            worker.worn = True
            self._endpoint.note(f"worker {worker.short_id} is to be replaced: {reason}")
            self._endpoint.tell(EventKind.WORKER_REPLACED, reason)
            self._endpoint.changed.set()

    def lost(self, worker_id: str, reason: str = "") -> None:
        """Record that a worker's connection has ended, and see to it that its process follows."""
        if (worker := self._roster.get(worker_id)) is None:
            return
        if reason and not worker.end_reason:
            worker.end, worker.end_reason = WorkerEnd.LOST, reason
        if worker.phase in (Phase.STARTING, Phase.READY):
            worker.enter(Phase.LOST, self._endpoint.now())
            self._endpoint.changed.set()
        self._endpoint.tasks.spawn(self._see_to_its_end(worker))

    def ended(self, worker_id: str, ended: WorkerExit) -> None:
        if (worker := self._roster.get(worker_id)) is not None:
            away = bool(ended.node)
            self._endpoint.parts.traffic.numbers(self._endpoint.id).worker_ended(end_of(worker, ended))
            worker.expected = worker.expected or away  # which tells nothing against the bundle
            reason = str(ended) if away else worker.end_reason or str(ended)
            self._control.gone(worker, reason, ended.last_lines, with_node=away, served=ended.served)

    async def _see_to_its_end(self, worker: WorkerState) -> None:
        """Stop a worker that should be ending, when it has not ended within the grace time."""
        grace = self._endpoint.parts.settings.lost_grace
        if not await worker.wait_gone(grace):
            if not worker.end_reason:
                worker.end, worker.end_reason = WorkerEnd.LOST, "lost its connection, and was stopped"
            await self._endpoint.parts.engine.stop(worker.id, grace)

    async def _kill_when_unwanted(self, worker: WorkerState) -> None:
        """Let what else runs in a worker finish, within the grace time, and then kill it."""
        parts = self._endpoint.parts
        with suppress(TimeoutError):
            async with asyncio.timeout(parts.settings.stuck_grace):
                while parts.fleet.is_wanted(worker.id):  # noqa: ASYNC110 -- it has no event for this alone
                    await asyncio.sleep(POLL_SECONDS)
        await parts.engine.stop(worker.id, grace=0)


def end_of(worker: WorkerState, ended: WorkerExit) -> WorkerEnd:
    """Return why a worker has ended, of what is known of it and of how its process ended."""
    if ended.node:
        return WorkerEnd.NODE_AWAY
    if ended.out_of_memory:
        return WorkerEnd.OUT_OF_MEMORY
    if worker.end is not None:
        return worker.end
    if worker.phase is Phase.STOPPING:
        return WorkerEnd.STOPPED
    if worker.phase is Phase.DRAINING and ended.code == 0:
        return WorkerEnd.DRAINED
    if ended.was_killed:
        return WorkerEnd.KILLED
    return WorkerEnd.EXITED if ended.signal is None else WorkerEnd.SIGNAL

"""The workers of one endpoint: they are started and ended, and failures count in the history of their generation."""

import asyncio
import logging
import secrets

from openlaunch.controller.endpoint import WatchedEndpoint
from openlaunch.controller.generations import MAX_REASON, Generations, resources_of
from openlaunch.controller.roster import Roster, WorkerState
from openlaunch.controller.situation import Build, NoRoomSince, Phase
from openlaunch.controller.sleepers import Sleeper
from openlaunch.engines.base import EngineError, NoRoom, Refused
from openlaunch.engines.documents import KeptWorker, WorkerIdentity, WorkerSpec
from openlaunch.store import bundles
from openlaunch.wire.bundles import ImageFlavor
from openlaunch.wire.endpoints import EndpointStatus
from openlaunch.wire.events import EventKind
from openlaunch.wire.workers import WorkerEnd

log = logging.getLogger(__name__)

THREAD_STACK_BYTES = 8 * 1024 * 1024
"""For a thread for each slot, on top of what the endpoint asks for."""


class WorkerControl:
    """Starts and ends an endpoint's workers, and counts those that fail."""

    def __init__(self, endpoint: WatchedEndpoint) -> None:
        self.endpoint = endpoint
        self.roster = Roster()
        self.generations = Generations(endpoint, self.roster)
        self.no_room: NoRoomSince | None = None
        """What the last worker to be started waits for; None: it was started."""
        self.ahead = 0
        """How many workers of this look found no room."""

    async def start(self, number: int) -> None:
        endpoint, parts, generation = self.endpoint, self.endpoint.parts, self.generations.get(number)
        if generation.bundle is None or generation.environment is None:
            return
        if self._wake(number):
            return
        flavor = generation.bundle.flavor
        token, asked, now = secrets.token_urlsafe(32), endpoint.record.spec_of(number), endpoint.now()
        worker = WorkerState(f"{endpoint.id}.{secrets.token_hex(4)}", number, now, now)
        self.roster.add(worker)
        endpoint.hold(self.roster.awake)
        parts.fleet.expect(worker.id, token, endpoint.record, generation.bundle, number, generation.secrets)
        memory = asked.memory_bytes + asked.slots * THREAD_STACK_BYTES
        spec = WorkerSpec(
            worker_id=worker.id,
            endpoint_id=endpoint.id,
            ahead=self.ahead,
            environment=generation.environment,
            address=parts.fleet.address,
            token=token,
            image=flavor if isinstance(flavor, ImageFlavor) else None,
            resources=resources_of(asked),
            memory_limit=memory if parts.settings.limit_memory else 0,
            owner=generation.bundle.owner,
            prefetch=tuple(asked.prefetch or ()),
            identity=WorkerIdentity(
                number,
                generation.bundle.id,
                parts.fleet.terms(endpoint.record, generation.bundle, number, generation.secrets),
            ),
            slots=asked.slots,
            max_requests=asked.max_requests_per_worker or 0,
            grace=parts.settings.interrupt_grace,
        )
        try:
            await parts.engine.start(spec)
            self.no_room = None
            endpoint.tell(EventKind.WORKER_STARTED)
        except NoRoom as error:
            self.ahead += 1
            # That does not tell against the endpoint: the next look starts the worker.
            now = endpoint.now()
            self.no_room = (self.no_room or NoRoomSince("", now, now)).again(str(error), now)
            worker.expected = worker.reported = True
            self.gone(worker, str(error))
            endpoint.changed.clear()  # which comes with the tick: it would be without room again at once
        except Refused as error:
            endpoint.note(str(error))
            self.load_failed(worker, str(error))
            self.gone(worker, str(error))
        except (OSError, EngineError) as error:
            generation.build = Build.NONE  # the environment may be gone: the next look builds it
            self.gone(worker, f"could not be started: {error}")

    def adopt(self, kept: KeptWorker) -> bool:
        """Use a worker that an earlier server has started, if the endpoint still has such workers."""
        record, now = self.endpoint.record, self.endpoint.now()
        if record.status is EndpointStatus.DELETE_IN_PROGRESS:
            return False
        if record.bundle_of(kept.identity.generation) != kept.identity.bundle_id:
            return False
        if self.roster.get(kept.worker_id) is None:
            worker = WorkerState(kept.worker_id, kept.identity.generation, now, now)
            self.roster.add(worker)
            self.endpoint.hold(self.roster.awake)
            self.endpoint.tasks.spawn(self._adopt(worker, kept))
        return True

    async def _adopt(self, worker: WorkerState, kept: KeptWorker) -> None:
        endpoint, parts, number = self.endpoint, self.endpoint.parts, worker.generation
        token, bundle_id = secrets.token_urlsafe(32), kept.identity.bundle_id
        try:
            bundle = await parts.store.read(lambda conn: bundles.get(conn, bundle_id))
            if bundle is None:
                raise EngineError("has a bundle that was deleted")
            secret = await endpoint.secrets(number, bundle)
            if parts.fleet.terms(endpoint.record, bundle, number, secret) != kept.identity.terms:
                raise EngineError("was started with other settings")
            parts.fleet.expect(worker.id, token, endpoint.record, bundle, number, secret)
            await parts.engine.adopt(worker.id, token)
            endpoint.tell(EventKind.WORKER_ADOPTED)
        except Exception as error:
            if self.roster.get(worker.id) is worker:
                log.warning(
                    "worker %s of endpoint %r is not adopted: %s",
                    worker.short_id,
                    endpoint.record.name,
                    error,
                )
                worker.expected = worker.reported = True
                self.gone(worker, f"was not adopted: {error}")
            await parts.engine.stop(worker.id, parts.settings.stop_grace)

    def drain(self, worker_id: str) -> None:
        """Let a worker finish what it runs, and end."""
        if (worker := self.roster.get(worker_id, Phase.READY)) is not None:
            self._end(worker, Phase.DRAINING)

    def rest(self, worker_id: str) -> None:
        """Put a worker to sleep once it has finished what it runs; one that can't sleep ends then."""
        if (worker := self.roster.get(worker_id, Phase.READY)) is None:
            return
        bundle = self.generations.get(worker.generation).bundle
        sleeps = bundle is not None and getattr(bundle.flavor, "sleep", None) is not None
        room = self.sleep_room()
        if not sleeps or not self.endpoint.parts.engine.lends_gpus or not room or self._memory > room:
            self.drain(worker_id)
            return
        worker.enter(Phase.DRAINING, self.endpoint.now())
        worker.expected = True
        self.endpoint.parts.fleet.rest(worker_id)

    @property
    def _memory(self) -> int:
        return self.endpoint.record.spec.memory_bytes

    def sleep_room(self) -> int:
        """Return how much of the machine's memory workers that sleep may have."""
        parts = self.endpoint.parts
        left = parts.engine.capacity().memory - parts.holdings.total.memory
        return left if parts.settings.sleep_bytes is None else min(left, parts.settings.sleep_bytes)

    def fell_asleep(self, worker: WorkerState) -> None:
        """Give the GPUs of a worker that sleeps to others."""
        endpoint = self.endpoint
        worker.enter(Phase.ASLEEP, endpoint.now())
        endpoint.parts.engine.lend_gpus(worker.id)
        endpoint.hold(self.roster.awake)
        sleeper = Sleeper(self._memory, worker.since)
        endpoint.parts.sleepers.add(worker.id, sleeper, lambda worker_id: self.stop(worker_id, None))
        endpoint.tell(EventKind.WORKER_ASLEEP)
        endpoint.changed.set()

    def _wake(self, number: int) -> bool:
        """Wake up a worker of a generation that sleeps, and whose GPUs are free; return whether there is one."""
        endpoint, parts = self.endpoint, self.endpoint.parts
        for worker in self.roster:
            sleeps = worker.phase is Phase.ASLEEP and worker.generation == number and worker.end is None
            if sleeps and parts.engine.take_gpus_back(worker.id):
                parts.sleepers.forget(worker.id)
                worker.enter(Phase.STARTING, endpoint.now())
                worker.expected = False
                endpoint.hold(self.roster.awake)
                parts.fleet.wake(worker.id)
                endpoint.tell(EventKind.WORKER_WOKEN)
                return True
        return False

    def _end_sleeper(self, worker: WorkerState) -> None:
        """Stop a worker that sleeps, once. It stays in its phase, because it has no GPUs that would come free."""
        self.endpoint.parts.sleepers.forget(worker.id)
        if worker.end is None:
            worker.end = WorkerEnd.STOPPED
            parts = self.endpoint.parts
            self.endpoint.tasks.spawn(parts.engine.stop(worker.id, parts.settings.stop_grace))

    def _end(self, worker: WorkerState, phase: Phase) -> None:
        """Begin the end of a worker: it gets no requests from now on, whether it is ready or on its way to that."""
        worker.enter(phase, self.endpoint.now())
        worker.expected = True
        self.endpoint.parts.fleet.drain(worker.id)

    def stop(self, worker_id: str, failure: str | None) -> None:
        """Stop a worker that is not ready, or has not drained in time; drain one that has become ready meanwhile.

        `failure` says why that counts as a failure to load; None when the worker is not needed.
        """
        if (sleeper := self.roster.get(worker_id, Phase.ASLEEP)) is not None:
            self._end_sleeper(sleeper)
            return
        endpoint, worker = self.endpoint, self.roster.get(worker_id, Phase.STARTING, Phase.DRAINING)
        if worker is None:
            if failure is None:
                self.drain(worker_id)
            return
        if failure is not None:
            endpoint.note(f"worker {worker.short_id} is stopped: {failure}")
            self.load_failed(worker, failure)
        elif worker.phase is Phase.DRAINING:
            worker.end_reason = "was stopped: what it ran was not done in time"
        self._end(worker, Phase.STOPPING)
        endpoint.tasks.spawn(endpoint.parts.engine.stop(worker_id, endpoint.parts.settings.stop_grace))

    async def retire(self, grace: float) -> None:
        """Let every worker finish what it runs, and stop those that have not after `grace` seconds."""
        for worker in self.roster:
            if worker.phase is Phase.DRAINING:
                self.endpoint.parts.fleet.drain(worker.id)  # it may be about to sleep
            elif worker.phase in (Phase.STARTING, Phase.READY):
                self._end(worker, Phase.DRAINING if worker.phase is Phase.READY else Phase.STOPPING)
        await asyncio.gather(*(self._finish(worker, grace) for worker in self.roster))

    async def _finish(self, worker: WorkerState, grace: float) -> None:
        if worker.phase is Phase.DRAINING:
            await worker.wait_gone(grace)
        if not worker.gone.is_set():
            worker.expected = True
            await self.endpoint.parts.engine.stop(worker.id, grace=0)

    def load_failed(self, worker: WorkerState, reason: str) -> None:
        """Count a worker that can't load its bundle; its process still has to end."""
        endpoint, generation = self.endpoint, self.generations.get(worker.generation)
        generation.history = generation.history.load_failed(
            endpoint.now(), worker.started_at, reason[:MAX_REASON]
        )
        self._end(worker, Phase.STOPPING)
        worker.reported, worker.end = True, WorkerEnd.LOAD_FAILED
        endpoint.tell(EventKind.WORKER_FAILED, reason)
        endpoint.changed.set()

    def gone(
        self,
        worker: WorkerState,
        reason: str,
        last_lines: str = "",
        *,
        with_node: bool = False,
        served: bool = False,
    ) -> None:
        """Take a worker out whose process has ended, or whose node is away.

        `reason` says how, and `last_lines` are its log's. One that has `served` does not tell against its bundle.
        """
        endpoint, fleet = self.endpoint, self.endpoint.parts.fleet
        self.roster.remove(worker)
        endpoint.parts.sleepers.forget(worker.id)
        endpoint.hold(self.roster.awake)
        excused = served or fleet.is_excused(worker.id)
        fleet.forget(worker.id, reason, with_node=with_node)
        if with_node:
            endpoint.note(f"worker {worker.short_id} {reason}")
        if not worker.expected:
            self._failed(worker, reason, last_lines, excused)
        elif not worker.reported:
            drained = worker.phase is Phase.DRAINING
            endpoint.tell(EventKind.WORKER_DRAINED if drained else EventKind.WORKER_STOPPED)
        worker.gone.set()
        endpoint.changed.set()

    def _failed(self, worker: WorkerState, end: str, last_lines: str, excused: bool) -> None:
        """Count a worker that ended without being asked to, while it served or before it was ready."""
        endpoint, generation = self.endpoint, self.generations.get(worker.generation)
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

"""What a plan does with workers: start, drain and stop them."""

import asyncio
import secrets

from openlaunch.controller.endings import Endings
from openlaunch.controller.endpoint import WatchedEndpoint
from openlaunch.controller.generations import Generations, resources_of
from openlaunch.controller.roster import Roster, WorkerState
from openlaunch.controller.situation import Build, Phase
from openlaunch.engines.base import EngineError, NoRoom, WorkerSpec
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.events import EventKind

THREAD_STACK_BYTES = 8 * 1024 * 1024


class WorkerControl:
    """Starts and ends an endpoint's workers."""

    def __init__(
        self, endpoint: WatchedEndpoint, roster: Roster, generations: Generations, endings: Endings
    ) -> None:
        self._endpoint = endpoint
        self._roster = roster
        self._generations = generations
        self._endings = endings

    async def start(self, number: int) -> None:
        endpoint, parts, generation = self._endpoint, self._endpoint.parts, self._generations.get(number)
        if generation.bundle is None or generation.environment is None:
            return
        token, asked, now = secrets.token_urlsafe(32), endpoint.record.spec_of(number), endpoint.now()
        worker = WorkerState(f"{endpoint.id}.{secrets.token_hex(4)}", number, now, now)
        self._roster.add(worker)
        parts.fleet.expect(worker.id, token, endpoint.record, generation.bundle, number)
        spec = WorkerSpec(
            worker_id=worker.id,
            endpoint_id=endpoint.id,
            environment=generation.environment,
            address=parts.fleet.address,
            token=token,
            flavor=generation.bundle.flavor,
            resources=resources_of(asked),
            memory_limit=_memory(asked) if parts.settings.limit_memory else 0,
        )
        try:
            await parts.engine.start(spec)
            endpoint.tell(EventKind.WORKER_STARTED)
        except NoRoom as error:
            # Another endpoint was faster, which does not tell against this one: the next look starts it.
            worker.expected = worker.reported = True
            self._endings.gone(worker, str(error))
        except (OSError, EngineError) as error:
            generation.build = Build.NONE  # the environment may be gone: the next look builds it
            self._endings.gone(worker, f"could not be started: {error}")

    def drain(self, worker_id: str) -> None:
        worker = self._roster.get(worker_id, Phase.READY)
        if worker is not None:
            worker.enter(Phase.DRAINING, self._endpoint.now())
            worker.expected = True
            self._endpoint.parts.fleet.drain(worker_id)

    def stop(self, worker_id: str, failure: str | None) -> None:
        """Stop a worker. `failure` says why that counts as a failure to load; None when the worker is not needed."""
        endpoint, worker = self._endpoint, self._roster.get(worker_id)
        if worker is None or worker.phase is Phase.STOPPING:
            return
        if failure is not None:
            endpoint.note(f"worker {worker.short_id} is stopped: {failure}")
            self._endings.load_failed(worker, failure)
        elif worker.phase is Phase.DRAINING:
            worker.end_reason = "was stopped: what it ran was not done in time"
        worker.enter(Phase.STOPPING, endpoint.now())
        worker.expected = True
        endpoint.tasks.spawn(endpoint.parts.engine.stop(worker_id, endpoint.parts.settings.stop_grace))

    async def retire(self, grace: float) -> None:
        """Let every worker finish what it runs, and stop those that have not after `grace` seconds."""
        for worker in self._roster:
            self.drain(worker.id)
        await asyncio.gather(*(self._finish(worker, grace) for worker in self._roster))

    async def _finish(self, worker: WorkerState, grace: float) -> None:
        if worker.phase is Phase.DRAINING:
            await worker.wait_gone(grace)
        if not worker.gone.is_set():
            worker.expected = True
            await self._endpoint.parts.engine.stop(worker.id, grace=0)


def _memory(spec: EndpointSpec) -> int:
    """Return what a worker may use: what its endpoint says, and the stack of a thread for each slot."""
    return spec.memory_bytes + spec.slots * THREAD_STACK_BYTES

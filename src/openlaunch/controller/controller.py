"""The controller: keeps every endpoint at what is asked for. Each endpoint has a supervisor of its own."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

from openlaunch.background import BackgroundTasks
from openlaunch.controller.environments import Environments
from openlaunch.controller.events import EventLog
from openlaunch.controller.fleet import Fleet
from openlaunch.controller.following import LogFollower
from openlaunch.controller.gpu_pool import GpuPool
from openlaunch.controller.images import Images
from openlaunch.controller.logs import EndpointLogs
from openlaunch.controller.scaling import Usage
from openlaunch.controller.settings import ControllerSettings
from openlaunch.controller.supervisor import Parts, Supervisor
from openlaunch.engines.base import Engine
from openlaunch.errors import Unprocessable
from openlaunch.store import endpoints
from openlaunch.store.base import Store
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import EndpointStatus
from openlaunch.wire.why import EndpointWhy

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Watched:
    """A supervisor, and the task that it runs in."""

    supervisor: Supervisor
    running: asyncio.Task[None]

    async def end_loop(self) -> None:
        self.running.cancel()
        with suppress(asyncio.CancelledError):
            await self.running


class Controller:
    """Implements `FleetEvents`. Used in the event loop's thread only."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        engine: Engine,
        environments: Environments,
        images: Images,
        settings: ControllerSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._environments = environments
        self._settings = settings
        self._logs = EndpointLogs(settings.logs)
        self.events = EventLog(store, clock)
        self._gpus = GpuPool(engine.capacity().gpus)
        self._parts = Parts(
            store,
            fleet,
            engine,
            environments,
            images,
            settings,
            self._gpus,
            self._logs,
            clock,
            self._usage_beside,
            self._environment_built,
            self.events,
        )
        self._watched: dict[str, _Watched] = {}
        self._background = BackgroundTasks("a background task of the controller failed")

    async def start(self) -> None:
        """Look after all endpoints that the store has; those that were being deleted go on being so."""
        for record in await self._store.read(endpoints.list_all):
            self.apply(record)
            if record.status is EndpointStatus.DELETE_IN_PROGRESS:
                self.remove(record)

    async def stop(self, grace: float) -> None:
        """End every worker: what runs has `grace` seconds to finish. The endpoints stay as they are recorded."""
        await self._background.stop()
        watched = list(self._watched.values())
        await asyncio.gather(*(w.end_loop() for w in watched))
        await asyncio.gather(*(w.supervisor.retire(grace) for w in watched))
        await self.events.stop()

    # What the routes call.

    def apply(self, record: EndpointRecord) -> None:
        """The endpoint is new, or asked to be different from now on."""
        watched = self._watched.get(record.id)
        if watched is not None:
            watched.supervisor.adopt(record)
            return
        self._fleet.update_endpoint(record)
        supervisor = Supervisor(record, self._parts)
        self._watched[record.id] = _Watched(supervisor, asyncio.create_task(supervisor.run()))

    def remove(self, record: EndpointRecord) -> None:
        """Delete the endpoint: its workers finish what they run, then its row and logs go."""
        watched = self._watched.get(record.id)
        if watched is not None:
            watched.supervisor.adopt(record)
            self._background.spawn(self._delete(watched))

    async def _delete(self, watched: _Watched) -> None:
        await watched.end_loop()
        await watched.supervisor.delete()
        self._watched.pop(watched.supervisor.record.id, None)

    def looks_after(self, endpoint_id: str) -> bool:
        """Whether the endpoint is there, and not deleted."""
        return endpoint_id in self._watched

    def workers(self, endpoint_id: str) -> tuple[int, int]:
        """How many of its workers take requests, and how many are on their way to that."""
        watched = self._watched.get(endpoint_id)
        return (0, 0) if watched is None else watched.supervisor.counts()

    def workers_of(self, endpoint_id: str, generation: int) -> int:
        """How many workers of this generation take requests."""
        watched = self._watched.get(endpoint_id)
        return 0 if watched is None else watched.supervisor.ready_of(generation)

    def explain(self, endpoint_id: str) -> EndpointWhy | None:
        """Why it serves or does not; None where it is not there any more."""
        watched = self._watched.get(endpoint_id)
        return None if watched is None else watched.supervisor.explain()

    def creation_log(self, endpoint_id: str) -> str:
        """The log of the endpoint's creation: environment, workers, what failed."""
        return self._logs.creation(endpoint_id)

    def worker_logs(self, endpoint_id: str, tail_bytes: int) -> str:
        """The last `tail_bytes` of what its workers have printed."""
        return self._logs.workers(endpoint_id, tail_bytes)

    def follow_logs(self, endpoint_id: str) -> LogFollower:
        """What reads its workers' logs as they grow."""
        return LogFollower(self._logs, endpoint_id)

    def check_gpus(self, spec: EndpointSpec) -> None:
        """Refuse what no worker of this machine could ever have.

        Raises:
            Unprocessable: the endpoint asks for more GPUs than there are.

        """
        problem = self._gpus.problem(spec)
        if problem is not None:
            raise Unprocessable(f"the endpoint {problem}", code="not_enough_gpus")

    # What jobs call, which use GPUs beside the workers.

    def take_gpus(self, job_id: str, count: int) -> tuple[int, ...] | None:
        """So many GPUs for the job until it gives them back; None when fewer are free."""
        return self._gpus.take(job_id, count)

    def hold_gpus(self, job_id: str, indices: tuple[int, ...]) -> None:
        """Have the job hold these, which it got from an earlier server."""
        self._gpus.hold(job_id, indices)

    def give_back_gpus(self, job_id: str) -> None:
        """The job has ended. Unknown ids are ignored."""
        self._gpus.give_back(job_id)

    # FleetEvents: what the gateway tells.

    def worker_ready(self, worker_id: str) -> None:
        if (supervisor := self._of_worker(worker_id)) is not None:
            supervisor.worker_ready(worker_id)

    def worker_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        if (supervisor := self._of_worker(worker_id)) is not None:
            supervisor.worker_load_failed(worker_id, reason, traceback)

    def worker_stuck(self, worker_id: str, reason: str) -> None:
        if (supervisor := self._of_worker(worker_id)) is not None:
            supervisor.worker_stuck(worker_id, reason)

    def worker_leaving(self, worker_id: str) -> None:
        if (supervisor := self._of_worker(worker_id)) is not None:
            supervisor.worker_leaving(worker_id)

    def worker_lost(self, worker_id: str) -> None:
        if (supervisor := self._of_worker(worker_id)) is not None:
            supervisor.worker_lost(worker_id)

    def prediction_failed(self, endpoint_id: str) -> None:
        if (watched := self._watched.get(endpoint_id)) is not None:
            watched.supervisor.look()

    def demand(self, endpoint_id: str) -> None:
        if (watched := self._watched.get(endpoint_id)) is not None:
            watched.supervisor.demand()

    def _of_worker(self, worker_id: str) -> Supervisor | None:
        watched = self._watched.get(Supervisor.endpoint_of(worker_id))
        return None if watched is None else watched.supervisor

    # What supervisors share.

    def _usage_beside(self, endpoint_id: str) -> Usage:
        others = (w.supervisor.usage() for key, w in self._watched.items() if key != endpoint_id)
        return reduce(add, others, Usage())

    def _environment_built(self) -> None:
        self._background.spawn(self._prune_environments())

    async def _prune_environments(self) -> None:
        used: set[Path] = set()
        for watched in self._watched.values():
            used |= watched.supervisor.pythons()
        for name in await self._environments.prune(used):
            log.info("the environment %s was not used for long, and is removed", name)

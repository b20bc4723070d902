"""The controller: keeps every endpoint at what is asked for, with a supervisor for each."""

import asyncio
import logging
from collections.abc import Callable

from openlaunch.background import BackgroundTasks
from openlaunch.controller.creation_log import CreationLogs
from openlaunch.controller.endpoint import ControllerSettings, Parts, SecretsOf
from openlaunch.controller.environment_use import EnvironmentUse
from openlaunch.controller.events import EventLog
from openlaunch.controller.fleet import Fleet, Traffic
from openlaunch.controller.gpu_shares import GpuShares
from openlaunch.controller.gpus import gpu_problem
from openlaunch.controller.reports import Reports
from openlaunch.controller.scaling import Holdings
from openlaunch.controller.sleepers import Sleepers
from openlaunch.controller.supervisor import Supervisor
from openlaunch.controller.view import View
from openlaunch.engines.base import Engine
from openlaunch.engines.documents import KeptWorker, NodeInfo
from openlaunch.errors import Unprocessable
from openlaunch.store import endpoints
from openlaunch.store.base import Store
from openlaunch.store.cluster import check_leads
from openlaunch.store.records import EndpointRecord
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.endpoints import EndpointStatus

log = logging.getLogger(__name__)


class Controller:
    """Starts and ends endpoints' supervisors, in the event loop's thread. Gateway and engine call its `reports`."""

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        traffic: Traffic,
        engine: Engine,
        settings: ControllerSettings,
        clock: Callable[[], float],
        secrets: SecretsOf,
    ) -> None:
        self.events = EventLog(store, clock)
        self._store = store
        self._fleet = fleet
        self._traffic = traffic
        self._engine = engine
        logs = CreationLogs(settings.logs)
        self._parts = Parts(
            store=store,
            fleet=fleet,
            traffic=traffic,
            engine=engine,
            settings=settings,
            logs=logs,
            events=self.events,
            holdings=Holdings(),
            gpu_shares=GpuShares(settings.swap),
            sleepers=Sleepers(),
            environment_built=self._prune_soon,
            secrets=secrets,
            clock=clock,
            check_leads=lambda conn: check_leads(conn, self._epoch),
        )
        self._epoch = 0
        """Under which this server leads, where several share a database."""
        self._supervisors: dict[str, Supervisor] = {}
        self.view = View(self._supervisors, traffic, engine.nodes, logs)
        self.environments = EnvironmentUse(self._supervisors, engine.builds)
        self.logs, self.nodes, self.capacity = engine.logs, engine.nodes, engine.capacity
        self.leads = False
        """Whether this server starts and ends the workers; where several share a database, only one does."""
        self._records: dict[str, EndpointRecord] = {}
        """The endpoints as this server last saw them."""
        self._background = BackgroundTasks("a background task of the controller failed")
        self.reports = Reports(self._supervisors.get, engine.logs.note)
        engine.listen(self.reports)

    async def start(self, epoch: int = 0) -> None:
        """Look after all endpoints that the store has, and resume deleting those that were being deleted.

        What an earlier server has left running is adopted. `epoch` is the leader's, where servers share a database.
        """
        self._epoch = epoch
        kept = await self._engine.lead(epoch, self.adopt)
        records = await self._store.read(endpoints.list_all)
        self.leads = True
        self._set_elsewhere()
        for record in records:
            self.apply(record)
        for each in kept:  # before any plan is made
            self.adopt(each)
        for record in records:
            if record.status is EndpointStatus.DELETE_IN_PROGRESS:
                self.remove(record)

    def adopt(self, kept: KeptWorker) -> None:
        """Use a worker of an earlier server, or end it where nothing needs it."""
        supervisor = self._supervisors.get(kept.endpoint_id)
        if self.leads and (supervisor is None or not supervisor.adopt(kept)):
            log.info("the worker %s of an earlier server is not needed, and ends", kept.worker_id)
            self._background.spawn(self._engine.stop(kept.worker_id, 0))

    async def stop(self, grace: float) -> None:
        """End every worker: what runs has `grace` seconds to finish. The endpoints stay as they are recorded."""
        await self.follow(grace)
        await self.events.stop()

    async def resign(self) -> None:
        """Change nothing more, because another server leads from now on. The workers stay for what they run."""
        self.leads = False
        await self._background.stop()
        await asyncio.gather(*(each.end_loop() for each in self._supervisors.values()))

    async def follow(self, grace: float) -> None:
        """Leave the endpoints to another server, and the workers too, or end them as `stop` does."""
        await self.resign()
        if self._engine.keeps_workers:
            for each in self._supervisors.values():
                each.leave()
            await self._engine.leave()
            self._fleet.leave()
        else:
            await asyncio.gather(*(each.retire(grace) for each in self._supervisors.values()))
        self._supervisors.clear()
        self._set_elsewhere()

    def _set_elsewhere(self) -> None:
        """Say whether this server can't predict: workers on the leader's own machine are the leader's alone."""
        self._traffic.set_elsewhere(elsewhere=not self.leads and not self._engine.keeps_workers)

    async def refresh(self) -> None:
        """Take over what other servers have changed."""
        self._set_elsewhere()
        known = set(self._records)
        found = {record.id: record for record in await self._store.read(endpoints.list_all)}
        for record in found.values():
            if record != self._records.get(record.id):
                self.apply(record)
                if record.status is EndpointStatus.DELETE_IN_PROGRESS:
                    self.remove(record)
        for endpoint_id in known.difference(found, self._supervisors):
            self._records.pop(endpoint_id, None)
            self._traffic.remove_endpoint(endpoint_id)

    def apply(self, record: EndpointRecord) -> None:
        """Look after an endpoint that is new, or that is to be different from now on."""
        self._records[record.id] = record
        if (supervisor := self._supervisors.get(record.id)) is not None:
            supervisor.endpoint.adopt(record)
            return
        self._traffic.update_endpoint(record)
        if self.leads:
            self._supervisors[record.id] = Supervisor(record, self._parts)

    def remove(self, record: EndpointRecord) -> None:
        """Delete the endpoint: its workers finish what they run, then its row and logs go."""
        self._records[record.id] = record
        if (supervisor := self._supervisors.get(record.id)) is not None:
            supervisor.endpoint.adopt(record)
            self._background.spawn(self._delete(supervisor))

    async def _delete(self, supervisor: Supervisor) -> None:
        await supervisor.end_loop()
        await supervisor.delete()
        self._supervisors.pop(supervisor.endpoint.id, None)
        self._records.pop(supervisor.endpoint.id, None)

    def looks_after(self, endpoint_id: str) -> bool:
        return endpoint_id in self._supervisors

    def check_gpus(self, spec: EndpointSpec) -> None:
        """Raise `Unprocessable` if the endpoint asks for more GPUs than this machine has."""
        capacity = self.capacity()
        if not capacity.elastic and (problem := gpu_problem(spec, capacity)) is not None:
            raise Unprocessable(f"the endpoint {problem}", code="not_enough_gpus")

    async def drain_node(self, address: str, *, draining: bool) -> NodeInfo:
        """Have the workers of a node replaced by others elsewhere, or use it again; raise as the engine does."""
        node = await self.nodes.drain(address, draining=draining)
        for supervisor in self._supervisors.values():
            supervisor.endpoint.changed.set()
        return node

    def _prune_soon(self) -> None:
        self._background.spawn(self.environments.prune_unused())

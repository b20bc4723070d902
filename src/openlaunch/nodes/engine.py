"""The engine of a server whose workers are on other machines: each node has an agent, which this calls."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import EngineError, EngineEvents, NoLending
from openlaunch.engines.documents import Capacity, KeptWorker, WorkerExit, WorkerSpec
from openlaunch.nodes import calls
from openlaunch.nodes.agent_link import AgentLink, Gateway
from openlaunch.nodes.builds import NodeBuilds
from openlaunch.nodes.connections import Connections
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.in_use import NodesInUse
from openlaunch.nodes.jobs import NodeJobs
from openlaunch.nodes.logs import NodeLogs
from openlaunch.nodes.node import Node
from openlaunch.nodes.placement import FewestWorkers, Placement

log = logging.getLogger(__name__)


class NodesEngine(NoLending):
    """Implements `Engine` over the agents of nodes. Used in the event loop's thread only.

    `placement` decides on which node a worker is started.
    """

    keeps_workers = True

    def __init__(
        self,
        nodes: list[Node],
        identity: ClusterIdentity,
        records: str,
        placement: Placement | None = None,
    ) -> None:
        self._placement = placement or FewestWorkers()
        self._background = BackgroundTasks("a node could not be looked after")
        self.connections = Connections(nodes, identity, records, self, self._background)
        self.builds = NodeBuilds(self.connections, self._placement, self._background)
        self.logs = NodeLogs(self.connections, self._background)
        self.nodes = NodesInUse(self.connections)
        self.jobs = NodeJobs(self.connections, self._placement, self._background)
        self._events: EngineEvents
        self._gateway: Gateway
        self._found_later: Callable[[KeptWorker], None] = lambda kept: None

    def listen(self, events: EngineEvents) -> None:
        self._events = self.builds.events = events

    async def start_dialling(self, gateway: Gateway) -> None:
        """Connect to every agent, now and whenever a connection is lost; wait a moment for the first answers."""
        self._gateway = gateway
        first = self.connections.start(gateway)
        await self._placement.begin(self.connections)
        await asyncio.gather(*(tried.wait() for tried in first))

    def connected(self, node: Node, kept: list[KeptWorker]) -> None:
        if self.connections.epoch is not None:
            self.builds.build_all(node)
            self.jobs.lead(node)
        for each in _found(node, kept):
            self._found_later(each)

    async def lead(self, epoch: int, found: Callable[[KeptWorker], None]) -> list[KeptWorker]:
        self.connections.epoch, self._found_later = epoch, found
        kept: list[KeptWorker] = []
        for node, link in self.connections.links():
            try:
                kept += _found(node, await self.connections.lead(link))
                self.jobs.lead(node)
            except EngineError as error:
                log.error("the node %s can't be led: %s", node.address, error)
                link.lose(str(error))
        return kept

    async def leave(self) -> None:
        self.connections.epoch = None
        self.jobs.leave()
        for node, link in self.connections.links():
            node.workers.clear()
            with suppress(EngineError):
                await link.call(calls.LEAVE, None)

    async def reach(self, client: str, server: str, work: str = "") -> asyncio.Transport | None:
        """Open a connection to another server, for a client with this address; None: no node knows that server.

        `server` is its name, or "" for the one that leads. Where that is gone, the one is reached that has taken up
        the `work` of this name.
        """
        for _, link in self.connections.links():
            with suppress(EngineError):
                return await link.reach(calls.Reach(client, server, work))
        return None

    def lost(self, node: Node, link: AgentLink) -> None:
        """Take out the workers of a node that was connected; those that still run are found once it is back."""
        away = WorkerExit(None, None, node=f"{node.address}, which {link.lost_because}")
        workers, node.workers = node.workers, {}
        for worker_id in workers:
            self._events.worker_ended(worker_id, away)
        for worker_id in link.shared:
            self._gateway.ended(worker_id, str(away), with_node=True)

    def heard(self, node: Node, event: str, about: Any) -> None:
        if event == calls.ENDED.name:
            ended = calls.ENDED.argument(about)
            if node.workers.pop(ended.worker_id, None) is not None:
                self._events.worker_ended(ended.worker_id, replace(ended.exit, last_lines=ended.last_lines))
            if node.link is not None:
                node.link.shared.discard(ended.worker_id)
            self._gateway.ended(ended.worker_id, str(ended.exit), with_node=False)
        elif event == calls.NEWS.name:
            news = calls.NEWS.argument(about)
            if news.worker_id in node.workers:
                self._gateway.heard(news)
        elif event == calls.CAPACITY.name:
            node.has = calls.CAPACITY.argument(about)
        elif event == calls.BUILD.name:
            self.builds.heard(node, calls.BUILD.argument(about))

    def problems(self) -> dict[str, str]:
        """Return why each node that can't be used can't be, by its address or by what keeps it."""
        return self.connections.problems() | self._placement.problems()

    def capacity(self) -> Capacity:
        nodes = [node.capacity for node, _ in self.connections.links() if not node.capacity.draining]
        return Capacity(
            sum(each.cpus for each in nodes),
            sum(each.memory for each in nodes),
            sum(each.gpus for each in nodes),
            sum(each.free_gpus for each in nodes),
            elastic=self._placement.elastic,
            gpu_parts=tuple(part for each in nodes for part in each.gpu_parts),
            gpu_names=tuple(name for each in nodes for name in each.gpu_names),
        )

    async def start(self, spec: WorkerSpec) -> None:
        if not self._placement.elastic:
            self.connections.check()
        node = await self._placement.place(spec)
        node.workers[spec.worker_id] = spec.resources
        try:
            own = await self.builds.ensure(node, spec.environment)
            await node.connected().call(calls.START, replace(spec, environment=own, address=""))
        except BaseException:
            node.workers.pop(spec.worker_id, None)
            raise

    async def adopt(self, worker_id: str, token: str) -> None:
        if (link := self.connections.link_to(worker_id)) is None:
            raise EngineError(f"the node of the worker {worker_id} is away")
        await link.call(calls.ADOPT, calls.Adopt(worker_id, token))

    async def stop(self, worker_id: str, grace: float) -> None:
        if (link := self.connections.link_to(worker_id)) is not None:
            try:
                await link.call(calls.STOP, calls.Stop(worker_id, grace))
            except EngineError as error:  # the node is away, and its workers have ended
                log.warning("the worker %s could not be stopped: %s", worker_id, error)

    async def close(self) -> None:
        await self._placement.close()
        await self._background.stop()
        self.connections.close()


def _found(node: Node, kept: list[KeptWorker]) -> list[KeptWorker]:
    node.workers |= {each.worker_id: each.resources for each in kept}
    return kept

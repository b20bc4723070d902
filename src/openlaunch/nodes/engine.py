"""The engine of a server whose workers are on other machines: each node has an agent, which this calls."""

import asyncio
import logging
import secrets
import ssl
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import replace
from time import time as clock
from typing import Any, NoReturn

from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import (
    BuildOrder,
    Capacity,
    ContainerError,
    EngineError,
    EngineEvents,
    EnvironmentInfo,
    Jobs,
    KeptWorker,
    LogLine,
    LogPart,
    NodeInfo,
    Resources,
    WorkerExit,
    WorkerSpec,
)
from openlaunch.nodes import calls
from openlaunch.nodes.agent_link import AgentLink, Gateway
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.node import Node
from openlaunch.nodes.placement import FewestWorkers, Placement

log = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
NODE_LOOK_SECONDS = 0.5
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0


class NodesEngine:
    """Implements `Engine` over the agents of nodes. Used in the event loop's thread only.

    An environment is built on every node that is connected. `placement` decides on which node a worker is started.
    """

    keeps_workers = True

    def __init__(
        self,
        nodes: list[Node],
        identity: ClusterIdentity,
        records: str,
        placement: Placement | None = None,
    ) -> None:
        self._nodes = nodes
        self._placement = placement or FewestWorkers()
        self.jobs: Jobs = NoJobs()
        self._identity = identity
        self._context = identity.server_context()
        self._records = records
        self.name = secrets.token_hex(4)
        """By which agents tell this server from others."""
        self._epoch: int | None = None
        """Under which epoch this server gives orders; None: it gives none."""
        self._orders: dict[str, BuildOrder] = {}
        """What each environment was built from, by its id: a node that lacks it builds it."""
        self._builds: dict[str, Node | None] = {}
        """The node that speaks for each build that is waited for: the first that has begun with it."""
        self._events: EngineEvents
        self._gateway: Gateway
        self._found_later: Callable[[KeptWorker], None] = lambda kept: None
        self.on_removed: Callable[[str], None] = lambda address: None
        """Called with the address of each node that is removed here."""
        self._background = BackgroundTasks("a node could not be looked after")

    def listen(self, events: EngineEvents) -> None:
        self._events = events

    async def start_dialling(self, gateway: Gateway) -> None:
        """Connect to every agent, now and whenever a connection is lost; wait a moment for the first answers."""
        self._gateway = gateway
        first = [self._dial(node) for node in self._nodes]
        await self._placement.begin(self)
        await asyncio.gather(*(tried.wait() for tried in first))

    def _dial(self, node: Node) -> asyncio.Event:
        """Keep a connection to a node; the event is set once the first try has ended."""
        tried = asyncio.Event()
        node.keeping = self._background.spawn(self._keep(node, tried))
        return tried

    @property
    def leads(self) -> bool:
        """Whether this server gives orders."""
        return self._epoch is not None

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    async def add(self, node: Node) -> None:
        """Use a further node, after the first try to connect to it has ended."""
        self._nodes.append(node)
        await self._dial(node).wait()

    async def _keep(self, node: Node, tried: asyncio.Event) -> None:
        """Keep the connection to a node's agent."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            lost = asyncio.Event()
            problem = await self._connect(node, lost)
            tried.set()
            if problem is None:
                pause = FIRST_PAUSE_SECONDS
                await lost.wait()
            elif problem != node.problem:
                node.problem = problem
                log.warning("the node %s can't be used: %s", node.address, problem)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _connect(self, node: Node, lost: asyncio.Event) -> str | None:
        """Connect to a node's agent; return why that is not possible."""

        def on_lost(link: AgentLink) -> None:
            self._lost(node, link)
            lost.set()

        def make() -> AgentLink:
            return AgentLink(
                node.address,
                self._identity,
                self._records,
                self.name,
                self._gateway,
                lambda event, about: self._heard(node, event, about),
                on_lost,
            )

        link: AgentLink | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, link = await asyncio.get_running_loop().create_connection(
                    make, node.host, node.port, ssl=self._context, server_hostname=""
                )
                capacity = await link.welcome
                kept = await self._lead_on(link)
        except ssl.SSLCertVerificationError:
            return "it belongs to another cluster: its token (OPENLAUNCH_CLUSTER_TOKEN) is another one"
        except TimeoutError:
            if link is not None:
                link.lose("did not answer in time")
            return f"it did not answer within {CONNECT_SECONDS:g} s"
        except OSError as error:
            return f"it can't be reached: {error.strerror or error}"
        except EngineError as error:
            if link is not None:
                link.lose(str(error))
            return str(error)
        if lost.is_set():
            return link.lost_because
        node.link, node.has, node.problem, node.since = link, capacity, "", clock()
        node.name = link.node
        log.info("the node %s is connected", node.address)
        self._background.spawn(self._build_all(node))
        for each in self._found(node, kept):
            self._found_later(each)
        return None

    async def _lead_on(self, link: AgentLink) -> list[KeptWorker]:
        """Have a node obey this server, if it leads, and return the workers that an earlier one has left there."""
        while (epoch := self._epoch) is not None:
            kept = await link.call(calls.LEAD, epoch)
            if epoch == self._epoch:
                return kept
        return []

    def _found(self, node: Node, kept: list[KeptWorker]) -> list[KeptWorker]:
        node.workers |= {each.worker_id: each.resources for each in kept}
        return kept

    async def lead(self, epoch: int, found: Callable[[KeptWorker], None]) -> list[KeptWorker]:
        self._epoch, self._found_later = epoch, found
        kept: list[KeptWorker] = []
        for node, link in self._connected():
            try:
                kept += self._found(node, await self._lead_on(link))
            except EngineError as error:
                log.error("the node %s can't be led: %s", node.address, error)
                link.lose(str(error))
        return kept

    async def leave(self) -> None:
        self._epoch = None
        for node, link in self._connected():
            node.workers.clear()
            with suppress(EngineError):
                await link.call(calls.LEAVE, None)

    async def reach(self, client: str, server: str) -> asyncio.Transport | None:
        """Open a connection to another server, for a client with this address; None: no node knows that server.

        `server` is its name, or "" for the one that leads.
        """
        for _, link in self._connected():
            with suppress(EngineError):
                return await link.reach(calls.Reach(client, server))
        return None

    def leaving(self) -> Collection[str]:
        return [worker_id for node in self._nodes if node.capacity.draining for worker_id in node.workers]

    def nodes(self) -> list[NodeInfo]:
        return [node.info() for node in self._nodes]

    def _node(self, address: str) -> Node:
        found = [node for node in self._nodes if node.address == address]
        found = found or [node for node in self._nodes if node.name == address]
        if len(found) != 1:
            raise LookupError(address)
        return found[0]

    async def drain_node(self, address: str, *, draining: bool) -> NodeInfo:
        node = self._node(address)
        if node.link is None:
            raise EngineError(f"the node {node.address} {node.problem}")
        await node.link.call(calls.DRAIN, draining)
        node.has = replace(node.has, draining=draining)
        return node.info()

    def remove_node(self, address: str) -> NodeInfo:
        node = self._node(address)
        if node.workers:
            raise EngineError(f"the node {node.address} has {len(node.workers)} workers: drain it first")
        self.forget(node)
        self.on_removed(node.address)
        return node.info()

    def removed_elsewhere(self, address: str) -> None:
        """Use a node no longer that was removed at another server."""
        for node in [node for node in self._nodes if node.address == address]:
            self.forget(node)

    def forget(self, node: Node) -> None:
        """Use a node no longer, which has no worker."""
        self._nodes.remove(node)
        node.keeping.cancel()
        if node.link is not None:
            node.link.lose("is forgotten")

    async def adopt(self, worker_id: str, token: str) -> None:
        if (link := self._node_of(worker_id)) is None:
            raise EngineError(f"the node of the worker {worker_id} is away")
        await link.call(calls.ADOPT, calls.Adopt(worker_id, token))

    def _lost(self, node: Node, link: AgentLink) -> None:
        """Take a node out that was connected, with its workers; those that still run are found once it is back."""
        away = WorkerExit(None, None, node=f"{node.address}, which {link.lost_because}")
        if node.link is link:
            node.link, node.problem, node.since = None, link.lost_because, clock()
            node.environments.clear()
            workers, node.workers = node.workers, {}
            log.error("the node %s %s; it had %d workers", node.address, node.problem, len(link.shared))
            for worker_id in workers:
                self._events.worker_ended(worker_id, away)
        for worker_id in link.shared:
            self._gateway.ended(worker_id, str(away), with_node=True)

    async def _build_all(self, node: Node) -> None:
        """Build on a node that has come what the others have."""
        for environment, order in list(self._orders.items()):
            try:
                await self._build(node, environment, order)
            except (EngineError, OSError) as error:
                log.warning("an environment could not be built on the node %s: %s", node.address, error)

    async def _build(self, node: Node, environment: str | None, order: BuildOrder) -> str:
        if node.link is None:
            raise EngineError(f"the node {node.address} {node.problem}")
        own = await node.link.call(calls.PREPARE, order)
        node.environments[environment or own] = own
        return own

    def _heard(self, node: Node, event: str, about: Any) -> None:
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
            self._heard_of_build(node, calls.BUILD.argument(about))

    def _heard_of_build(self, node: Node, news: calls.BuildNews) -> None:
        """Pass on what the node says that speaks for a build; once nobody waits for the build, none does."""
        if news.build_id not in self._builds:
            return
        if self._builds[news.build_id] is None and news.kind == "started":
            self._builds[news.build_id] = node
            self._events.build_started(news.build_id)
        elif self._builds[news.build_id] is node:
            tell = self._events.build_said if news.kind == "said" else self._events.build_does
            tell(news.build_id, news.line)

    def problems(self) -> dict[str, str]:
        """Return why each node that is not connected is not, by its address."""
        away = {node.address: node.problem for node in self._nodes if node.link is None}
        return away | self._placement.problems()

    def _connected(self) -> list[tuple[Node, AgentLink]]:
        return [(node, node.link) for node in self._nodes if node.link is not None]

    def capacity(self) -> Capacity:
        nodes = [node.capacity for node, _ in self._connected() if not node.capacity.draining]
        return Capacity(
            sum(each.cpus for each in nodes),
            sum(each.memory for each in nodes),
            sum(each.gpus for each in nodes),
            sum(each.free_gpus for each in nodes),
            elastic=self._placement.elastic,
            gpu_parts=tuple(part for each in nodes for part in each.gpu_parts),
            gpu_names=tuple(name for each in nodes for name in each.gpu_names),
        )

    async def prepare(self, build: BuildOrder) -> str:
        """Build on every node that is connected, and return once one has it; the others build on."""
        if not self._connected():
            await self._wait_for_a_node(build)
        builds = {asyncio.create_task(self._build(node, None, build)): node for node, _ in self._connected()}
        first: str | None = None
        failed: Exception | None = None
        self._builds[build.id] = None
        try:
            for done in asyncio.as_completed(builds):
                try:
                    first = await done
                    break
                except (EngineError, OSError) as error:
                    failed = error
        except asyncio.CancelledError:
            for task in builds:
                task.cancel()
            raise
        finally:
            self._builds.pop(build.id, None)
        if first is None:
            assert failed is not None
            raise failed
        self._orders[first] = build
        for task, node in builds.items():
            self._background.spawn(self._finish(task, node, first))
        return first

    async def _wait_for_a_node(self, build: BuildOrder) -> None:
        """Have a node come for a build, where that can be; raise `EngineError` elsewhere."""
        if not self._placement.elastic:
            raise EngineError(self._nobody())
        self._events.build_started(build.id)
        self._events.build_does(build.id, "waiting for a node")
        endpoint_id, _, _ = build.id.rpartition(".")
        while not self._connected():
            await self._placement.ask(endpoint_id, build.resources)
            await asyncio.sleep(NODE_LOOK_SECONDS)

    async def _finish(self, task: "asyncio.Task[str]", node: Node, environment: str) -> None:
        try:
            node.environments[environment] = await task
        except (EngineError, OSError) as error:
            log.warning("an environment could not be built on the node %s: %s", node.address, error)

    def _nobody(self) -> str:
        return "no node is connected: " + "; ".join(f"{at} {why}" for at, why in self.problems().items())

    async def environments(self) -> list[EnvironmentInfo]:
        found: dict[str, EnvironmentInfo] = {}
        for _, link in self._connected():
            for each in await link.call(calls.ENVIRONMENTS, None):
                found.setdefault(each.id, each)
        return list(found.values())

    async def prune(self, used: Collection[str], owner: str | None = None) -> list[str]:
        removed: dict[str, None] = {}
        for node, link in self._connected():
            own = tuple(node.environments.get(each, each) for each in used)
            gone = await link.call(calls.PRUNE, calls.Prune(own, owner))
            removed |= dict.fromkeys(gone)
        for each in removed:
            self._orders.pop(each, None)
            for node in self._nodes:
                node.environments.pop(each, None)
        return list(removed)

    async def start(self, spec: WorkerSpec) -> None:
        if not self._connected() and not self._placement.elastic:
            raise EngineError(self._nobody())
        node = await self._placement.place(spec)
        node.workers[spec.worker_id] = spec.resources
        try:
            if node.link is None:
                raise EngineError(f"the node {node.address} {node.problem}")
            if spec.environment not in node.environments and spec.environment in self._orders:
                await self._build(node, spec.environment, self._orders[spec.environment])
            own = node.environments.get(spec.environment, spec.environment)
            await node.link.call(calls.START, replace(spec, environment=own, address=""))
        except BaseException:
            node.workers.pop(spec.worker_id, None)
            raise

    def address_of(self, worker_id: str) -> str:
        return next((node.address for node in self._nodes if worker_id in node.workers), "")

    def _node_of(self, worker_id: str) -> AgentLink | None:
        nodes = self._connected()
        return next(
            (link for node, link in nodes if worker_id in node.workers or worker_id in link.shared), None
        )

    async def stop(self, worker_id: str, grace: float) -> None:
        if (link := self._node_of(worker_id)) is not None:
            try:
                await link.call(calls.STOP, calls.Stop(worker_id, grace))
            except EngineError as error:  # the node is away, and its workers have ended
                log.warning("the worker %s could not be stopped: %s", worker_id, error)

    def note(self, endpoint_id: str, worker_id: str, text: str) -> None:
        link = self._node_of(worker_id)
        links = [link] if link is not None else [link for _, link in self._connected()][:1]
        for each in links:
            self._background.spawn(self._note(each, calls.Note(endpoint_id, worker_id, text)))

    async def _note(self, link: AgentLink, note: calls.Note) -> None:
        try:
            await link.call(calls.NOTE, note)
        except EngineError as error:
            log.warning("a line for a worker's log was lost: %s", error)

    async def worker_logs(self, endpoint_id: str, part: LogPart) -> list[LogLine]:
        asked = calls.LogRead(endpoint_id, part)
        parts = [await link.call(calls.READ_LOGS, asked) for _, link in self._connected()]
        lines = parts[0] if len(parts) == 1 else sorted(_all(parts), key=lambda line: line.at)
        return lines if part.tail_lines is None else lines[max(0, len(lines) - part.tail_lines) :]

    def follow_logs(self, endpoint_id: str) -> "NodesFollower":
        return NodesFollower([link for _, link in self._connected()], endpoint_id)

    async def remove_logs(self, endpoint_id: str) -> None:
        for _, link in self._connected():
            await link.call(calls.REMOVE_LOGS, endpoint_id)

    async def close(self) -> None:
        await self._placement.close()
        await self._background.stop()
        for _, link in self._connected():
            link.lose("is not needed any longer")


def _all(parts: list[list[LogLine]]) -> list[LogLine]:
    return [line for lines in parts for line in lines]


class NodesFollower:
    """Follows an endpoint's logs on every node that was connected at the beginning."""

    def __init__(self, links: list[AgentLink], endpoint_id: str) -> None:
        self._links = links
        self._endpoint_id = endpoint_id
        self._name = secrets.token_hex(8)

    async def begin(self, part: LogPart) -> list[LogLine]:
        follow = calls.Follow(self._name, self._endpoint_id, part)
        return _sorted([await link.call(calls.FOLLOW, follow) for link in self._links])

    async def poll(self) -> list[LogLine]:
        return _sorted([await link.call(calls.POLL, self._name) for link in self._links])


def _sorted(parts: list[list[LogLine]]) -> list[LogLine]:
    return parts[0] if len(parts) == 1 else sorted(_all(parts), key=lambda line: line.at)


class NoJobs:
    """Refuses image jobs, which run on a server's own machine only."""

    async def ids(self) -> list[str]:
        return []

    async def _refuse(self, *given: object) -> NoReturn:
        raise ContainerError(
            "image jobs can't run on agents' nodes yet: run them by a server without --engine agents"
        )

    fetch = start = state = wait = logs = stop = remove = release = _refuse

    def hold(self, job_id: str, resources: Resources) -> str:
        raise ContainerError(
            "image jobs can't run on agents' nodes yet: run them by a server without --engine agents"
        )

    def resume(self, job_id: str, held: str) -> None:
        """Hold nothing: no job of an earlier server runs here."""

"""A server's connections to the agents of its nodes."""

import asyncio
import logging
import secrets
import ssl
from collections.abc import Iterator
from time import time as clock
from typing import Any, Protocol

from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import KeptWorker
from openlaunch.nodes import calls
from openlaunch.nodes.agent_link import AgentLink, Gateway
from openlaunch.nodes.identity import ClusterIdentity
from openlaunch.nodes.node import Node

log = logging.getLogger(__name__)

CONNECT_SECONDS = 3.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 1.0


class NodeEvents(Protocol):
    """What happens to nodes."""

    def connected(self, node: Node, kept: list[KeptWorker]) -> None:
        """Use a node that has come, with the workers that an earlier server has left there."""

    def lost(self, node: Node, link: AgentLink) -> None:
        """Note that a connection to a node is lost."""

    def heard(self, node: Node, event: str, about: Any) -> None:
        """Take what an agent says."""


class Connections:
    """Keeps a connection to the agent of each node, over which it obeys this server while that leads."""

    def __init__(
        self,
        nodes: list[Node],
        identity: ClusterIdentity,
        records: str,
        events: NodeEvents,
        background: BackgroundTasks,
    ) -> None:
        self._nodes = nodes
        self._identity = identity
        self._context = identity.server_context()
        self._records = records
        self._events = events
        self.name = secrets.token_hex(4)
        """The name by which agents distinguish this server from others."""
        self.epoch: int | None = None
        """Under which epoch this server gives orders; None: it gives none."""
        self._gateway: Gateway
        self._background = background

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes)

    def links(self) -> list[tuple[Node, AgentLink]]:
        """Return the nodes that are connected."""
        return [(node, node.link) for node in self._nodes if node.link is not None]

    def link_to(self, worker_id: str) -> AgentLink | None:
        """Return the connection to a worker's node; None where that is away, or not known."""
        return next(
            (link for node, link in self.links() if worker_id in node.workers or worker_id in link.shared),
            None,
        )

    def problems(self) -> dict[str, str]:
        """Return why each node that is not connected is not, by its address."""
        return {node.address: node.problem for node in self._nodes if node.link is None}

    def check(self) -> None:
        """Raise `EngineError` where no node is connected."""
        if not self.links():
            why = "; ".join(f"{at} {why}" for at, why in self.problems().items())
            raise EngineError(f"no node is connected: {why}")

    def start(self, gateway: Gateway) -> list[asyncio.Event]:
        """Connect to every agent, now and whenever a connection is lost; return events of the first tries' ends."""
        self._gateway = gateway
        return [self._dial(node) for node in self._nodes]

    async def add(self, node: Node) -> None:
        """Use a further node, after the first try to connect to it has ended."""
        self._nodes.append(node)
        await self._dial(node).wait()

    def forget(self, node: Node) -> None:
        """Use a node no longer, which has no worker."""
        self._nodes.remove(node)
        node.keeping.cancel()
        if node.link is not None:
            node.link.lose("is forgotten")

    def _dial(self, node: Node) -> asyncio.Event:
        tried = asyncio.Event()
        node.keeping = self._background.spawn(self._keep(node, tried))
        return tried

    async def _keep(self, node: Node, tried: asyncio.Event) -> None:
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
                lambda event, about: self._events.heard(node, event, about),
                on_lost,
            )

        link: AgentLink | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, link = await asyncio.get_running_loop().create_connection(
                    make, node.host, node.port, ssl=self._context, server_hostname=""
                )
                capacity = await link.welcome
                kept = await self.lead(link)
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
        self._events.connected(node, kept)
        return None

    async def lead(self, link: AgentLink) -> list[KeptWorker]:
        """Have a node obey this server, if it leads, and return the workers that an earlier one has left there."""
        while (epoch := self.epoch) is not None:
            kept = await link.call(calls.LEAD, epoch)
            if epoch == self.epoch:
                return kept
        return []

    def _lost(self, node: Node, link: AgentLink) -> None:
        if node.link is link:
            node.link, node.problem, node.since = None, link.lost_because, clock()
            node.environments.clear()
            node.unbuilt.clear()
            log.error("the node %s %s; it had %d workers", node.address, node.problem, len(link.shared))
        self._events.lost(node, link)

    def close(self) -> None:
        for _, link in self.links():
            link.lose("is not needed any longer")

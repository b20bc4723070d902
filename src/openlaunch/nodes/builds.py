"""What is built on nodes: each environment on every one, so that its workers can start on any."""

import asyncio
import logging
import time
from collections.abc import Collection

from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import EngineError, EngineEvents
from openlaunch.engines.documents import BuildOrder, EnvironmentInfo
from openlaunch.nodes import calls
from openlaunch.nodes.connections import Connections
from openlaunch.nodes.node import Node
from openlaunch.nodes.placement import Placement

log = logging.getLogger(__name__)

NODE_LOOK_SECONDS = 0.5
NODE_SECONDS = 30.0
"""How long a build waits for the connection to a node, where none can be added: agents may be starting just now."""


class NodeBuilds:
    """Implements `Builds` by the agents: a build is done once one node has it, and the others build meanwhile."""

    def __init__(self, connections: Connections, placement: Placement, background: BackgroundTasks) -> None:
        self._connections = connections
        self._placement = placement
        self._orders: dict[str, BuildOrder] = {}
        """What each environment was built from, by its id: a node that lacks it builds it."""
        self._speakers: dict[str, Node | None] = {}
        """The node that speaks for each build that somebody waits for: the first that has begun with it."""
        self._background = background
        self.events: EngineEvents

    async def prepare(self, build: BuildOrder) -> str:
        if not self._connections.links():
            await self._wait_for_a_node(build)
        builds = {
            asyncio.create_task(self._build(node, build)): node for node, _ in self._connections.links()
        }
        first: str | None = None
        failed: Exception | None = None
        self._speakers[build.id] = None
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
            self._speakers.pop(build.id, None)
        if first is None:
            assert failed is not None
            raise failed
        self._orders[first] = build
        for task, node in builds.items():
            self._background.spawn(self._finish(task, node, first))
        return first

    async def _wait_for_a_node(self, build: BuildOrder) -> None:
        """Wait for a node; have one come, where that can be. Raise `EngineError` where there is none for too long."""
        self.events.build_started(build.id)
        self.events.build_does(build.id, "waiting for a node")
        endpoint_id, _, _ = build.id.rpartition(".")
        until = time.monotonic() + NODE_SECONDS
        while not self._connections.links():
            if self._placement.elastic:
                await self._placement.ask(endpoint_id, build.resources)
            elif time.monotonic() >= until:
                self._connections.check()
            await asyncio.sleep(NODE_LOOK_SECONDS)

    async def _build(self, node: Node, order: BuildOrder, environment: str | None = None) -> str:
        own = await node.connected().call(calls.PREPARE, order)
        node.environments[environment or own] = own
        node.unbuilt.discard(environment or own)
        return own

    async def _finish(self, task: "asyncio.Task[str]", node: Node, environment: str) -> None:
        try:
            node.environments[environment] = await task
        except (EngineError, OSError) as error:
            self._failed(node, environment, error)

    def _failed(self, node: Node, environment: str, error: Exception) -> None:
        node.unbuilt.add(environment)
        log.warning("an environment could not be built on the node %s: %s", node.address, error)

    async def ensure(self, node: Node, environment: str) -> str:
        """Build an environment on a node that lacks it; return the node's own id for it."""
        if environment not in node.environments and environment in self._orders:
            try:
                await self._build(node, self._orders[environment], environment)
            except (EngineError, OSError):
                node.unbuilt.add(environment)
                raise
        return node.environments.get(environment, environment)

    def build_all(self, node: Node) -> None:
        """Build on a node that has come what the others have."""
        self._background.spawn(self._build_all(node))

    async def _build_all(self, node: Node) -> None:
        for environment, order in list(self._orders.items()):
            try:
                await self._build(node, order, environment)
            except (EngineError, OSError) as error:
                self._failed(node, environment, error)

    def heard(self, node: Node, news: calls.BuildNews) -> None:
        """Pass on what the node says that speaks for a build; once nobody waits for the build, none does."""
        if news.build_id not in self._speakers:
            return
        if self._speakers[news.build_id] is None and news.kind == "started":
            self._speakers[news.build_id] = node
            self.events.build_started(news.build_id)
        elif self._speakers[news.build_id] is node:
            tell = self.events.build_said if news.kind == "said" else self.events.build_does
            tell(news.build_id, news.line)

    async def environments(self) -> list[EnvironmentInfo]:
        found: dict[str, EnvironmentInfo] = {}
        for _, link in self._connections.links():
            for each in await link.call(calls.ENVIRONMENTS, None):
                found.setdefault(each.id, each)
        return list(found.values())

    async def prune(self, used: Collection[str], owner: str | None = None) -> list[str]:
        removed: dict[str, None] = {}
        for node, link in self._connections.links():
            own = tuple(node.environments.get(each, each) for each in used)
            gone = await link.call(calls.PRUNE, calls.Prune(own, owner))
            removed |= dict.fromkeys(gone)
        for each in removed:
            self._orders.pop(each, None)
            for node in self._connections:
                node.environments.pop(each, None)
        return list(removed)

"""Which nodes are used: they are drained and forgotten by an admin."""

from collections.abc import Callable, Collection
from dataclasses import replace

from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import NodeInfo
from openlaunch.nodes import calls
from openlaunch.nodes.connections import Connections
from openlaunch.nodes.node import Node


class NodesInUse:
    """Implements `Nodes`."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.on_removed: Callable[[str], None] = lambda address: None
        """Called with the address of each node that is removed here."""

    def all(self) -> list[NodeInfo]:
        return [node.info() for node in self._connections]

    def address_of(self, worker_id: str) -> str:
        return next((node.address for node in self._connections if worker_id in node.workers), "")

    def leaving(self) -> Collection[str]:
        drained = [node for node in self._connections if node.capacity.draining]
        return [worker_id for node in drained for worker_id in node.workers]

    def _node(self, address: str) -> Node:
        found = [node for node in self._connections if node.address == address]
        found = found or [node for node in self._connections if node.name == address]
        if len(found) != 1:
            raise LookupError(address)
        return found[0]

    async def drain(self, address: str, *, draining: bool) -> NodeInfo:
        node = self._node(address)
        await node.connected().call(calls.DRAIN, draining)
        node.has = replace(node.has, draining=draining)
        return node.info()

    def remove(self, address: str) -> NodeInfo:
        node = self._node(address)
        if node.held:
            jobs = f" and {len(node.jobs)} image jobs" if node.jobs else ""
            text = f"the node {node.address} has {len(node.workers)} workers{jobs}: drain it first"
            raise EngineError(text)
        self._connections.forget(node)
        self.on_removed(node.address)
        return node.info()

    def removed_elsewhere(self, address: str) -> None:
        """Use a node no longer that was removed at another server."""
        for node in [node for node in self._connections if node.address == address]:
            self._connections.forget(node)

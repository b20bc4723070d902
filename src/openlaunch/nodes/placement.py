"""Where workers run: which node each is started on, and who decides that."""

from typing import Protocol

from openlaunch.engines.base import NoRoom
from openlaunch.engines.documents import Resources
from openlaunch.nodes.connections import Connections
from openlaunch.nodes.node import Node

MIB = 2**20


class Placed(Protocol):
    """What is placed: a worker, or an image job."""

    @property
    def worker_id(self) -> str: ...
    @property
    def endpoint_id(self) -> str: ...
    @property
    def environment(self) -> str: ...
    @property
    def resources(self) -> Resources: ...
    @property
    def ahead(self) -> int: ...


class Placement(Protocol):
    """Decides on which node a worker runs. A worker holds what it was given while it is in its node's `workers`."""

    elastic: bool
    """Whether what can be had is not known: it is asked for, and may come later."""

    async def begin(self, nodes: Connections) -> None:
        """Place on these nodes from now on, and add those that are found."""

    async def place(self, spec: Placed) -> Node:
        """Return the node for a worker; raise `NoRoom`, which says what the worker waits for."""

    async def ask(self, endpoint_id: str, resources: Resources) -> None:
        """Ask for a node that has room, where none is connected and placement is elastic."""

    def problems(self) -> dict[str, str]:
        """Return what keeps nodes from being used that the engine does not have, by what it concerns."""

    async def close(self) -> None:
        """Place nothing more. What workers hold, they keep."""


class FewestWorkers:
    """Chooses a node that has room: the one with the fewest workers of the endpoint, so that they are on all nodes.

    Of those that have as few, one that has the environment, and then the one with the fewest workers. A node on which
    the environment could not be built comes last.
    """

    elastic = False

    async def begin(self, nodes: Connections) -> None:
        self._nodes = nodes

    async def place(self, spec: Placed) -> Node:
        fitting = [node for node in self._nodes if node.fits(spec.resources)]
        if not fitting:
            raise NoRoom(f"a worker waits for {words(spec.resources)} on a node")
        environment = spec.environment
        return min(
            fitting,
            key=lambda node: (
                environment in node.unbuilt,
                node.count(spec.endpoint_id),
                environment not in node.environments,
                len(node.held),
            ),
        )

    async def ask(self, endpoint_id: str, resources: Resources) -> None:
        """Ask nobody: the nodes are those that there are."""

    def problems(self) -> dict[str, str]:
        return {}

    async def close(self) -> None:
        """End nothing: nothing runs beside the engine."""


def words(asked: Resources) -> str:
    """Return what is asked for as a sentence names it."""
    parts = [
        f"{asked.gpus:g} GPU{'s' * (asked.gpus > 1)}" if asked.gpus else "",
        f"{asked.cpus:g} CPU{'s' * (asked.cpus != 1)}" if asked.cpus else "",
        f"{asked.memory / MIB:.0f} MiB of memory" if asked.memory else "",
    ]
    *others, last = [part for part in parts if part] or ["a place"]
    return f"{', '.join(others)} and {last}" if others else last

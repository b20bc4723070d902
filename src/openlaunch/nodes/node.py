"""A node as a server sees it."""

import asyncio
import math
from dataclasses import replace
from time import time as clock

from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import Capacity, NodeInfo, Resources
from openlaunch.engines.gpu_fit import is_of_kind
from openlaunch.errors import ConfigurationError
from openlaunch.nodes.agent_link import AgentLink


class Node:
    """An agent's node as a server sees it: whether it is connected, what it has, and what runs there."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.link: AgentLink | None = None
        self.name = ""
        self.problem = "was not reached yet"
        """Why it is not connected."""
        self.since = clock()
        """When it was connected, or lost."""
        self.keeping: asyncio.Task[None]
        """Keeps the connection."""
        self.has = Capacity(0, 0, 0, 0)
        """What its agent says that the machine has."""
        self.share: Resources | None = None
        """The part of it that workers may use, where a cluster's scheduler sets one; None: all."""
        self.workers: dict[str, Resources] = {}
        """What each worker there was given."""
        self.jobs: dict[str, Resources] = {}
        """What each image job there was given."""
        self.environments: dict[str, str] = {}
        """The node's own id of each environment that is built there, by the id that the server uses."""
        self.unbuilt: set[str] = set()
        """The environments that could not be built there when that was last tried."""

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def held(self) -> dict[str, Resources]:
        """What each worker and each job there was given."""
        return self.workers | self.jobs

    @property
    def capacity(self) -> Capacity:
        """The resources that workers may use."""
        has, share = self.has, self.share
        if share is None:
            return has
        cpus, memory, gpus = (
            min(has.cpus, share.cpus),
            min(has.memory, share.memory),
            min(has.gpus, int(share.gpus)),
        )
        return replace(has, cpus=cpus, memory=memory, gpus=gpus, free_gpus=min(has.free_gpus, gpus))

    @property
    def is_usable(self) -> bool:
        """Whether further workers can be started there."""
        return self.link is not None and not self.has.draining

    def connected(self) -> AgentLink:
        """Return the connection to its agent; raise `EngineError` where there is none."""
        if self.link is None:
            raise EngineError(f"the node {self.address} {self.problem}")
        return self.link

    def fits(self, asked: Resources) -> bool:
        """Return whether the node is connected and to be used, and has room beside what runs there."""
        used, has = self.used(), self.capacity
        return (
            self.is_usable
            and used.cpus + asked.cpus <= has.cpus
            and used.memory + asked.memory <= has.memory
            and self._fits_gpus(asked, has)
        )

    def _fits_gpus(self, asked: Resources, has: Capacity) -> bool:
        """Return whether its GPUs are of the kind, and hold this beside what its workers share of them."""
        if not asked.gpus:
            return True
        of_kind = sum(is_of_kind(name, asked.gpu_type) for name in has.gpu_names)
        if has.gpu_names and of_kind < asked.gpus:
            return False
        held = sorted((each.gpus for each in self.held.values() if each.gpus), reverse=True)
        room = [1.0] * has.gpus
        for gpus in (*held, asked.gpus):
            fitting = sorted(
                (i for i, part in enumerate(room) if part >= min(gpus, 1) - 1e-9), key=room.__getitem__
            )
            if len(fitting) < gpus:
                return False
            for index in fitting[: math.ceil(gpus)]:
                room[index] -= min(gpus, 1)
        return True

    def count(self, endpoint_id: str) -> int:
        """Return how many workers of an endpoint run there: their ids begin with the endpoint's."""
        return sum(worker_id.startswith(f"{endpoint_id}.") for worker_id in self.workers)

    def info(self) -> NodeInfo:
        count, used = len(self.held), self.used()
        return NodeInfo(self.address, self.name, self.problem, self.since, self.capacity, count, used)

    def used(self) -> Resources:
        """Return what its workers and jobs were given, all together."""
        given = self.held.values()
        return Resources(
            sum(each.cpus for each in given),
            sum(each.memory for each in given),
            sum(each.gpus for each in given),
        )


def read_nodes(text: str) -> list[Node]:
    """Read HOST:PORT,HOST:PORT…; raise ConfigurationError for anything else."""
    nodes: dict[str, Node] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        host, colon, port = part.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigurationError(f"OPENLAUNCH_AGENTS has {part!r}, which is not HOST:PORT")
        node = Node(host, int(port))
        if node.address in nodes:
            raise ConfigurationError(f"OPENLAUNCH_AGENTS has {part!r} twice: give each agent once")
        nodes[node.address] = node
    if not nodes:
        raise ConfigurationError(
            "the engine `agents` needs the agents: give them with --agents HOST:PORT,HOST:PORT"
        )
    return list(nodes.values())

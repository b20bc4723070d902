"""Nodes on the wire (`/v1/nodes`); ours, not the contract's."""

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, Field

from openlaunch.wire.health import Check
from openlaunch.wire.metrics import Times


class NodeState(StrEnum):
    """How a node stands. DRAINED: it is to be used no longer, and has no worker."""

    READY = "ready"
    DRAINING = "draining"
    DRAINED = "drained"
    AWAY = "away"


class NodeResponse(BaseModel):
    """A node: a machine with an agent, on which workers run."""

    address: str = Field(description="Where its agent is, as servers name it.")
    name: str = Field(description="What the machine calls itself; empty until it was reached.")
    state: NodeState
    reason: str = Field(description="Why it is away; empty where it is not.")
    since: datetime = Field(description="When it was connected, or lost.")
    workers: int
    cpus: float
    memory: int = Field(description="In bytes.")
    gpus: int
    free_cpus: float = Field(description="What no worker of this server holds.")
    free_memory: int
    free_gpus: int


class ListNodesResponse(BaseModel):
    """GET /v1/nodes; without the engine `agents` there are none."""

    nodes: list[NodeResponse]


class GpuResponse(BaseModel):
    """How busy a GPU is, from 0 to 1, and its memory in bytes, as the driver says."""

    index: int
    utilization: float
    memory_used: int
    memory: int


class ServerResponse(BaseModel):
    """A server of those that share their records; `here` is the one that answers."""

    address: str
    here: bool
    leads: bool = Field(description="Whether it has the workers, and does what one alone does.")


class ServerNumbers(BaseModel):
    """What a server has counted of itself since it started.

    `event_loop_lag` is how late its event loop was, and `commits` how long transactions took, with `operations` in
    one of them on average. `refused` has the requests that were answered with an error, by its code. `memory` is in
    bytes, and like `open_files` null where the system does not tell.
    """

    event_loop_lag: Times
    commits: Times
    operations: float | None
    refused: dict[str, int]
    connections: int
    max_connections: int
    memory: int | None
    open_files: int | None


class ListServersResponse(BaseModel):
    """GET /v1/servers, and what the one that answers has for workers: on its machine, or on its nodes."""

    servers: list[ServerResponse]
    cpus: float
    memory: int = Field(description="In bytes.")
    gpus: int
    free_gpus: int
    gpu_use: list[GpuResponse] = Field(description="Of the server's own machine.")
    numbers: ServerNumbers = Field(description="Of the server that answers.")
    wrong: list[Check] = Field(default=[], description="Its checks of /readyz that are not ok.")


class ChangeNodeRequest(BaseModel):
    """PUT /v1/nodes/{node}: whether its workers move to other nodes, and no further ones are started there."""

    draining: bool

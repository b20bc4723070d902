"""What crosses the seam to an engine: what it is to start and to build, and what it says of that, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from signal import SIGKILL, Signals
from typing import Final, NamedTuple

from openlaunch.wire.bundles import Flavor, ImageFlavor
from openlaunch_worker.frames import SEAT_IDS

KILLED_CODE = 128 + SIGKILL
"""The exit code by which shells and containers pass a SIGKILL on."""

MAX_AMOUNT: Final = 1 << 60
"""More than any machine has of anything."""

MAX_LOG_LINES: Final = 50_000
"""Limit on the lines of logs that are read at once: hundreds of thousands of short ones have few bytes."""

MAX_ID: Final = (1 << 32) - 1
"""Ids of requests are 32 bits long."""


def _check_amounts(*amounts: float) -> None:
    """Raise `ValueError` for what no machine has: with NaN, no plan could be made."""
    if not all(0 <= each <= MAX_AMOUNT for each in amounts):
        raise ValueError("no machine has that much of something")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker, or one job, is given: cores, bytes of memory, and a number of GPUs, or a part of one.

    `gpu_type` is which GPUs these have to be, in the contract's words; empty: any.
    """

    cpus: float = 0.0
    memory: int = 0
    gpus: float = 0
    gpu_type: str = ""

    def __post_init__(self) -> None:
        _check_amounts(self.cpus, self.memory, self.gpus)


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What has to be there before workers of a bundle can start. `id` names the build in events.

    `owner` is whose turn it takes, and whose cache gets what is to be there of `prefetch`, for which `environ` has
    tokens.
    """

    id: str
    flavor: Flavor = field(repr=False)
    resources: Resources
    owner: str
    prefetch: tuple[str, ...] = field(default=(), repr=False)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class EnvironmentInfo:
    """An environment that is built, whose it is ("" for everybody's), its bytes, and when it was last asked for."""

    id: str
    owner: str
    python: str
    requirements: tuple[str, ...]
    size: int
    used_at: float


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """What a server that takes a worker over knows it by: its generation, its bundle, and what was agreed with it.

    `terms` is a digest of what the worker was sent at its start.
    """

    generation: int
    bundle_id: str
    terms: str


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker to start.

    `worker_id` begins with the endpoint's id and a dot. `environment` is what `Builds.prepare` returned. `token` is
    good for this worker's HELLO and its bundle alone. `address` is where it connects to: the path of a unix socket,
    or "HOST:PORT". `image` is set where the bundle is a container image. `memory_limit` bounds the bytes that the
    worker's own code uses; 0 sets no bound. `identity` is set where another server may take the worker over. It sees
    the cache of `owner`, in which is what the endpoint says in `prefetch`. `ahead` counts the endpoint's workers that
    were to be started just before it, and found no room.

    The rest is for an engine whose workers several servers send requests to: how many a worker runs at a time, after
    how many it is to be replaced (0: never), and the seconds within which one that is cancelled has to stop.
    """

    worker_id: str
    endpoint_id: str
    environment: str
    address: str
    token: str = field(repr=False)
    image: ImageFlavor | None = field(default=None, repr=False)
    resources: Resources = Resources()
    memory_limit: int = 0
    identity: WorkerIdentity | None = None
    owner: str = ""
    prefetch: tuple[str, ...] = field(default=(), repr=False)
    ahead: int = 0
    slots: int = 1
    max_requests: int = 0
    grace: float = 5.0


@dataclass(frozen=True, slots=True)
class KeptWorker:
    """A worker that an earlier server has started and that still runs, ready or on its way to that."""

    worker_id: str
    endpoint_id: str
    identity: WorkerIdentity
    resources: Resources
    ready: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a worker is that is adopted: whether it is ready, and whether it was to be replaced."""

    ready: bool
    worn: bool


@dataclass(frozen=True, slots=True)
class SharedWorker:
    """A worker that is ready, as every server that may send it requests hears of it.

    The ids of this server's requests are those above `first_id`, up to `SEAT_IDS` of them.
    """

    worker_id: str
    endpoint_id: str
    generation: int
    first_id: int
    wants_context: bool = False

    def __post_init__(self) -> None:
        if self.first_id % SEAT_IDS or not 0 <= self.first_id <= MAX_ID:
            raise ValueError("the ids of requests do not begin there")


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker's process ended: an exit code, or the number of the signal that ended it.

    `out_of_memory`: the kernel's counters say that it was killed for want of memory. `last_lines` are the last that
    it wrote to its log. `node` is set where how it ended is not known, because its node is away: it names that and
    says how, as "one:8001, which closed the connection". `served` is set where it is known that it has answered.
    """

    code: int | None
    signal: int | None
    out_of_memory: bool = False
    last_lines: str = field(default="", repr=False, compare=False)
    node: str = ""
    served: bool = False

    def __str__(self) -> str:
        if self.node:
            return f"was on the node {self.node}"
        hint = ", probably out of memory" if self.out_of_memory else ""
        if self.signal is None:
            killed = " (killed by signal 9)" if self.code == KILLED_CODE else ""
            return f"exited with code {self.code}{killed}{hint}"
        name = f" ({Signals(self.signal).name})" if self.signal in set(Signals) else ""
        return f"was killed by signal {self.signal}{name}{hint}"

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it, or what it was the shell of."""
        return self.signal == SIGKILL or self.code == KILLED_CODE


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an engine has: cores, bytes of memory and GPUs in all, and how many of the GPUs are free now.

    Of a node that is `draining` nothing is used for further workers, and those that run there are to be replaced.
    Where it is `elastic`, more than this may be had: a worker that is asked for waits until there is room.
    `gpu_parts` is what is free of the GPUs that workers share, `gpu_names` what the driver calls the GPUs, where that
    is known.
    """

    cpus: float
    memory: int
    gpus: int
    free_gpus: int
    draining: bool = False
    elastic: bool = False
    gpu_parts: tuple[float, ...] = ()
    gpu_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_amounts(self.cpus, self.memory, self.gpus, self.free_gpus, *self.gpu_parts)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node as a server sees it: since when it is connected or away, why it is away, and what its workers hold."""

    address: str
    name: str
    problem: str
    since: float
    capacity: Capacity
    workers: int
    used: Resources


@dataclass(frozen=True, slots=True)
class GpuUse:
    """How busy a GPU is, from 0 to 1, and the bytes of its memory that are used, and that there are."""

    index: int
    utilization: float
    memory_used: int
    memory: int


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A container to run to its end. An empty `command` means the image's own.

    `files` are texts by the place where the container finds each of them. `records` names the servers that it is of,
    on a machine that others use too.
    """

    id: str
    image: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    resources: Resources = Resources()
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    records: str = ""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """A container's state. One that was started and does not run has ended with `exit_code`."""

    started: bool
    running: bool
    exit_code: int
    out_of_memory: bool


class LogLine(NamedTuple):
    """A line that a worker, by its short id, wrote; `at` is when, as ISO 8601 in UTC, `level` "" where not known."""

    worker: str
    line: str
    at: str
    level: str = ""


@dataclass(frozen=True, slots=True)
class LogPart:
    """Which lines of logs: the last in `tail_bytes` and `tail_lines`, from `since` on and before `until`.

    Times are written as `LogLine.at` is; an empty one sets no limit.
    """

    tail_bytes: int
    tail_lines: int | None = None
    since: str = ""
    until: str = ""

    @property
    def most_lines(self) -> int:
        """The number of lines at most, whatever their bytes."""
        return MAX_LOG_LINES if self.tail_lines is None else min(self.tail_lines, MAX_LOG_LINES)

"""What an engine is: it owns the machine that workers run on, and starts, watches and ends them there.

Nothing of the machine crosses this seam, so that an engine can be elsewhere: arguments, answers and events are plain
data. Paths, processes and the indices of GPUs stay behind it.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from signal import SIGKILL, Signals
from typing import Final, NamedTuple, Protocol

from openlaunch.wire.bundles import Flavor, ImageFlavor
from openlaunch_worker.frames import SEAT_IDS

KILLED_CODE = 128 + SIGKILL
"""The exit code by which shells and containers pass a SIGKILL on."""


MAX_AMOUNT: Final = 1 << 60

MAX_ID: Final = (1 << 32) - 1
"""Ids of requests are 32 bits long."""


class EngineError(Exception):
    """An engine can't do what it was asked for. The message is for the endpoint's owner."""


class NoRoom(EngineError):
    """There is no room now; the message says what a worker waits for. The same can be asked for again."""


class Refused(EngineError):
    """A machine may not start what it was asked for. The message says why, and what to do: no retry would help."""


class ContainerError(EngineError):
    """There is no container engine, or it could not do what it was asked for."""


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


WHOLE: Final = 100
"""A GPU is shared in hundredths."""

_MODELS: Final = {
    "nvidia-tesla-t4": "T4",
    "nvidia-ampere-a10": "A10",
    "nvidia-ampere-a100": "A100",
    "nvidia-ampere-a100e": "A100",
    "nvidia-hopper-h100": "H100",
    "nvidia-hopper-h100-1g20gb": "H100 MIG 1g.20gb",
    "nvidia-hopper-h100-3g40gb": "H100 MIG 3g.40gb",
}
"""Words of a driver's name for a GPU of each type."""


def is_of_kind(name: str, kind: str) -> bool:
    """Return whether a GPU that the driver calls so is of a type; one without a name may be of any."""
    words = re.split(r"[^a-z0-9.]+", name.lower())
    model = _MODELS.get(kind, "").lower().split()
    return not name or all(word in words or f"{word}g" in words for word in model)


def room_for(gpus: float, free: int, parts: Iterable[float]) -> int:
    """Return how many workers with this number of GPUs fit those that are free, and parts of others."""
    asked = round(gpus * WHOLE)
    if asked >= WHOLE:
        return free * WHOLE // asked
    return sum(round(part * WHOLE) // asked for part in (*parts, *[1.0] * free))


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


class EngineEvents(Protocol):
    """What an engine reports, in the event loop's thread."""

    def worker_ended(self, worker_id: str, ended: WorkerExit) -> None:
        """Note that a worker's process has ended. Called exactly once for every worker that was started."""

    def build_started(self, build_id: str) -> None:
        """Note that a build has its turn: only some run at a time."""

    def build_said(self, build_id: str, line: str) -> None:
        """Write a build's line to the log."""

    def build_does(self, build_id: str, step: str) -> None:
        """Note what a build does now, in words, such as the package that is downloaded and its size."""


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


class LogFollower(Protocol):
    """Reads the logs of an endpoint's workers as they grow."""

    async def begin(self, part: LogPart) -> list[LogLine]:
        """Return this part of the lines that are there now."""

    async def poll(self) -> list[LogLine]:
        """Return the lines that were added since the last call."""


class Jobs(Protocol):
    """Runs containers to their end, beside workers. They outlive the server. Methods may raise `ContainerError`."""

    async def fetch(self, image: str) -> None:
        """Fetch an image from its registry, unless it is there."""

    async def hold(self, job_id: str, resources: Resources) -> str:
        """Set aside what a job needs of a machine until `release`, and return it in the engine's own words.

        Raise `NoRoom` if its GPUs are taken.
        """

    def resume(self, job_id: str, held: str, resources: Resources) -> None:
        """Set aside again what an earlier server gave to a job: what `hold` returned."""

    async def start(self, job: JobSpec, held: str) -> None:
        """Start a job's container in the background, with what `hold` returned.

        The container stays, ended, until it is removed.
        """

    async def state(self, job_id: str) -> ContainerState | None:
        """Return how a job's container is; None where there is none."""

    async def wait(self, job_id: str) -> None:
        """Wait until a job's container has ended or is gone, without a time limit: cancel the wait."""

    async def logs(self, job_id: str, lines: int) -> list[str]:
        """Return the last lines that a job's container printed; none when it is gone."""

    async def stop(self, job_id: str) -> None:
        """Send SIGTERM to a job's container, and SIGKILL soon after. Unknown ids are ignored."""

    async def remove(self, *job_ids: str) -> None:
        """Remove containers, running or not. Unknown ids are ignored."""

    async def release(self, job_id: str) -> None:
        """Free what a job holds, and delete its files. Unknown ids are ignored."""

    async def ids(self, records: str = "") -> list[str]:
        """Return the jobs of this server that have a container, running or not; of those with these `records`."""


class Builds(Protocol):
    """What has to be there before workers of a bundle can start: environments, images and what is prefetched."""

    async def prepare(self, build: BuildOrder) -> str:
        """Build a bundle's environment, fetch its images, and return the environment's id.

        An environment that exists is used again. A build ends when the last call that waits for it is cancelled.
        Raise `EngineError` if it can't be built.
        """

    async def environments(self) -> list[EnvironmentInfo]:
        """Return the environments that are built."""

    async def prune(self, used: Collection[str], owner: str | None = None) -> list[str]:
        """Remove environments that were not used for long, never these or one in use, and return their ids.

        With an `owner`, remove all of theirs instead, these and those in use excepted.
        """


class Logs(Protocol):
    """What workers have written."""

    def note(self, endpoint_id: str, worker_id: str, text: str) -> None:
        """Add lines of the server's own to a worker's log; the worker may have ended."""

    async def read(self, endpoint_id: str, part: LogPart) -> list[LogLine]:
        """Return this part of what an endpoint's workers wrote."""

    def follow(self, endpoint_id: str) -> LogFollower:
        """Return what reads the logs of an endpoint's workers as they grow."""

    async def remove(self, endpoint_id: str) -> None:
        """Delete the logs of an endpoint's workers."""


class Nodes(Protocol):
    """The machines that workers run on, where those are others than the server's."""

    def all(self) -> list[NodeInfo]:
        """Return how each node stands."""

    def address_of(self, worker_id: str) -> str:
        """Return the address of a worker's node; "" where it is not known."""

    def leaving(self) -> Collection[str]:
        """Return the ids of the workers on nodes that are drained: each is replaced by one elsewhere."""

    async def drain(self, address: str, *, draining: bool) -> NodeInfo:
        """Have a node get no further workers and lose those it has, or be used again.

        Raise `LookupError` if there is no such node, `EngineError` if it is away.
        """

    def remove(self, address: str) -> NodeInfo:
        """Forget a node that has no worker. Raise `LookupError` if there is none, `EngineError` if it has workers."""


class NoNodes:
    """Implements `Nodes` where workers run on the server's own machine."""

    def all(self) -> list[NodeInfo]:
        return []

    def address_of(self, worker_id: str) -> str:
        return ""

    def leaving(self) -> Collection[str]:
        return ()

    async def drain(self, address: str, *, draining: bool) -> NodeInfo:
        raise LookupError(address)

    def remove(self, address: str) -> NodeInfo:
        raise LookupError(address)


class NoLending:
    """What an engine has that can't give the GPUs of a worker to others while that sleeps."""

    lends_gpus = False

    def lend_gpus(self, worker_id: str) -> None:
        raise EngineError(f"the GPUs of the worker {worker_id} can't be lent")

    def take_gpus_back(self, worker_id: str) -> bool:
        return False


class OneMachine(NoLending):
    """What an engine has whose workers are on the server's machine, and end with the server."""

    keeps_workers = False
    nodes = NoNodes()

    async def lead(self, epoch: int, found: Callable[[KeptWorker], None]) -> list[KeptWorker]:
        return []

    async def leave(self) -> None:
        """Leave nothing."""

    async def adopt(self, worker_id: str, token: str) -> None:
        raise EngineError(f"the worker {worker_id} has ended with the server that started it")


class Engine(Protocol):
    """Owns the machine that workers run on, and starts and ends them there."""

    keeps_workers: bool
    """Whether workers outlive the server, for the next one to adopt."""

    lends_gpus: bool
    """Whether the GPUs of a worker can be others' while it sleeps."""

    @property
    def jobs(self) -> Jobs:
        """Containers that run to their end, beside workers."""

    @property
    def builds(self) -> Builds: ...

    @property
    def logs(self) -> Logs: ...

    @property
    def nodes(self) -> Nodes: ...

    def listen(self, events: EngineEvents) -> None:
        """Report to these from now on. Call it before anything else."""

    def capacity(self) -> Capacity:
        """Return what there is, and what of it is free."""

    async def lead(self, epoch: int, found: Callable[[KeptWorker], None]) -> list[KeptWorker]:
        """Begin to give orders, and return the workers that an earlier server has left: adopt or stop each.

        `found` is called with those that are found later. Of several servers on one database, the one with the
        highest epoch alone is obeyed.
        """

    async def leave(self) -> None:
        """Leave the workers to the next server, and give no orders until `lead` is called again.

        Each is reported as ended here.
        """

    async def adopt(self, worker_id: str, token: str) -> None:
        """Use a worker that was kept; it is known by this token from now on. Raise `EngineError` if it is gone."""

    async def start(self, spec: WorkerSpec) -> None:
        """Start a worker, not ready yet. Raise `OSError`, `NoRoom` if its GPUs are taken, or `EngineError`."""

    async def stop(self, worker_id: str, grace: float) -> None:
        """End a worker and all that it started: SIGTERM, after `grace` seconds SIGKILL. Unknown ids are ignored.

        Returns after the worker's end was reported.
        """

    def lend_gpus(self, worker_id: str) -> None:
        """Let others have the GPUs of a worker that sleeps. Raise `EngineError` where this engine can't."""

    def take_gpus_back(self, worker_id: str) -> bool:
        """Give a worker its own GPUs again, before it wakes up; return False where somebody has one of them."""

    async def close(self) -> None:
        """End every worker at once; none can be started after that."""

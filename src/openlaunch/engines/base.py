"""What an engine is: it owns the machine that workers run on, and starts, watches and ends them there.

Nothing of the machine crosses this seam, so that an engine can be elsewhere: arguments, answers and events are plain
data. Paths, processes and the indices of GPUs stay behind it.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from signal import SIGKILL, Signals
from typing import Protocol

from openlaunch.wire.bundles import Flavor, ImageFlavor
from openlaunch_worker.containers import Container

KILLED_CODE = 128 + SIGKILL
"""The exit code by which shells and containers pass a SIGKILL on."""


class EngineError(Exception):
    """An engine can't do what it was asked for. The message is for the endpoint's owner."""


class NoRoom(EngineError):
    """The GPUs that were free a moment ago are taken: the same can be asked for again."""


class ContainerError(EngineError):
    """There is no container engine, or it could not do what it was asked for."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker, or one job, is given: cores, bytes of memory, and a number of GPUs."""

    cpus: float = 0.0
    memory: int = 0
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class BuildOrder:
    """What has to be there before workers of a bundle can start. `id` names the build in events.

    `owner` is whose turn it takes.
    """

    id: str
    flavor: Flavor = field(repr=False)
    resources: Resources
    owner: str


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker to start.

    `worker_id` begins with the endpoint's id and a dot. `environment` is what `Engine.prepare` returned. `token` is
    good for this worker's HELLO and its bundle alone. `address` is where it connects to: the path of a unix socket,
    or "HOST:PORT". `image` is set where the bundle is a container image. `memory_limit` bounds the bytes that the
    worker's own code uses; 0 sets no bound.
    """

    worker_id: str
    endpoint_id: str
    environment: str
    address: str
    token: str = field(repr=False)
    image: ImageFlavor | None = field(default=None, repr=False)
    resources: Resources = Resources()
    memory_limit: int = 0


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker's process ended: an exit code, or the number of the signal that ended it.

    `out_of_memory`: the kernel's counters say that it was killed for want of memory. `last_lines` are the last that
    it wrote to its log.
    """

    code: int | None
    signal: int | None
    out_of_memory: bool = False
    last_lines: str = field(default="", repr=False, compare=False)

    def __str__(self) -> str:
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
    """What an engine has: cores, bytes of memory and GPUs in all, and how many of the GPUs are free now."""

    cpus: float
    memory: int
    gpus: int
    free_gpus: int


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
        """A worker's process has ended. Reported exactly once for every worker that was started."""

    def build_started(self, build_id: str) -> None:
        """A build has its turn: only some run at a time."""

    def build_said(self, build_id: str, line: str) -> None:
        """A build has a line for the log."""


class LogFollower(Protocol):
    """Reads the logs of an endpoint's workers as they grow: pairs of a worker's short id and a line."""

    async def begin(self, tail_bytes: int) -> list[tuple[str, str]]:
        """Return the last lines that are there now, in `tail_bytes` at most."""

    async def poll(self) -> list[tuple[str, str]]:
        """Return the lines that were added since the last call."""


class Containers(Protocol):
    """Runs containers beside workers: the jobs' own. Every method but `labels` may raise `ContainerError`."""

    def labels(self, kind: str) -> dict[str, str]:
        """Return what marks this server's containers of one kind."""

    async def ensure_image(self, image: str) -> None:
        """Fetch an image from its registry, unless this machine has it."""

    async def start(self, container: Container) -> None:
        """Run a container in the background. It stays, ended, until it is removed."""

    async def state(self, name: str) -> ContainerState | None:
        """Return how a container is; None where none has this name."""

    async def wait(self, name: str) -> None:
        """Wait until a container has ended or is gone, without a time limit: cancel the wait."""

    async def logs(self, name: str, lines: int) -> list[str]:
        """Return the last lines that a container printed; none when it is gone."""

    async def stop(self, name: str, grace: int) -> None:
        """Send SIGTERM to a container, and SIGKILL after `grace` seconds. Unknown names are ignored."""

    async def remove(self, *names: str) -> None:
        """Remove containers, running or not. Unknown names are ignored."""

    async def names(self, kind: str) -> list[str]:
        """Return the names of this server's containers of one kind, running or not."""


class Engine(Protocol):
    """Owns the machine that workers run on: processes, environments, images, GPUs and logs."""

    @property
    def containers(self) -> Containers:
        """Containers beside workers."""

    def listen(self, events: EngineEvents) -> None:
        """Report to these from now on. Call it before anything else."""

    def capacity(self) -> Capacity:
        """Return what there is, and what of it is free."""

    async def prepare(self, build: BuildOrder) -> str:
        """Build a bundle's environment, fetch its images, and return the environment's id.

        An environment that exists is used again. A build ends when the last call that waits for it is cancelled.
        Raise `EngineError` if it can't be built.
        """

    async def prune(self, used: Collection[str]) -> list[str]:
        """Remove environments that were not used for long, never these or one in use, and return their ids."""

    async def start(self, spec: WorkerSpec) -> None:
        """Start a worker, not ready yet. Raise `OSError`, `NoRoom` if its GPUs are taken, or `EngineError`."""

    async def stop(self, worker_id: str, grace: float) -> None:
        """End a worker and all that it started: SIGTERM, after `grace` seconds SIGKILL. Unknown ids are ignored.

        Returns after the worker's end was reported.
        """

    async def worker_logs(self, endpoint_id: str, tail_bytes: int) -> str:
        """Return the last `tail_bytes` of what an endpoint's workers wrote, each line after its worker's short id."""

    def follow_logs(self, endpoint_id: str) -> LogFollower:
        """Return what reads the logs of an endpoint's workers as they grow."""

    async def remove_logs(self, endpoint_id: str) -> None:
        """Delete the logs of an endpoint's workers."""

    def take_gpus(self, job_id: str, count: int) -> tuple[int, ...] | None:
        """Give GPUs to a job until `give_back_gpus`; None when fewer are free."""

    def hold_gpus(self, job_id: str, indices: tuple[int, ...]) -> None:
        """Have a job hold the GPUs that it got from an earlier server."""

    def give_back_gpus(self, job_id: str) -> None:
        """Free the GPUs of a job that has ended. Unknown ids are ignored."""

    async def close(self) -> None:
        """End every worker at once; none can be started after that."""

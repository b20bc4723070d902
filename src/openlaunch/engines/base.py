"""What an engine is: it owns the machine that workers run on, and starts, watches and ends them there.

Nothing of the machine crosses this seam, so that an engine can be elsewhere: arguments, answers and events are plain
data. Paths, processes and the indices of GPUs stay behind it.
"""

from collections.abc import Callable, Collection
from typing import Protocol

from openlaunch.engines.documents import (
    BuildOrder,
    Capacity,
    ContainerState,
    EnvironmentInfo,
    JobSpec,
    KeptWorker,
    LogLine,
    LogPart,
    NodeInfo,
    Resources,
    WorkerExit,
    WorkerSpec,
)


class EngineError(Exception):
    """An engine can't do what it was asked for. The message is for the endpoint's owner."""


class NoRoom(EngineError):
    """There is no room now; the message says what a worker waits for. The same can be asked for again."""


class Refused(EngineError):
    """A machine may not start what it was asked for. The message says why, and what to do: no retry would help."""


class ContainerError(EngineError):
    """There is no container engine, or it could not do what it was asked for."""


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
        """Return the resources there are, and which of them are free."""

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

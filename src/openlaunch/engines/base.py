"""What an engine is: it starts and stops worker processes, and tells when one ends."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Protocol

KILLED_CODE = 128 + SIGKILL
"""The exit code by which shells and containers pass a SIGKILL on."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker to start.

    `token` is good for this worker's HELLO and its bundle alone. `address` is where it connects to: the path
    of a unix socket, or "HOST:PORT". `gpus` are the indices of the GPUs it may see. `isolated` is False for one that
    starts containers, which isolate by themselves. `memory` is how many bytes its own code may use; 0: no bound.
    """

    worker_id: str
    endpoint_id: str
    python: Path
    address: str
    token: str = field(repr=False)
    log_path: Path
    gpus: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    isolated: bool = True
    memory: int = 0


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker's process ended: an exit code, or the number of the signal that ended it.

    `out_of_memory`: the kernel's counters say that it was killed for want of memory.
    """

    code: int | None
    signal: int | None
    out_of_memory: bool = False

    def __str__(self) -> str:
        hint = ", probably out of memory" if self.out_of_memory else ""
        if self.signal is None:
            killed = " (killed by signal 9)" if self.code == KILLED_CODE else ""
            return f"exited with code {self.code}{killed}{hint}"
        name = f" ({Signals(self.signal).name})" if self.signal in set(Signals) else ""
        return f"was killed by signal {self.signal}{name}{hint}"

    @property
    def was_killed(self) -> bool:
        """Whether it was SIGKILL that ended it, or what it was the shell of."""
        return self.signal == SIGKILL or self.code == KILLED_CODE


@dataclass(frozen=True, slots=True)
class Capacity:
    """What an engine has in all: cores, bytes of memory, and the indices of its GPUs."""

    cpus: float
    memory: int
    gpus: tuple[int, ...]


ExitCallback = Callable[[str, WorkerExit], None]
"""Called in the event loop with the worker's id, exactly once for every worker that was started."""


class Engine(Protocol):
    """Starts workers somewhere."""

    def capacity(self) -> Capacity:
        """What there is in all, used or not."""
        ...

    async def start(self, spec: WorkerSpec, on_exit: ExitCallback) -> None:
        """Start a worker; it is running when this returns, and not yet ready.

        Raises:
            OSError: the process could not be started.

        """
        ...

    async def stop(self, worker_id: str, grace: float) -> None:
        """End a worker and all that it started: SIGTERM, after `grace` seconds SIGKILL. Unknown ids are ignored."""
        ...

    async def close(self) -> None:
        """End every worker at once."""
        ...

"""What a worker's process is started with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from openlaunch.engines.documents import WorkerExit

MEMORY_ON_TOP = 256 * 1024 * 1024
"""What the interpreter and its threads' stacks may take beside a model."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One worker's process.

    `runtime` is the folder of the worker runtime. `gpus` are the indices of the GPUs that it may see. `isolated` is
    False for a worker that starts containers, which isolate what runs in them. `memory` bounds the bytes that the
    worker's own code uses; 0 sets no bound. `readable` are the folders that it needs. `cache` is its owner's, and
    `caches` is below which folder those of all are whose workers may be forked off the same nursery.
    """

    worker_id: str
    python: Path
    runtime: Path
    log_path: Path
    address: str
    token: str = field(repr=False)
    gpus: tuple[int, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    isolated: bool = True
    memory: int = 0
    readable: tuple[Path, ...] = ()
    cache: Path | None = None
    caches: Path | None = None

    @property
    def is_owners(self) -> bool:
        """Whether code of its owner's requirements is in its environment, and so workers of no other owner."""
        return self.caches is not None and self.caches == self.cache

    @property
    def memory_bound(self) -> int:
        """How much all of it may use; 0 sets no bound."""
        return self.memory and self.memory + MEMORY_ON_TOP


ExitCallback = Callable[[ProcessSpec, WorkerExit], None]
"""Called in the event loop, exactly once for every process that was started."""

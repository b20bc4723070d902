"""Workers as processes of this machine."""

import asyncio
import logging
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, STDOUT
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvloop

from openlaunch.engines.base import WorkerExit
from openlaunch.engines.environ import scrub
from openlaunch.engines.groups import Child, end_process, kill_group
from openlaunch.engines.memory import OomWatch
from openlaunch.engines.nursery import Nursery
from openlaunch.trash import discard
from openlaunch_worker.documents import ADDRESS, TOKEN, IsolationOrder
from openlaunch_worker.event_loop import UVLOOP
from openlaunch_worker.module_command import module_command
from openlaunch_worker.process import open_log

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0

MAX_NURSERIES = 8
"""Nurseries that are kept; a further one replaces an idle one, the one that was not used for the longest time."""


MEMORY_ON_TOP = 256 * 1024 * 1024
"""What the interpreter and its threads' stacks may take beside a model."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One worker's process.

    `runtime` is the folder of the worker runtime. `gpus` are the indices of the GPUs that it may see. `isolated` is
    False for a worker that starts containers, which isolate what runs in them. `memory` bounds the bytes that the
    worker's own code uses; 0 sets no bound.
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


ExitCallback = Callable[[ProcessSpec, WorkerExit], None]
"""Called in the event loop, exactly once for every process that was started."""


@dataclass(slots=True)
class _Running:
    """A process and the task that waits for its end."""

    spec: ProcessSpec
    process: Child
    folder: Path
    watcher: asyncio.Task[None] = field(init=False)


class Processes:
    """Starts each worker in a session and an empty folder of its own.

    With `forks`, the default on Linux, the environment's first worker starts a nursery (`openlaunch_worker.nursery`),
    of which it and all later ones are forks. Without, each is a Python of its own: macOS's own libraries
    do not bear a fork.

    A worker sees none of the server's environment variables but an allow-list. What it started ends with it,
    except processes that made themselves a new session. The folders lie below `root`, which must be there.
    With `isolation`, forks are isolated; each keeps its environment, and has its own bound of memory.
    With `fast_loop`, workers use uvloop where they can.
    """

    def __init__(
        self,
        root: Path,
        environ: Mapping[str, str] | None = None,
        *,
        forks: bool = sys.platform == "linux",
        isolation: IsolationOrder | None = None,
        fast_loop: bool = True,
    ) -> None:
        self._root = root
        self._environ = scrub(os.environ if environ is None else environ)
        self._running: dict[str, _Running] = {}
        self._closed = asyncio.Event()
        self._forks = forks
        self._isolation = isolation
        self._loop = {UVLOOP: str(Path(uvloop.__file__).parent.parent)} if fast_loop else {}
        self._nurseries: dict[Path, asyncio.Task[Nursery]] = {}
        self._oom = OomWatch()
        self._looking: asyncio.Task[None] | None = None

    def running(self) -> list[str]:
        return list(self._running)

    async def start(self, spec: ProcessSpec, on_exit: ExitCallback) -> None:
        """Start a worker, which is not ready yet. Raise `OSError` if it can't start, or the engine is closed."""
        if self._closed.is_set():
            raise OSError("the engine is closed")
        folder = Path(tempfile.mkdtemp(prefix="worker-", dir=self._root))
        try:
            process = await self._spawn(spec, folder)
        except BaseException:
            discard(folder)
            raise
        running = self._running[spec.worker_id] = _Running(spec, process, folder)
        running.watcher = asyncio.create_task(self._watch(running, on_exit))
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_at_memory())
        if self._closed.is_set():
            kill_group(process.pid)

    async def _spawn(self, spec: ProcessSpec, folder: Path) -> Child:
        if self._forks:
            nursery = await self._nursery(spec)
            environ, isolation = self._environ_of(spec), self._isolation_of(spec)
            return await nursery.fork(spec.worker_id, environ, folder, spec.log_path, isolation)
        descriptor = open_log(str(spec.log_path))
        try:
            return await asyncio.create_subprocess_exec(
                *module_command(spec.python, "openlaunch_worker.main", spec.runtime),
                cwd=folder,
                env=self._environ_of(spec),
                stdin=DEVNULL,
                stdout=descriptor,
                stderr=STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(descriptor)

    async def _nursery(self, spec: ProcessSpec) -> Nursery:
        """Return the nursery of the worker's environment, which is started if there is none."""
        if not spec.python.exists():
            raise FileNotFoundError(f"{spec.python} is not there")
        task = self._nurseries.pop(spec.python, None)
        if task is None or (task.done() and not (task.exception() is None and task.result().alive)):
            await self._make_room()
            os.close(
                open_log(str(spec.log_path))
            )  # made as a worker's log, even if the nursery writes to it first
            environ = {**self._environ, "PYTHONUNBUFFERED": "1", **self._loop}
            command = module_command(spec.python, "openlaunch_worker.nursery", spec.runtime)
            task = asyncio.create_task(Nursery.start(command, environ, self._root, spec.log_path))
        self._nurseries[spec.python] = task  # the last in the order is the one that was asked for last
        return await asyncio.shield(task)

    async def _make_room(self) -> None:
        for python, task in list(self._nurseries.items()):
            if len(self._nurseries) < MAX_NURSERIES:
                return
            if task.done() and (task.exception() is not None or task.result().is_idle):
                del self._nurseries[python]
                if task.exception() is None:
                    await task.result().close()

    def _environ_of(self, spec: ProcessSpec) -> dict[str, str]:
        return {
            **self._environ,
            "PYTHONUNBUFFERED": "1",
            # NVML counts GPUs in the order of their bus; CUDA has to do the same for the indices to agree.
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, spec.gpus)),
            **spec.env,
            **self._loop,
            ADDRESS: spec.address,
            TOKEN: spec.token,
        }

    def _isolation_of(self, spec: ProcessSpec) -> IsolationOrder | None:
        wanted = self._isolation
        if wanted is None or not spec.isolated:
            return None
        keep = (str(spec.python.parent.parent), str(spec.runtime), *wanted.keep)
        return replace(wanted, keep=keep, memory=spec.memory and spec.memory + MEMORY_ON_TOP)

    async def _watch(self, running: _Running, on_exit: ExitCallback) -> None:
        code = await running.process.wait()
        kill_group(running.process.pid)
        del self._running[running.spec.worker_id]
        ended = WorkerExit(code, None) if code >= 0 else WorkerExit(None, -code)
        if ended.was_killed and self._oom.explains_a_kill():
            ended = replace(ended, out_of_memory=True)
        try:
            on_exit(running.spec, ended)
        except Exception:
            log.exception("what follows the end of worker %s failed", running.spec.worker_id)
        discard(running.folder)

    async def _look_at_memory(self) -> None:
        """Keep the count of kills fresh while there are workers."""
        while self._running:
            self._oom.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def stop(self, worker_id: str, grace: float) -> None:
        if (running := self._running.get(worker_id)) is not None:
            await end_process(running.process, grace)
            await asyncio.shield(running.watcher)

    async def close(self) -> None:
        self._closed.set()
        await asyncio.gather(*(self.stop(worker_id, grace=0) for worker_id in list(self._running)))
        started = await asyncio.gather(*self._nurseries.values(), return_exceptions=True)
        await asyncio.gather(*(nursery.close() for nursery in started if isinstance(nursery, Nursery)))
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})


def machine() -> tuple[float, int]:
    """Return the number of cores that this process may use, and the bytes of the machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(AttributeError):  # macOS has no affinity
        return len(os.sched_getaffinity(0)), memory
    return os.cpu_count() or 1, memory

"""Workers as processes of this machine."""

import asyncio
import logging
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, STDOUT
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvloop

from openlaunch.engines.documents import WorkerExit
from openlaunch.engines.environ import scrub
from openlaunch.engines.groups import Child, Leader, end_child
from openlaunch.engines.log_writer import LogPipe, LogWriter
from openlaunch.engines.memory import OomWatch
from openlaunch.engines.model_caches import variables
from openlaunch.engines.nurseries import Nurseries
from openlaunch.engines.process_spec import ExitCallback, ProcessSpec
from openlaunch.engines.sandbox import Sandboxes
from openlaunch.engines.usage import UsageWatch, Watched
from openlaunch.trash import discard
from openlaunch_worker.documents import ADDRESS, TOKEN
from openlaunch_worker.event_loop import UVLOOP
from openlaunch_worker.module_command import module_command

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


@dataclass(slots=True)
class _Running:
    """A process and the task that waits for its end."""

    spec: ProcessSpec
    process: Child
    folder: Path
    log: LogPipe
    usage: Watched
    watcher: asyncio.Task[None] = field(init=False)


class Processes:
    """Starts each worker in an empty folder of its own below `root`, which must be there.

    With `forks`, the default on Linux, workers are forks of a nursery. Without, and for those that start containers,
    each is a Python of its own: macOS's own libraries do not bear a fork.

    A worker sees none of the server's environment variables but an allow-list. What it started ends with it, except
    for processes of a Python of its own that made themselves a new session. With `sandboxes`, forks are isolated.
    With `fast_loop`, workers use uvloop where they can. `disk` bounds the bytes of a worker's folder; 0 sets none.
    """

    def __init__(
        self,
        root: Path,
        environ: Mapping[str, str] | None = None,
        *,
        forks: bool = sys.platform == "linux",
        sandboxes: Sandboxes | None = None,
        fast_loop: bool = True,
        disk: int = 0,
    ) -> None:
        self._root = root
        loop = {UVLOOP: str(Path(uvloop.__file__).parent.parent)} if fast_loop else {}
        self._environ = {**scrub(os.environ if environ is None else environ), "PYTHONUNBUFFERED": "1", **loop}
        self._running: dict[str, _Running] = {}
        self._closed = asyncio.Event()
        self._forks = forks
        self._logs = LogWriter()
        self._oom = OomWatch()
        self._usage = UsageWatch(disk)
        self._nurseries = Nurseries(root, self._environ, sandboxes, self._logs, self._usage)
        self._looking: asyncio.Task[None] | None = None
        self._starting = 0

    def running(self) -> list[str]:
        return list(self._running)

    async def start(self, spec: ProcessSpec, on_exit: ExitCallback) -> None:
        """Start a worker, which is not ready yet. Raise `OSError` if it can't start, or the engine is closed."""
        if self._closed.is_set():
            raise OSError("the engine is closed")
        if not spec.python.exists():
            raise FileNotFoundError(f"{spec.python} is not there")
        begin = self._nurseries.fork if self._in_nursery(spec) else self._start_alone
        log = self._logs.open(spec.log_path)
        self._starting += 1
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_at_memory())
        try:
            process, folder = await begin(spec, self._environ_of(spec), log.sending)
        finally:
            self._starting -= 1
            log.close_sending()
        place = folder / "work" if self._in_nursery(spec) else folder
        usage = Watched(process, folder, place, spec.memory_bound, log)
        self._usage.add(usage)
        running = self._running[spec.worker_id] = _Running(spec, process, folder, log, usage)
        running.watcher = asyncio.create_task(self._watch(running, on_exit))
        if self._closed.is_set():
            process.kill()

    async def catch_up_logs(self) -> None:
        """Wait until what workers have printed by now is in their logs, as far as that takes no time."""
        await asyncio.to_thread(self._logs.catch_up)

    def _in_nursery(self, spec: ProcessSpec) -> bool:
        return self._forks and spec.isolated

    async def _start_alone(
        self, spec: ProcessSpec, environ: Mapping[str, str], output: int
    ) -> tuple[Child, Path]:
        folder = Path(tempfile.mkdtemp(prefix="worker-", dir=self._root))
        try:
            process = await asyncio.create_subprocess_exec(
                *module_command(spec.python, "openlaunch_worker.main", spec.runtime),
                cwd=folder,
                env=environ,
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
            )
        except BaseException:
            discard(folder)
            raise
        return Leader(process), folder

    def _environ_of(self, spec: ProcessSpec) -> dict[str, str]:
        return {
            **self._environ,
            # NVML counts GPUs in the order of their bus; CUDA has to do the same for the indices to agree.
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": ",".join(map(str, spec.gpus)),
            **(variables(spec.cache) if spec.cache else {}),
            **spec.env,
            ADDRESS: spec.address,
            TOKEN: spec.token,
        }

    async def _watch(self, running: _Running, on_exit: ExitCallback) -> None:
        code = await running.process.wait()
        running.process.kill()
        await running.log.ended()
        del self._running[running.spec.worker_id]
        self._usage.remove(running.usage)
        ended = WorkerExit(code, None) if code >= 0 else WorkerExit(None, -code)
        if running.usage.over_memory or (ended.was_killed and self._oom.explains_a_kill()):
            ended = replace(ended, out_of_memory=True)
        try:
            on_exit(running.spec, ended)
        except Exception:
            log.exception("what follows the end of worker %s failed", running.spec.worker_id)
        discard(running.folder)

    async def _look_at_memory(self) -> None:
        """Keep the count of kills fresh while there are workers or nurseries, and end those that use too much."""
        while self._running or self._starting or self._usage.has_nurseries:
            self._oom.look()
            await self._usage.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def stop(self, worker_id: str, grace: float) -> None:
        if (running := self._running.get(worker_id)) is not None:
            await end_child(running.process, grace)
            await asyncio.shield(running.watcher)

    async def close(self) -> None:
        self._closed.set()
        stops = (self.stop(worker_id, grace=0) for worker_id in list(self._running))
        for error in await asyncio.gather(*stops, return_exceptions=True):
            if isinstance(error, Exception):
                log.error("a worker could not be ended: %r", error)
        await self._nurseries.close()
        await self._logs.close()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})


def machine() -> tuple[float, int]:
    """Return the number of cores that this process may use, and the bytes of the machine's memory."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(AttributeError):  # macOS has no affinity
        return len(os.sched_getaffinity(0)), memory
    return os.cpu_count() or 1, memory

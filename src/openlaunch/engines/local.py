"""The local engine: workers are processes of this machine."""

import asyncio
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from openlaunch.engines.base import (
    BuildOrder,
    Capacity,
    EngineEvents,
    EnvironmentInfo,
    LogFollower,
    LogLine,
    LogPart,
    NoRoom,
    OneMachine,
    WorkerExit,
    WorkerSpec,
)
from openlaunch.engines.containers import ContainerEngine
from openlaunch.engines.environments import Environments
from openlaunch.engines.gpus import GpuPool
from openlaunch.engines.images import Images
from openlaunch.engines.jobs import ContainerJobs
from openlaunch.engines.log_follower import FileFollower
from openlaunch.engines.log_lines import without_stamps
from openlaunch.engines.model_caches import ModelCaches
from openlaunch.engines.process_spec import ProcessSpec
from openlaunch.engines.processes import Processes, machine
from openlaunch.engines.uv_progress import UvProgress
from openlaunch.engines.worker_logs import WorkerLogs, short_id_of
from openlaunch.log_files import tail
from openlaunch.wire.bundles import ImageFlavor
from openlaunch_worker.documents import GPU_SHARE, IMAGE

LAST_LINES = 5
LAST_LINES_BYTES = 2000
PRUNE_LOGS_SECONDS = 10.0
TRIM_CACHES_SECONDS = 60.0


class LocalEngine(OneMachine):
    """Implements `Engine` with what each of its parts does on this machine. Used in the event loop's thread only."""

    def __init__(
        self,
        processes: Processes,
        environments: Environments,
        containers: ContainerEngine,
        images: Images,
        gpus: tuple[int, ...],
        logs: WorkerLogs,
        jobs: Path,
        caches: ModelCaches,
        gpu_names: tuple[str, ...] = (),
    ) -> None:
        self._caches = caches
        self._containers = containers
        self._processes = processes
        self._environments = environments
        self._images = images
        self._gpus = GpuPool(gpus, gpu_names)
        self.jobs = ContainerJobs(containers, self._gpus, jobs)
        self._logs = logs
        self._events: EngineEvents
        self._pruning: asyncio.Task[None] | None = None
        self._trimming: asyncio.Task[None] | None = None
        self._written: set[str] = set()
        """Endpoints whose workers have written logs since these were pruned."""

    def listen(self, events: EngineEvents) -> None:
        self._events = events

    def capacity(self) -> Capacity:
        cpus, memory = machine()
        gpus = self._gpus
        return Capacity(cpus, memory, gpus.total, gpus.free, gpu_parts=gpus.parts, gpu_names=gpus.names)

    async def prepare(self, build: BuildOrder) -> str:
        def started() -> None:
            self._events.build_started(build.id)

        progress = UvProgress()

        def said(line: str) -> None:
            self._events.build_said(build.id, line)
            if (step := progress.read(line)) is not None:
                self._events.build_does(build.id, step)

        flavor = build.flavor
        if isinstance(flavor, ImageFlavor):
            started()
            await self._images.prepare(flavor, build.resources, said)
            python = await self._environments.ensure([], None, said, started, build.owner)
        else:
            python = await self._environments.ensure(
                flavor.requirements, flavor.python_version, said, started, build.owner
            )
        await self._caches.prefetch(
            build.owner,
            build.prefetch,
            build.environ,
            said,
            lambda step: self._events.build_does(build.id, step),
        )
        return self._environments.id_of(python)

    async def environments(self) -> list[EnvironmentInfo]:
        return await self._environments.all()

    async def prune(self, used: Collection[str], owner: str | None = None) -> list[str]:
        return await self._environments.prune({self._environments.python(each) for each in used}, owner)

    async def start(self, spec: WorkerSpec) -> None:
        self._caches.begin_use(spec.worker_id, spec.owner, spec.prefetch)
        asked = spec.resources
        if (gpus := self._gpus.take(spec.worker_id, asked.gpus, asked.gpu_type)) is None:
            self._caches.end_use(spec.worker_id)
            raise NoRoom(f"{asked.gpus:g} GPUs are needed and {self._gpus.free} are free")
        try:
            await self._processes.start(self._process_spec(spec, gpus), self._ended)
        except BaseException:
            self._gpus.give_back(spec.worker_id)
            self._caches.end_use(spec.worker_id)
            raise
        self._written.add(spec.endpoint_id)
        if self._pruning is None or self._pruning.done():
            self._pruning = asyncio.create_task(self._prune_logs())
        if self._trimming is None or self._trimming.done():
            self._trimming = asyncio.create_task(self._trim_caches())

    def _process_spec(self, spec: WorkerSpec, gpus: tuple[int, ...]) -> ProcessSpec:
        env: dict[str, str] = {}
        if spec.image is not None:
            order = self._images.order(spec.worker_id, spec.image, spec.resources, gpus)
            if spec.prefetch:
                order = replace(order, cache=str(self._caches.folder(spec.owner)))
            env = {**self._containers.environ, IMAGE: json.dumps(order.to_json())}
        if gpus:
            env[GPU_SHARE] = f"{min(1, spec.resources.gpus):g}"
        cache = self._caches.folder(spec.owner)
        return ProcessSpec(
            worker_id=spec.worker_id,
            python=self._environments.python(spec.environment),
            runtime=self._environments.runtime,
            log_path=self._logs.path(spec.endpoint_id, spec.worker_id),
            address=spec.address,
            token=spec.token,
            gpus=gpus,
            env=env,
            isolated=spec.image is None,
            memory=spec.memory_limit,
            readable=self._environments.readable(spec.environment),
            cache=cache,
            caches=self._caches.root if self._environments.is_everybodys(spec.environment) else cache,
        )

    def _ended(self, spec: ProcessSpec, ended: WorkerExit) -> None:
        self._gpus.give_back(spec.worker_id)
        self._caches.end_use(spec.worker_id)
        lines = without_stamps(tail(spec.log_path, LAST_LINES_BYTES)).removesuffix("\n").split("\n")
        last = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines[-LAST_LINES:])
        self._events.worker_ended(spec.worker_id, replace(ended, last_lines=last))

    async def stop(self, worker_id: str, grace: float) -> None:
        await self._processes.stop(worker_id, grace)

    def note(self, endpoint_id: str, worker_id: str, text: str) -> None:
        self._logs.add(endpoint_id, worker_id, text)

    async def worker_logs(self, endpoint_id: str, part: LogPart) -> list[LogLine]:
        await self._processes.catch_up_logs()
        return await asyncio.to_thread(self._logs.read, endpoint_id, part)

    def follow_logs(self, endpoint_id: str) -> LogFollower:
        return FileFollower(self._logs, endpoint_id)

    async def remove_logs(self, endpoint_id: str) -> None:
        await asyncio.to_thread(self._logs.remove, endpoint_id)

    async def _prune_logs(self) -> None:
        while self._written:
            await asyncio.sleep(PRUNE_LOGS_SECONDS)
            running = self._processes.running()
            for endpoint_id in list(self._written):
                short_ids = {short_id_of(worker_id) for worker_id in running}
                await asyncio.to_thread(self._logs.prune, endpoint_id, short_ids)
            self._written &= {worker_id.rpartition(".")[0] for worker_id in running}

    async def _trim_caches(self) -> None:
        while self._processes.running():
            await asyncio.sleep(TRIM_CACHES_SECONDS)
            await self._caches.trim_used()

    async def close(self) -> None:
        await self._processes.close()
        await self._environments.close()
        for task in (self._pruning, self._trimming):
            if task is not None:
                task.cancel()

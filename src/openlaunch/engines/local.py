"""The local engine: workers are processes of this machine."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from openlaunch.engines.base import EngineEvents, NoRoom, OneMachine
from openlaunch.engines.containers import ContainerEngine
from openlaunch.engines.documents import Capacity, WorkerExit, WorkerSpec
from openlaunch.engines.environments import Environments
from openlaunch.engines.gpus import GpuPool
from openlaunch.engines.images import Images
from openlaunch.engines.jobs import ContainerJobs
from openlaunch.engines.local_builds import LocalBuilds
from openlaunch.engines.local_logs import LocalLogs
from openlaunch.engines.log_lines import without_stamps
from openlaunch.engines.model_caches import ModelCaches
from openlaunch.engines.process_spec import ProcessSpec
from openlaunch.engines.processes import Processes, machine
from openlaunch.engines.worker_logs import WorkerLogs
from openlaunch.log_files import tail
from openlaunch_worker.documents import GPU_SHARE, IMAGE

LAST_LINES = 5
LAST_LINES_BYTES = 2000
TRIM_CACHES_SECONDS = 60.0


class LocalEngine(OneMachine):
    """Implements `Engine` with processes of this machine. Used in the event loop's thread only."""

    lends_gpus = True

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
        self.builds = LocalBuilds(environments, images, caches)
        self.logs = LocalLogs(logs, processes)
        self._log_files = logs
        self._events: EngineEvents
        self._trimming: asyncio.Task[None] | None = None

    def listen(self, events: EngineEvents) -> None:
        self._events = self.builds.events = events

    def capacity(self) -> Capacity:
        cpus, memory = machine()
        gpus = self._gpus
        return Capacity(cpus, memory, gpus.total, gpus.free, gpu_parts=gpus.parts, gpu_names=gpus.names)

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
        self.logs.prune_later(spec.endpoint_id)
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
            log_path=self._log_files.path(spec.endpoint_id, spec.worker_id),
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

    def lend_gpus(self, worker_id: str) -> None:
        self._gpus.lend(worker_id)

    def take_gpus_back(self, worker_id: str) -> bool:
        return self._gpus.take_back(worker_id)

    async def _trim_caches(self) -> None:
        while self._processes.running():
            await asyncio.sleep(TRIM_CACHES_SECONDS)
            await self._caches.trim_used()

    async def close(self) -> None:
        await self._processes.close()
        await self._environments.close()
        self.logs.close()
        if self._trimming is not None:
            self._trimming.cancel()

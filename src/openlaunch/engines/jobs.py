"""Jobs on this machine: each is a container in the background, which outlives the server."""

import asyncio
import shutil
from pathlib import Path

from openlaunch.engines.base import NoRoom
from openlaunch.engines.containers import ContainerEngine
from openlaunch.engines.documents import ContainerState, JobSpec, Resources
from openlaunch.engines.gpus import GpuPool
from openlaunch_worker.containers import Container

KIND = "job"
PREFIX = "openlaunch-"
STOP_SECONDS = 5


class ContainerJobs:
    """Implements `Jobs`. `folder` has the jobs' files while they live."""

    def __init__(self, containers: ContainerEngine, gpus: GpuPool, folder: Path) -> None:
        self._containers = containers
        self._gpus = gpus
        self._folder = folder

    async def fetch(self, image: str) -> None:
        await self._containers.ensure_image(image)

    async def hold(self, job_id: str, resources: Resources) -> str:
        if (gpus := self._gpus.take(job_id, resources.gpus)) is None:
            raise NoRoom(f"{resources.gpus:g} GPUs are needed and {self._gpus.free} are free")
        return ",".join(map(str, gpus))

    def resume(self, job_id: str, held: str, resources: Resources) -> None:
        if held:
            self._gpus.hold(job_id, _indices(held))

    async def start(self, job: JobSpec, held: str) -> None:
        mounts = await asyncio.to_thread(self._write_files, job)
        await self._containers.start(
            Container(
                PREFIX + job.id,
                job.image,
                job.command,
                job.env,
                job.resources.cpus,
                job.resources.memory,
                _indices(held),
                self._containers.labels(KIND + job.records),
                mounts=mounts,
            )
        )

    def _write_files(self, job: JobSpec) -> tuple[tuple[str, str], ...]:
        """Write the job's files, and say where each goes."""
        mounts = []
        for number, (place, text) in enumerate(job.files.items()):
            path = self._folder / job.id / str(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            # For whatever user the container has; from outside, the data directory keeps others away.
            path.chmod(0o644)
            mounts.append((str(path), place))
        return tuple(mounts)

    async def state(self, job_id: str) -> ContainerState | None:
        return await self._containers.state(PREFIX + job_id)

    async def wait(self, job_id: str) -> None:
        await self._containers.wait(PREFIX + job_id)

    async def stop(self, job_id: str) -> None:
        await self._containers.stop(PREFIX + job_id, STOP_SECONDS)

    async def logs(self, job_id: str, lines: int) -> list[str]:
        return await self._containers.logs(PREFIX + job_id, lines)

    async def remove(self, *job_ids: str) -> None:
        await self._containers.remove(*(PREFIX + job_id for job_id in job_ids))

    async def release(self, job_id: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / job_id, ignore_errors=True)
        self._gpus.give_back(job_id)

    async def ids(self, records: str = "") -> list[str]:
        return [name.removeprefix(PREFIX) for name in await self._containers.names(KIND + records)]


def _indices(held: str) -> tuple[int, ...]:
    return tuple(map(int, held.split(","))) if held else ()

"""The logs of the workers of this machine, which grow while they run and are pruned meanwhile."""

import asyncio

from openlaunch.engines.base import LogFollower
from openlaunch.engines.documents import LogLine, LogPart
from openlaunch.engines.log_follower import FileFollower
from openlaunch.engines.processes import Processes
from openlaunch.engines.worker_logs import WorkerLogs, short_id_of

PRUNE_SECONDS = 10.0


class LocalLogs:
    """Implements `Logs` with files. What reads them waits until what processes have written is there."""

    def __init__(self, files: WorkerLogs, processes: Processes) -> None:
        self._files = files
        self._processes = processes
        self._written: set[str] = set()
        """Endpoints whose workers have written logs since these were pruned."""
        self._pruning: asyncio.Task[None] | None = None

    def note(self, endpoint_id: str, worker_id: str, text: str) -> None:
        self._files.add(endpoint_id, worker_id, text)

    async def read(self, endpoint_id: str, part: LogPart) -> list[LogLine]:
        await self._processes.catch_up_logs()
        return await asyncio.to_thread(self._files.read, endpoint_id, part)

    def follow(self, endpoint_id: str) -> LogFollower:
        return FileFollower(self._files, endpoint_id)

    async def remove(self, endpoint_id: str) -> None:
        await asyncio.to_thread(self._files.remove, endpoint_id)

    def prune_later(self, endpoint_id: str) -> None:
        """Delete old logs of an endpoint, of which a worker has started, from time to time."""
        self._written.add(endpoint_id)
        if self._pruning is None or self._pruning.done():
            self._pruning = asyncio.create_task(self._prune())

    async def _prune(self) -> None:
        while self._written:
            await asyncio.sleep(PRUNE_SECONDS)
            running = self._processes.running()
            for endpoint_id in list(self._written):
                short_ids = {short_id_of(worker_id) for worker_id in running}
                await asyncio.to_thread(self._files.prune, endpoint_id, short_ids)
            self._written &= {worker_id.rpartition(".")[0] for worker_id in running}

    def close(self) -> None:
        if self._pruning is not None:
            self._pruning.cancel()

"""What one server of those on a database does for all of them: the leader, or the server that is alone."""

from openlaunch.controller.controller import Controller
from openlaunch.server.jobs.batch_jobs import BatchJobs
from openlaunch.server.jobs.image_jobs import ImageJobs
from openlaunch.server.jobs.model_batches import ModelBatches
from openlaunch.server.jobs.triggers import Triggers
from openlaunch.server.operations.unused import UnusedArtifacts
from openlaunch.server.queue.old_queues import OldQueues
from openlaunch.server.queue.retention import Retention


class Leading:
    """Starts and stops scaling and roll-outs, jobs, triggers, and the deletion of what was kept long enough."""

    def __init__(
        self,
        controller: Controller,
        retention: Retention,
        batch_jobs: BatchJobs,
        model_batches: ModelBatches,
        image_jobs: ImageJobs,
        triggers: Triggers,
        unused: UnusedArtifacts,
        old_queues: OldQueues,
    ) -> None:
        self._controller, self._retention = controller, retention
        self._batch_jobs, self._image_jobs = batch_jobs, image_jobs
        self._model_batches = model_batches
        self._triggers, self._unused = triggers, unused
        self._old_queues = old_queues

    async def start(self, epoch: int) -> None:
        """Begin to lead under this epoch."""
        await self._image_jobs.resume()
        await self._controller.start(epoch)
        await self.start_beside_controller(epoch)

    async def start_beside_controller(self, epoch: int = 0) -> None:
        self._retention.start()
        await self._batch_jobs.start(epoch)
        await self._model_batches.start(epoch)
        await self._image_jobs.start(epoch)
        self._triggers.start()
        self._unused.start()
        self._old_queues.start()

    async def follow(self, grace: float) -> None:
        """Leave all to another server; what runs in workers has `grace` seconds to finish."""
        await self.stop()
        await self._controller.follow(grace)

    async def resign(self) -> None:
        """Leave all to another server, but for what runs in workers."""
        await self.stop()
        await self._controller.resign()

    async def stop(self) -> None:
        """Stop all but the controller."""
        await self._old_queues.stop()
        await self._unused.stop()
        await self._triggers.stop()
        await self._image_jobs.runner.stop()
        await self._model_batches.runner.stop()
        await self._batch_jobs.runner.stop()
        await self._retention.stop()

    wait = stop
    """Leave jobs to the server that leads."""

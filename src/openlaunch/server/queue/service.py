"""The durable queue of a running server: its parts, put together."""

import secrets

from openlaunch.artifacts.base import Artifacts
from openlaunch.background import BackgroundTasks
from openlaunch.server.access.quotas import Quotas
from openlaunch.server.cluster.messages import Messages
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.prediction.schema_cache import SchemaCache
from openlaunch.server.queue.answering import Answerer
from openlaunch.server.queue.claiming import Claimer
from openlaunch.server.queue.control import TaskControl
from openlaunch.server.queue.following import Follower
from openlaunch.server.queue.housekeeping import Housekeeper
from openlaunch.server.queue.lines import LineWork
from openlaunch.server.queue.notes import Notes
from openlaunch.server.queue.recording import Recorder
from openlaunch.server.queue.retention import Retention
from openlaunch.server.queue.running import Runner
from openlaunch.server.queue.shared import Shared
from openlaunch.server.queue.submitting import Submitter
from openlaunch.server.settings import QueueSettings
from openlaunch.store.base import Store
from openlaunch.tasks.hub import RECENT_SECONDS, Hub


class TaskService:
    """Holds the parts of the queue, and starts and stops them. All are used in the event loop's thread."""

    def __init__(
        self,
        settings: QueueSettings,
        store: Store,
        artifacts: Artifacts,
        lanes: Lanes,
        schemas: SchemaCache,
        quotas: Quotas | None = None,
        messages: Messages | None = None,
        gateway: str | None = None,
    ) -> None:
        """Take what the queue works with; of a cluster also its messages and the name of this server in it."""
        # Another server may delete what this one has in memory.
        self._hub = Hub(recent_seconds=min(RECENT_SECONDS, settings.result_retention_seconds))
        self._lanes = lanes
        self._background = BackgroundTasks(
            "work on the task queue failed; the tasks that it held run again when their leases end"
        )
        services = (settings, store, artifacts, lanes, schemas, self._hub, self._background)
        shared = Shared(
            *services,
            quotas=quotas or Quotas(),
            lease_owner=gateway or secrets.token_hex(8),
            messages=messages,
        )
        self.recorder = Recorder(shared)
        self.notes = Notes(store, self._background)
        self.runner = Runner(shared, self.recorder, self.notes)
        self.runner.line_of = LineWork
        self._claimer = Claimer(shared, self.runner)
        self.submitter = Submitter(shared, self._claimer, self.recorder)
        self.answerer = Answerer(shared, self.notes)
        self.follower = Follower(shared, self.notes)
        self.control = TaskControl(shared, self.runner, self.submitter)
        self.housekeeper = Housekeeper(shared, self.runner, self._claimer)
        self.retention = Retention(shared)
        if messages is not None:
            self._hub.on_ended = messages.ended
            messages.on_ended = self._ended_elsewhere
            messages.on_waiting = self._waits_elsewhere

    async def start(self, *, only_server: bool) -> None:
        """Begin to claim. The lanes must exist before.

        `only_server`: no other server uses this store, so every lease in it is of a server that crashed.
        """
        if only_server:
            await self.housekeeper.recover(only_server=True)
        self._lanes.on_free_slots = self._claimer.claim_for
        await self._claimer.recount()
        self._background.spawn(self.housekeeper.run())

    def _ended_elsewhere(self, ids: list[str]) -> None:
        self.runner.stop(ids)
        self._hub.wake(ids)

    def _waits_elsewhere(self, endpoint_id: str, owner: str, count: int) -> None:
        if (lane := self._lanes.get(endpoint_id)) is not None:
            lane.backlog.add(owner, count)
            self._claimer.claim_for(lane)
            if lane.backlog.size:
                lane.ask_for_workers()

    def stop_claiming(self) -> None:
        """Stop claiming, and let long polls return: the server stops."""
        self._hub.close()

    async def stop(self) -> None:
        """Record what has finished, and hand what still runs back to the queue."""
        self.stop_claiming()
        await self._background.stop()
        await self.recorder.flush()
        await self.notes.save()
        await self.runner.release_all()

"""Runs claimed tasks in workers, and settles what becomes of each."""

import asyncio
from collections.abc import Iterable

from openlaunch.artifacts.base import Artifacts
from openlaunch.background import BackgroundTasks
from openlaunch.errors import APIError, NotFound
from openlaunch.server import clock
from openlaunch.server.dispatch.dispatcher import Dispatcher
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.work import Sender
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch.server.queue.recording import Recorder
from openlaunch.server.settings import QueueSettings
from openlaunch.store.base import Store
from openlaunch.tasks import queue
from openlaunch.tasks.hub import Hub
from openlaunch.tasks.queue import ClaimedTask, Finished
from openlaunch.tasks.states import State, failure
from openlaunch_worker.frames import Flags, Outcome

DEADLINE_STATUS_CODE = 504


class TaskWork:
    """One claimed task in a worker's slot: `server.dispatch.work.Work` for the queue."""

    __slots__ = (
        *("_link", "_request_id", "_runner", "alone", "body", "cancelled", "deadline", "flags", "lane"),
        *("seconds", "started_at", "task"),
    )

    def __init__(self, runner: "Runner", lane: Lane, task: ClaimedTask, body: bytes, seconds: float) -> None:
        self._runner = runner
        self._link: Sender | None = None
        self._request_id = 0
        self.lane = lane
        self.task = task
        self.body = body
        self.seconds = seconds
        self.deadline = runner.now() + seconds
        # A task that ends workers must not end other tasks that happen to be in the same worker each time.
        self.alone = task.is_last_attempt
        self.cancelled = False
        self.started_at = 0.0
        self.flags = Flags.PICKLED if task.return_pickled else Flags.NONE
        if task.owner != lane.endpoint.owner:
            self.flags |= Flags.FOREIGN

    def abandon(self) -> None:
        """Stop the task in its worker, or drop it before it gets there."""
        self.cancelled = True
        if self._link is not None:
            self._link.cancel(self._request_id)

    def started(self, link: Sender, request_id: int) -> None:
        self._link = link
        self._request_id = request_id
        self.started_at = self._runner.now()
        self._runner.deadlines.add(self)

    def expired(self) -> None:
        """End the task, which has run for as long as it may."""
        self._runner.expired(self)

    def chunk(self, data: bytes) -> None:
        """Ignore a piece of a stream: tasks have none."""

    def finished(self, outcome: int, payload: bytes) -> None:
        self._runner.deadlines.discard(self)
        self._runner.finished(self, outcome, payload)

    def lost(self, reason: str) -> None:
        self._runner.deadlines.discard(self)
        self._runner.lost(self, reason)

    def refused(self, error: APIError) -> None:
        self._runner.deadlines.discard(self)
        self._runner.handed_back(self, str(error))


class Runner:
    """Gives claimed tasks to their lanes, and settles how each ends: a result, another attempt, or its place back."""

    def __init__(
        self,
        settings: QueueSettings,
        store: Store,
        artifacts: Artifacts,
        dispatcher: Dispatcher,
        recorder: Recorder,
        hub: Hub,
        background: BackgroundTasks,
    ) -> None:
        self.now = asyncio.get_running_loop().time
        self.deadlines = Deadlines()
        self._settings = settings
        self._store = store
        self._artifacts = artifacts
        self._dispatcher = dispatcher
        self._recorder = recorder
        self._hub = hub
        self._background = background
        self._running: dict[str, TaskWork] = {}

    async def run(self, lane: Lane, task: ClaimedTask) -> None:
        """Give the task to a worker of the lane."""
        body = task.payload
        if body is None:
            try:
                body = await self._artifacts.get(task.payload_key or "")
            except NotFound as error:
                text = f"the task's payload is gone: {error}"
                self._recorder.record(Finished(task.id, State.FAILURE, 500, failure(text, 500), reason=text))
                return
        work = TaskWork(self, lane, task, body, self._seconds_for(lane, task))
        self._running[task.id] = work
        self._hub.expect(task.id, task.owner)
        try:
            lane.submit(work, task.owner)
        except APIError as error:
            self.handed_back(work, str(error))

    def _seconds_for(self, lane: Lane, task: ClaimedTask) -> float:
        """How long the task may run: the request's own bound, within the endpoint's."""
        spec = lane.endpoint.spec
        limit: float = (
            spec.queue_message_timeout_seconds or spec.timeout_seconds or self._settings.task_timeout_seconds
        )
        return limit if task.timeout_seconds is None else min(task.timeout_seconds, limit)

    def held(self) -> list[str]:
        """The ids of the tasks that this server has claimed, and whose leases it renews."""
        return list(self._running)

    def is_in_worker(self, task_id: str) -> bool:
        """Whether a worker of this server runs the task; a claimed one may still wait for a slot here."""
        work = self._running.get(task_id)
        return work is not None and work.started_at > 0

    def stop(self, ids: Iterable[str]) -> None:
        """Stop what runs of these tasks, which have ended."""
        for task_id in ids:
            if (work := self._running.pop(task_id, None)) is not None:
                work.abandon()

    async def release_all(self) -> None:
        """Hand every task back to the queue: the server stops."""
        left = self.held()
        self._running.clear()
        if left:
            now = clock.now()
            await self._store.write(
                lambda conn: queue.give_back(conn, left, "the server stopped", now, died=False)
            )

    def finished(self, work: TaskWork, outcome: int, payload: bytes) -> None:
        """Record the worker's answer."""
        work.lane.task_took(self.now() - work.started_at)
        if self._running.pop(work.task.id, None) is None:
            return
        if outcome != Outcome.CANCELLED:
            self._recorder.answered(work.task.id, work.lane.endpoint, outcome, payload)
        elif not work.cancelled:
            self._background.spawn(self._give_back(work, "was stopped before the task ended", died=False))

    def lost(self, work: TaskWork, reason: str) -> None:
        """Try the task again, whose worker died; or fail it when it has ended enough workers."""
        if self._running.pop(work.task.id, None) is not None:
            self._background.spawn(self._give_back(work, reason, died=True))

    def expired(self, work: TaskWork) -> None:
        """Fail the task, which has run for as long as it may, and stop what runs of it."""
        if self._running.pop(work.task.id, None) is not None:
            work.abandon()
            text = f"the deadline passed: the task ran for {work.seconds:g} s, which is how long it may take"
            result = failure(text, DEADLINE_STATUS_CODE)
            self._recorder.record(
                Finished(work.task.id, State.FAILURE, DEADLINE_STATUS_CODE, result=result, reason=text)
            )

    def handed_back(self, work: TaskWork, reason: str) -> None:
        """Return the task to the queue: there is no slot for it after all."""
        if self._running.pop(work.task.id, None) is not None:
            self._background.spawn(self._give_back(work, reason, died=False))

    async def _give_back(self, work: TaskWork, reason: str, *, died: bool) -> None:
        self._hub.forget(work.task.id)
        outcome = await self._store.write(
            lambda conn: queue.give_back(conn, [work.task.id], reason, clock.now(), died=died)
        )
        for task_id, state in outcome:
            if state is State.PENDING:
                work.lane.backlog.add(work.task.owner)
                self._dispatcher.on_free_slots(work.lane)
                work.lane.ask_for_workers()
            else:
                self._hub.announce([task_id])

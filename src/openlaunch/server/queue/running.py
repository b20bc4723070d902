"""Runs claimed tasks in workers, and settles how each ends."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Final

import orjson

from openlaunch.errors import APIError, DeadlineExceeded, NotFound, ServerError, Unavailable
from openlaunch.server import clock
from openlaunch.server.access.tokens import TokenBudgets
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.work import TASK_NAME, Kept, Sender, Work
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch.server.prediction.headers import headers_in
from openlaunch.server.queue.notes import Notes
from openlaunch.server.queue.recording import Recorder
from openlaunch.server.queue.shared import Shared
from openlaunch.tasks import queue
from openlaunch.tasks.queue import ClaimedTask, Finished, failed
from openlaunch.tasks.states import State
from openlaunch_worker.documents import About
from openlaunch_worker.frames import Body, Flags, Outcome

if TYPE_CHECKING:
    from openlaunch.server.dispatch.left_work import LeftWork

DEADLINE_STATUS_CODE = 504
KEPT_BYTES: Final = 16 * 1024 * 1024
KEPT_SECONDS: Final = 300.0
"""How long a task runs on at its node whose server is gone."""
RESULT_SECONDS: Final = 5.0
"""How long a node has the result of a task, which its server may not have recorded: it may hang, or be gone."""
FETCH_AGAIN_SECONDS = 1.0
"""How long a task stays claimed whose payload can't be read, before it has its place in the queue again."""

LINE_BEGINS = b'{"custom_id": '
"""What the payload of a line of a batch begins with, and that of no task of a sync endpoint."""

_LATE = DeadlineExceeded("")


class TaskWork(Work):
    """One claimed task in a worker's slot."""

    __slots__ = ("_ends_at", "_runner", "alone", "lane", "seconds", "task")

    def __init__(
        self, runner: "Runner", lane: Lane, task: ClaimedTask, payload: Body, seconds: float
    ) -> None:
        flags = Flags.PICKLED if task.return_pickled else Flags.NONE
        if task.owner != lane.endpoint.owner:
            flags |= Flags.FOREIGN
        self._runner = runner
        self.lane = lane
        self.task = task
        self.seconds = seconds
        super().__init__(payload, flags, 0.0, runner.deadlines)
        # A task that ends workers must not end other tasks that happen to be in the same worker each time.
        self.alone = task.is_last_attempt

    @property
    def name(self) -> str:
        return f"task {self.task.id}"

    @property
    def owner(self) -> str:
        return self.task.owner

    @property
    def deadline(self) -> float:
        """When it has run for as long as it may; what waits, as it was claimed ahead, has all of that time yet."""
        return self._ends_at if self.started_at else self._runner.now() + self.seconds

    @deadline.setter
    def deadline(self, ends_at: float) -> None:
        self._ends_at = ends_at

    def started(self, link: Sender, request_id: int) -> None:
        self.deadline = self._runner.now() + self.seconds
        super().started(link, request_id)
        self._runner.deadlines.add(self)

    def expired(self) -> None:
        self._runner.expired(self)

    def count_end(self, error: APIError | None) -> None:
        """Count what ends the task; it has another attempt where its worker died, or there was no slot."""
        if error is None:
            super().count_end(_LATE if self._runner.now() >= self.deadline else None)

    def finished(self, outcome: int, payload: Body) -> None:
        self.lane.claims.task_took(monotonic() - self.started_at)
        super().finished(outcome, payload)

    @property
    def idempotency(self) -> str | None:
        return self.task.id

    @property
    def kept(self) -> Kept | None:
        return Kept(TASK_NAME + self.task.id, KEPT_BYTES, RESULT_SECONDS, KEPT_SECONDS)

    @property
    def priority(self) -> int:
        return int(orjson.loads(self.body).get("priority") or 0)

    def about(self) -> About:
        return About(self.task.id, self.task.owner, headers_in(self.body), is_heard=True)

    def note(self, kind: int, payload: Body) -> None:
        self._runner.notes.add(self.task.id, self.task.owner, self, kind, payload)

    def answered(self, outcome: int, payload: Body) -> None:
        self._runner.answered(self, outcome, payload)

    def broken(self, error: ServerError) -> None:
        self._runner.broken(self, error)

    def died(self, reason: str) -> None:
        self._runner.give_back(self, reason, died=True)

    def displaced(self, reason: str) -> None:
        self._runner.give_back(self, reason, died=False)

    def unserved(self, waits: Callable[[Work], None]) -> None:
        if self.end():
            self._runner.give_back(self, "was not run: the server of its worker is gone", died=False)

    def failed(self, error: APIError) -> None:
        self._runner.give_back(self, str(error), died=False)


class Runner:
    """Gives claimed tasks to their lanes, and settles how each ends: a result, another attempt, or its place back."""

    def __init__(self, shared: Shared, recorder: Recorder, notes: Notes) -> None:
        self.now = asyncio.get_running_loop().time
        self.deadlines = Deadlines()
        self._settings, self._lanes = shared.settings, shared.lanes
        self._store, self._artifacts = shared.store, shared.artifacts
        self._hub, self._background = shared.hub, shared.background
        self._lease_owner = shared.lease_owner
        self._recorder = recorder
        self.notes = notes
        self._running: dict[str, TaskWork] = {}
        self.work_of: Callable[..., TaskWork] = TaskWork
        """Makes the work of a task."""
        self.arriving: ArrivingAnswers
        """The memory for answers that come."""
        self.budgets: TokenBudgets | None = None
        """Where the tokens of lines of batches are counted."""
        self.line_of: Callable[..., TaskWork] = TaskWork
        """Makes the work of a line of a batch, which passes through to an engine."""
        self.left_work: LeftWork | None = None
        """Where nodes have tasks whose servers are gone."""
        self._fetching: set[str] = set()
        """Ids of claimed tasks whose payload is being read from artifacts."""

    async def run(self, lane: Lane, task: ClaimedTask) -> None:
        """Give the task to a worker of the lane."""
        if task.payload is None:
            self._fetching.add(task.id)
            self._background.spawn(self._fetch_and_start(lane, task))
        else:
            self._start(lane, task, task.payload)

    async def _fetch_and_start(self, lane: Lane, task: ClaimedTask) -> None:
        """Read the payload from artifacts, for which its slot is kept, and nothing else waits."""
        lane.backlog.claiming += 1
        try:
            payload = bytearray()  # into which pieces go, where `get` would hold it twice for a moment
            async for piece in self._artifacts.stream(task.payload_key or ""):
                payload += piece
            if task.id in self._fetching:  # else it was cancelled meanwhile, or the server stops
                self._start(lane, task, payload)
        except NotFound as error:
            self._recorder.record(failed(task.id, f"the task's payload is gone: {error}", 500))
        except Unavailable as error:
            await asyncio.sleep(FETCH_AGAIN_SECONDS)
            if task.id in self._fetching:
                await self._give_back(lane, task, str(error), died=False)
        finally:
            self._fetching.discard(task.id)
            lane.backlog.claiming -= 1
            self._lanes.on_free_slots(lane)

    def _start(self, lane: Lane, task: ClaimedTask, payload: Body) -> None:
        is_line = not lane.claims.of_tasks and payload.startswith(LINE_BEGINS)
        make = self.line_of if is_line else self.work_of
        work = make(self, lane, task, payload, self._seconds_for(lane, task))
        self._running[task.id] = work
        self._hub.expect(task.id, task.owner)
        kept, left_work = work.kept, self.left_work
        if kept is not None and left_work is not None and kept.name in left_work:
            self._background.spawn(self._take_up(work, kept.name, left_work))
        else:
            self._submit(work)

    def _submit(self, work: TaskWork) -> None:
        try:
            work.lane.submit(work, work.owner)
        except APIError as error:
            work.refused(error)

    async def _take_up(self, work: TaskWork, name: str, left_work: "LeftWork") -> None:
        """Continue a task of a server that is gone; run it where no node has it."""
        found = await left_work.take_up(name, work.lane, lambda taken_up: work)
        if found is None and not work.cancelled:
            self._submit(work)

    def _seconds_for(self, lane: Lane, task: ClaimedTask) -> float:
        """Return how long the task may run: the request's own limit, within the endpoint's."""
        spec = lane.endpoint.spec
        of_endpoint = spec.queue_message_timeout_seconds or spec.timeout_seconds
        limit: float = of_endpoint or self._settings.task_timeout_seconds
        return limit if task.timeout_seconds is None else min(task.timeout_seconds, limit)

    def held(self) -> list[str]:
        """List the ids of the tasks that this server has claimed, and whose leases it renews."""
        return [*self._running, *self._fetching, *self._recorder.storing]

    def is_in_worker(self, task_id: str) -> bool:
        """Return whether a worker of this server runs the task; a claimed one may still wait for a slot here."""
        work = self._running.get(task_id)
        return work is not None and work.started_at > 0

    def running_work(self, task_id: str) -> TaskWork | None:
        """Return the work of a task that this server runs, or is about to."""
        return self._running.get(task_id)

    def stop(self, ids: Iterable[str]) -> None:
        """Stop the work on these tasks, which have ended."""
        for task_id in ids:
            self._hub.forget(task_id)
            self._fetching.discard(task_id)
            if (work := self._running.pop(task_id, None)) is not None:
                work.abandon()

    async def release_all(self) -> None:
        """Hand every task back to the queue: the server stops."""
        left = self.held()
        for work in list(self._running.values()):
            work.abandon()  # its node would keep it otherwise
        self._running.clear()
        self._fetching.clear()
        if left:
            reason, now = "the server stopped", clock.now()
            mine = self._lease_owner
            await self._store.write(
                lambda conn: queue.give_back(conn, left, reason, now, died=False, lease_owner=mine)
            )

    def answered(self, work: TaskWork, outcome: int, payload: Body) -> None:
        """Record the worker's answer."""
        if outcome == Outcome.CANCELLED:
            self.give_back(work, "was stopped before the task ended", died=False)
        else:
            self._running.pop(work.task.id, None)
            work.body = b""  # it may be large, and to record a large answer takes a while
            self._recorder.answered(work, work.task.id, work.lane.endpoint, outcome, payload)

    def line_answered(
        self, work: TaskWork, finished: Finished, answer: bytearray, line_of: Callable[[bytes], bytes]
    ) -> None:
        """Record what an engine has answered to a line of a batch."""
        self._running.pop(work.task.id, None)
        self._recorder.record_line(finished, work.lane.endpoint.owner, answer, line_of)

    def broken(self, work: TaskWork, error: ServerError) -> None:
        """Fail the task, on which the server failed: it would do so again."""
        self._running.pop(work.task.id, None)
        self._recorder.record(failed(work.task.id, str(error), error.status))

    def expired(self, work: TaskWork) -> None:
        """Fail the task, whose deadline has passed, and stop the work on it.

        Of a server that hung, others may have taken the task, which then has its time there.
        """
        self._running.pop(work.task.id, None)
        text = f"the deadline passed: the task ran for {work.seconds:g} s, which is how long it may take"
        work.note_failure(text)
        work.abandon()
        late = failed(work.task.id, text, DEADLINE_STATUS_CODE)
        self._recorder.record(replace(late, lease_owner=self._lease_owner))

    def give_back(self, work: TaskWork, reason: str, *, died: bool) -> None:
        """Return the task to the queue: its worker died, or there is no slot for it after all."""
        self._running.pop(work.task.id, None)
        self._background.spawn(self._give_back(work.lane, work.task, reason, died=died))

    async def _give_back(self, lane: Lane, task: ClaimedTask, reason: str, *, died: bool) -> None:
        self._hub.forget(task.id)
        ids, now, mine = [task.id], clock.now(), self._lease_owner
        outcome = await self._store.write(
            lambda conn: queue.give_back(conn, ids, reason, now, died=died, lease_owner=mine)
        )
        for task_id, state in outcome:
            if state is State.PENDING:
                lane.numbers.retries += died
                lane.backlog.add(task.owner)
                self._lanes.on_free_slots(lane)
                lane.ask_for_workers()
            else:
                lane.numbers.dead_letters += 1
                lane.numbers.refused.dead()
                self._hub.announce([task_id])

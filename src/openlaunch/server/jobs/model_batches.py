"""Batches of requests to models: lines go from a file into the queue of the models' endpoints, answers into files.

A batch has no workers of its own. Its lines are tasks whose owner is the batch, at endpoints whose callers send
requests: there they run in slots that requests leave free.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sqlalchemy import Connection

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import APIError, TooManyRequests
from openlaunch.server import clock
from openlaunch.server.access.tokens import Account, TokenBudgets
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.gateway.model_names import ModelNames
from openlaunch.server.jobs.model_batch_files import ModelBatchFiles
from openlaunch.server.jobs.runner import JobRunner
from openlaunch.server.prediction.batch_lines import error_line
from openlaunch.server.prediction.inputs import PredictInput
from openlaunch.server.queue.lines import line_input
from openlaunch.server.queue.service import TaskService
from openlaunch.server.settings import JobSettings
from openlaunch.store import model_batches as batch_store
from openlaunch.store.base import Store
from openlaunch.store.records import JobEnd, ModelBatchRecord
from openlaunch.tasks import batch as batch_tasks
from openlaunch.tasks import queue
from openlaunch.tasks.batch_input import InputError
from openlaunch.tasks.model_lines import Line
from openlaunch.tasks.queue import Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch.turns import Turns
from openlaunch.wire.batch_jobs import BatchJobStatus
from openlaunch.wire.ids import new_id

POLL_SECONDS = 0.25
WINDOW = 2048
"""No more lines are read while the queue has this number of lines."""
CHUNK_LINES = 256
MAX_LINES = 50_000
BAD_LINE = 400
ENDS = {BatchJobStatus.CANCELLED: ("batch_cancelled", 499), BatchJobStatus.TIMEOUT: ("batch_expired", 504)}
"""The code and the status of lines that have no answer when their batch ends so."""


class Counts(NamedTuple):
    """How many lines of a batch there are, and how many ended with an answer and without."""

    total: int
    completed: int
    failed: int


@dataclass(slots=True)
class _Group:
    """Lines that are stored together: their lane, what they send, and the results of those that are refused."""

    lane: Lane | None = None
    inputs: list[PredictInput] = field(default_factory=list)
    refused: dict[int, bytes] = field(default_factory=dict)

    def add(self, predict_input: PredictInput, refusal: bytes | None) -> None:
        if refusal is not None:
            self.refused[len(self.inputs)] = refusal
        self.inputs.append(predict_input)


class ModelBatches:
    """Takes batches from their file to the files of answers and errors; `runner` is what starts and ends them."""

    def __init__(
        self,
        settings: JobSettings,
        store: Store,
        artifacts: Artifacts,
        lanes: Lanes,
        names: ModelNames,
        tasks: TaskService,
        budgets: TokenBudgets,
    ) -> None:
        self._budgets = budgets
        self._store = store
        self._lanes = lanes
        self._names = names
        self._tasks = tasks
        self._files = ModelBatchFiles(
            store, artifacts, names.checks, settings.max_running_batch_jobs, settings.max_body_bytes
        )
        self._turns = Turns(settings.max_running_batch_jobs)
        self._storing: dict[str, asyncio.Task[list[str]]] = {}
        """The last lines of each batch that are being stored, also when the batch is cancelled meanwhile."""
        self.runner = JobRunner(
            store,
            batch_store,
            "batch",
            work=self._work,
            clear=self._clear,
            discard=_nothing,
            retention_seconds=settings.batch_retention_seconds,
        )

    async def start(self, epoch: int) -> None:
        """Resume what an earlier server left. The controller and the task service have started."""
        self.runner.start(await self._store.read(batch_store.list_uncleared), epoch)

    async def refresh(self) -> None:
        """Look at what other servers have done with batches."""
        await self.runner.refresh(batch_store.list_uncleared)

    async def counts(self, batch: ModelBatchRecord) -> Counts:
        """Count the lines of a batch."""
        if batch.completed is not None:
            return Counts(batch.total or 0, batch.completed, batch.failed or 0)
        if batch.total is None:
            return Counts(0, 0, 0)
        done = await self._store.read(lambda conn: batch_tasks.progress(conn, batch.id), batch.owner)
        failed = done.get(State.FAILURE, 0) + done.get(State.CANCELLED, 0)
        return Counts(batch.total, done.get(State.SUCCESS, 0), failed)

    async def _work(self, batch: ModelBatchRecord) -> JobEnd:
        try:
            async with asyncio.timeout(batch.expires_at - clock.now()) as limit, self._turns.of(batch.owner):
                return await self._process(batch)
        except TimeoutError:
            if not limit.expired():
                raise
            text = f"the batch was not done within its completion_window, {batch.completion_window}"
            return JobEnd(BatchJobStatus.TIMEOUT, text)
        except InputError as error:
            return JobEnd(BatchJobStatus.FAILURE, str(error))

    async def _process(self, batch: ModelBatchRecord) -> JobEnd:
        if batch.total is None:
            total = await self._files.count(batch, MAX_LINES)
            now = clock.now()
            await self._store.write(lambda conn: batch_store.counted(conn, batch.id, total, now))
            batch = replace(batch, total=total)
        await self._each_chunk(batch, self._submit)
        await self._until_done(batch)
        return JobEnd(BatchJobStatus.SUCCESS)

    async def _each_chunk(
        self, batch: ModelBatchRecord, take: Callable[[ModelBatchRecord, list[Line]], Awaitable[None]]
    ) -> None:
        """Have the lines taken that are not tasks yet, as fast as that goes."""
        done = await self._store.read(lambda conn: batch_tasks.submitted(conn, batch.id), batch.owner)
        if done == batch.total:
            return
        most = min(CHUNK_LINES, self._tasks.submitter.max_queued_of_one)
        async with aclosing(self._files.lines(batch, skip=done, most=most)) as chunks:
            async for chunk in chunks:
                await take(batch, chunk)

    async def _submit(self, batch: ModelBatchRecord, lines: list[Line]) -> None:
        """Make the lines tasks, in their order, so that the number of tasks says which lines are left."""
        group = _Group()
        found: dict[str, tuple[Lane, str] | str] = {}
        for line in lines:
            lane, predict_input, refusal = await self._read(batch, line, found)
            if lane is not None and group.lane is not None and lane is not group.lane:
                await self._put(batch, group)
                group = _Group()
            group.lane = lane or group.lane
            group.add(predict_input, refusal)
        await self._put(batch, group)

    async def _read(
        self, batch: ModelBatchRecord, line: Line, found: dict[str, tuple[Lane, str] | str]
    ) -> tuple[Lane | None, PredictInput, bytes | None]:
        """Return the lane of a line and what it sends; or the result of one that is refused."""
        if line.error is not None:
            return None, _NO_INPUT, _refusal(batch, line, "invalid_line", line.error)
        if line.model not in found:
            found[line.model] = await self._find(batch, line.model)
        match found[line.model]:
            case str(reason):
                return None, _NO_INPUT, _refusal(batch, line, "invalid_model", reason)
            case lane, known_as:
                body = line.body
                if line.model != known_as:
                    body = await self._names.renamed(batch.owner, body, known_as)
                account = Account(batch.key_id, batch.owner)
                payload = line_input(line.custom_id or "", account, batch.endpoint, body)
                return lane, PredictInput(payload, expires_at=batch.expires_at), None

    async def _find(self, batch: ModelBatchRecord, model: str) -> tuple[Lane, str] | str:
        try:
            found = await self._names.find(batch.owner, model)
            found.check_route(batch.endpoint)
        except APIError as error:
            return error.message
        return found.lane, found.known_as

    async def _put(self, batch: ModelBatchRecord, group: _Group) -> None:
        if group.lane is None:
            await self._refuse(batch, [*group.refused.values()], BAD_LINE)
            return
        while True:
            if not await self._may_put(batch, group.lane, len(group.inputs)):
                await asyncio.sleep(POLL_SECONDS)
                continue
            submit = self._tasks.submitter.submit(
                group.lane, batch.id, group.inputs, refused=group.refused, check=self.runner.leads()
            )
            self._storing[batch.id] = storing = asyncio.create_task(submit)
            try:
                await asyncio.shield(storing)
            except TooManyRequests:  # others have taken the room
                await asyncio.sleep(POLL_SECONDS)
            else:
                return

    async def _may_put(self, batch: ModelBatchRecord, lane: Lane, count: int) -> bool:
        """Return whether further lines may be stored: there is room, and the account has something left.

        Where that is limited, no more than these lines wait, because all that wait are run.
        """
        account = Account(batch.key_id, batch.owner)
        try:
            self._budgets.check(account, clock.now())
        except TooManyRequests:
            return False
        if self._budgets.is_limited(account):
            states = await self._store.read(lambda conn: batch_tasks.progress(conn, batch.id), batch.owner)
            return not states.get(State.PENDING)
        return lane.backlog.size <= min(WINDOW, self._tasks.submitter.max_queued_of_one - count)

    async def _refuse(self, batch: ModelBatchRecord, results: Sequence[bytes], status_code: int) -> None:
        """Store lines of no endpoint as tasks that have failed, with these results."""
        now = clock.now()
        new = [NewTask(new_id(now), batch.id, batch.id, batch.expires_at, 1, b"{}") for _ in results]
        ended = [
            Finished(task.id, State.FAILURE, status_code, result, keeps_payload=False)
            for task, result in zip(new, results, strict=True)
        ]

        check = self.runner.leads()

        def store(conn: Connection) -> None:
            check(conn)
            queue.submit(conn, new, now)
            queue.complete(conn, ended, now)

        await self._store.write(store, batch.owner)

    async def _until_done(self, batch: ModelBatchRecord) -> None:
        while True:
            # What waits is known in memory, so that the store is not asked for as long as there is much.
            if not any(lane.backlog.of(batch.id) for lane in self._lanes):
                counts = await self.counts(batch)
                if counts.completed + counts.failed >= counts.total:
                    return
            await asyncio.sleep(POLL_SECONDS)

    async def _clear(self, batch: ModelBatchRecord) -> None:
        """Write the files of a batch that has ended, and remove its tasks."""
        if (storing := self._storing.pop(batch.id, None)) is not None:
            await asyncio.gather(storing, return_exceptions=True)
        if batch.total and batch.completed is None:
            if batch.status is not BatchJobStatus.SUCCESS:
                await self._end_lines(batch)
            await self._files.write(batch, ENDS.get(batch.status, ("server_error", 500))[0])
        while True:
            count, keys = await self._store.write(
                lambda conn: batch_tasks.delete_some(conn, batch.id), batch.owner
            )
            await self._files.delete(keys)
            if not count:
                break
        await self._store.write(lambda conn: batch_store.set_cleared(conn, batch.id))

    async def _end_lines(self, batch: ModelBatchRecord) -> None:
        """End the lines that have no answer, of which some are not tasks yet."""
        code, status_code = ENDS.get(batch.status, ("server_error", 500))
        reason = batch.status_reason or "the batch has ended"
        await self._tasks.control.fail_owner(batch.id, reason, status_code)

        async def end(batch: ModelBatchRecord, lines: list[Line]) -> None:
            await self._refuse(batch, [_refusal(batch, line, code, reason) for line in lines], status_code)

        try:
            await self._each_chunk(batch, end)
        except InputError:  # what can't be read has no id to be listed under
            return


_NO_INPUT = PredictInput(b"")
"""Stands among the inputs for one that is refused."""


def _refusal(batch: ModelBatchRecord, line: Line, code: str, reason: str) -> bytes:
    return error_line(f"{batch.id.removeprefix('batch_')}_{line.number}", line.custom_id, code, reason)


async def _nothing(keys: list[str]) -> None:
    """Delete nothing: the files of a batch are its owner's."""

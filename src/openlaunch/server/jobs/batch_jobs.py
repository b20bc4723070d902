"""Batch jobs at work: inputs go from a file into the queue, results from the queue into a file.

A job runs on an endpoint of its own, with as many workers as it may have. No more than a few hundred of its
inputs and results are in memory at a time, and every step can be taken again: a server that starts goes on
where the last one ended.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import orjson
from sqlalchemy import Connection

from openlaunch.artifacts.base import Artifacts
from openlaunch.controller.controller import Controller
from openlaunch.errors import APIError, NotFound, Unavailable
from openlaunch.server import clock
from openlaunch.server.dispatch.dispatcher import Dispatcher
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.prediction.inputs import check_document
from openlaunch.server.prediction.schemas import BundleSchemas, SchemaCache
from openlaunch.server.queue.service import REFUSED_STATUS_CODE, TaskService
from openlaunch.server.settings import JobSettings
from openlaunch.store import batch_jobs as job_store
from openlaunch.store import endpoints as endpoint_store
from openlaunch.store.base import Store
from openlaunch.store.records import BatchJobRecord, EndpointRecord
from openlaunch.tasks import batch
from openlaunch.tasks.batch_input import BadRow, InputError, Row, rows
from openlaunch.tasks.batch_output import JsonResults, PickledResults
from openlaunch.tasks.states import failure
from openlaunch.wire.batch_jobs import BatchJobStatus, SerializationFormat
from openlaunch.wire.endpoints import EndpointStatus, EndpointType

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
AGAIN_SECONDS = 1.0
HOUSEKEEPING_SECONDS = 600.0
WINDOW = 2048
"""Inputs in the queue over this number are waited for before more are read."""
CHUNK_INPUTS = 256
CHUNK_BYTES = 4 * 1024 * 1024
PAGE_RESULTS = 100
PIECE_SECONDS = 60.0
UNDONE_STATUS_CODE = 504


class _JobFailed(Exception):
    """The job can't go on; the text is its reason."""


@dataclass(slots=True)
class _Run:
    """A job in memory: `submitted` of its inputs are tasks; `ended` is set once its end is recorded."""

    job: BatchJobRecord
    submitted: int = 0
    work: asyncio.Task[str] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class BatchJobs:
    """Runs batch jobs. Used in the event loop's thread."""

    def __init__(
        self,
        settings: JobSettings,
        store: Store,
        artifacts: Artifacts,
        schemas: SchemaCache,
        dispatcher: Dispatcher,
        controller: Controller,
        tasks: TaskService,
    ) -> None:
        self._settings = settings
        self._store = store
        self._artifacts = artifacts
        self._schemas = schemas
        self._dispatcher = dispatcher
        self._controller = controller
        self._tasks = tasks
        self._turns = asyncio.Semaphore(settings.max_running_batch_jobs)
        self._runs: dict[str, _Run] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Go on with what an earlier server left. The controller and the task service have started."""
        for job in await self._store.read(job_store.list_uncleared):
            self._begin(job)
        self._spawn(self._housekeeping())

    async def stop(self) -> None:
        """Leave all jobs as they are."""
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    # What the routes call.

    async def create(self, job: BatchJobRecord) -> None:
        """Store a new job and begin with it."""
        await self._store.write(lambda conn: job_store.insert(conn, job))
        self._begin(job)

    async def get(self, owner: str, job_id: str, wait: float) -> BatchJobRecord:
        """The job, after waiting up to `wait` seconds for it to end.

        Raises:
            NotFound: the owner has no such job.
        """
        job = await self._get(owner, job_id)
        if wait > 0 and not job.status.done and (run := self._runs.get(job_id)) is not None:
            try:
                async with asyncio.timeout(wait):
                    await run.ended.wait()
            except TimeoutError:
                return job
            return await self._get(owner, job_id)
        return job

    async def _get(self, owner: str, job_id: str) -> BatchJobRecord:
        job = await self._store.read(lambda conn: job_store.get(conn, owner, job_id))
        if job is None:
            raise NotFound(f"no batch job has the id {job_id!r}", code="batch_job_not_found")
        return job

    async def cancel(self, owner: str, job_id: str) -> bool:
        """End a job: what waits is dropped, what runs is stopped, what was done is kept. False when it had ended.

        Raises:
            NotFound: the owner has no such job.
        """
        await self._get(owner, job_id)
        ended = await self._end(job_id, BatchJobStatus.CANCELLED, "the job was cancelled")
        run = self._runs.get(job_id)
        if ended and run is not None and run.work is not None:
            run.work.cancel()
        return ended

    def completed(self, job: BatchJobRecord) -> int:
        """How many of the inputs are done, now."""
        if job.completed is not None:
            return job.completed
        run, lane = self._runs.get(job.id), self._dispatcher.lane(job.id)
        if run is None or lane is None:
            return 0
        load = lane.load()
        return max(0, run.submitted - load.queued - load.in_flight)

    # A job's life.

    def _begin(self, job: BatchJobRecord) -> None:
        run = self._runs[job.id] = _Run(job)
        if job.status.done:
            run.ended.set()
        self._spawn(self._run(run))

    async def _run(self, run: _Run) -> None:
        while True:
            try:
                if not run.job.status.done:
                    await self._to_the_end(run)
                await self._clear(run)
                return
            except Unavailable as error:
                log.warning("the batch job %s has to wait: %s", run.job.id, error)
            except Exception:
                log.exception("the batch job %s could not be ended; trying again", run.job.id)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _to_the_end(self, run: _Run) -> None:
        job = run.job
        left = job.created_at + job.timeout_seconds - clock.now()
        run.work = work = asyncio.create_task(self._in_turn(run))
        try:
            await asyncio.wait({work}, timeout=max(0.0, left))
            timed_out = not work.done()
        finally:
            work.cancel()
            await asyncio.wait({work})
        if timed_out:
            text = f"the job was not done after {job.timeout_seconds:g} s, its limit"
            await self._end(job.id, BatchJobStatus.TIMEOUT, text)
        elif not work.cancelled():
            await self._ended(run, work)
        run.job = await self._get(job.owner, job.id)

    async def _ended(self, run: _Run, work: asyncio.Task[str]) -> None:
        try:
            key = work.result()
        except (InputError, _JobFailed) as error:
            await self._end(run.job.id, BatchJobStatus.FAILURE, str(error))
        else:
            await self._end(run.job.id, BatchJobStatus.SUCCESS, completed=run.job.total, result_key=key)

    async def _end(
        self, job_id: str, status: BatchJobStatus, reason: str | None = None, **values: Any
    ) -> bool:
        changed = await self._store.write(
            lambda conn: job_store.end(conn, job_id, status, clock.now(), reason=reason, **values)
        )
        if changed:
            log.info("batch job %s: %s%s", job_id, status, f": {reason}" if reason else "")
        if (run := self._runs.get(job_id)) is not None:
            run.ended.set()
        return changed

    async def _in_turn(self, run: _Run) -> str:
        async with self._turns:
            return await self._work(run)

    async def _work(self, run: _Run) -> str:
        """Everything from the first input to the last result; returns the key of the results."""
        job = run.job
        if job.total is None:
            total = await self._count(job)
            await self._store.write(lambda conn: job_store.counted(conn, job.id, total))
            run.job = job = replace(job, total=total)
        if job.total:
            lane = await self._lane(job)
            run.submitted = await self._store.read(lambda conn: batch.submitted(conn, job.id))
            await self._feed(run, lane)
            await self._until_done(job, lane)
        return await self._write_results(job)

    async def _lane(self, job: BatchJobRecord) -> Lane:
        """The lane of the job's endpoint, which is made where it is not there yet."""
        lane = self._dispatcher.lane(job.id)
        if lane is None:
            now = clock.now()
            endpoint = EndpointRecord(
                id=job.id,
                owner=job.id,
                name=f"batch job {job.id}",
                endpoint_type=EndpointType.ASYNC,
                bundle_id=job.bundle_id,
                generation=1,
                spec=job.spec,
                status=EndpointStatus.UPDATE_PENDING,
                status_reason=None,
                created_at=now,
                updated_at=now,
            )
            await self._store.write(lambda conn: endpoint_store.insert(conn, endpoint))
            self._controller.apply(endpoint)
            lane = self._dispatcher.lane(job.id)
        assert lane is not None
        return lane

    # Inputs.

    def _rows(self, job: BatchJobRecord) -> Iterator[Row]:
        loop = asyncio.get_running_loop()
        return rows(_pulled(self._artifacts.stream(job.input_key), loop))

    async def _count(self, job: BatchJobRecord) -> int:
        limit = self._settings.max_batch_inputs
        try:
            total = await asyncio.to_thread(_length, self._rows(job), limit + 1)
        except NotFound as error:
            raise InputError(f"the input is gone: {error.message}") from None
        if total > limit:
            raise InputError(f"the input has over {limit} entries, which is the limit")
        return total

    async def _feed(self, run: _Run, lane: Lane) -> None:
        job = run.job
        if run.submitted == job.total:
            return
        schemas = await self._schemas.get(job.bundle_id)
        pickled = job.serialization_format is SerializationFormat.PICKLE
        source = islice(self._rows(job), run.submitted, None)
        most = min(CHUNK_INPUTS, self._tasks.max_queued_of_one)
        while chunk := await asyncio.to_thread(_next_chunk, source, schemas, pickled, most):
            await self._until_room(lane, len(chunk))
            bodies = [body for body, _ in chunk]
            refused = {index: result for index, (_, result) in enumerate(chunk) if result is not None}
            await self._tasks.submit(lane, job.id, bodies, refused=refused)
            run.submitted += len(chunk)

    async def _until_room(self, lane: Lane, count: int) -> None:
        window = min(WINDOW, self._tasks.max_queued_of_one - count)
        await self._until(lane, lambda: lane.backlog.size <= window)

    async def _until_done(self, job: BatchJobRecord, lane: Lane) -> None:
        while True:
            await self._until(lane, lambda: lane.backlog.size == 0 and lane.load().in_flight == 0)
            if not await self._store.read(lambda conn: batch.unfinished(conn, job.id)):
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _until(self, lane: Lane, condition: Callable[[], bool]) -> None:
        while not condition():
            if lane.endpoint.status is EndpointStatus.UPDATE_FAILED:
                raise _JobFailed(lane.endpoint.status_reason or "the bundle can't be served")
            await asyncio.sleep(POLL_SECONDS)

    # Results.

    async def _write_results(self, job: BatchJobRecord) -> str:
        pickled = job.serialization_format is SerializationFormat.PICKLE
        writer = PickledResults() if pickled else JsonResults()
        key = f"batch-results/{job.id}.{writer.suffix}"
        await self._artifacts.put(key, self._result_bytes(job, writer))
        return key

    async def _result_bytes(
        self, job: BatchJobRecord, writer: JsonResults | PickledResults
    ) -> AsyncIterator[bytes]:
        count = after = 0
        while page := await self._store.read(
            lambda conn, after=after: batch.results(conn, job.id, after, PAGE_RESULTS)  # type: ignore[misc]
        ):
            yield b"".join([await self._entry(result, writer) for result in page])
            count += len(page)
            after = page[-1].seq
        undone = failure("the job ended before it was this input's turn", UNDONE_STATUS_CODE)
        for _ in range((job.total or 0) - count):
            yield writer.body(undone)
        yield writer.end()

    async def _entry(self, result: batch.BatchResult, writer: JsonResults | PickledResults) -> bytes:
        if result.result is not None:
            return writer.body(result.result)
        key = result.result_key or ""
        try:
            data = await self._artifacts.get(key)
        except NotFound as error:
            return writer.body(failure(f"the result is gone: {error.message}", 500))
        return writer.value(data) if key.endswith(".pkl") else writer.body(data)

    # The end.

    async def _clear(self, run: _Run) -> None:
        """Remove the endpoint and the tasks of a job that has ended; what was done before is kept."""
        job = run.job
        if job.result_key is None and job.total:
            await self._keep_what_was_done(job)
        await self._remove_endpoint(job)
        while True:
            count, keys = await self._store.write(lambda conn: batch.delete_some(conn, job.id))
            await self._delete(keys)
            if not count:
                break
        await self._store.write(lambda conn: job_store.set_cleared(conn, job.id))
        self._runs.pop(job.id, None)

    async def _keep_what_was_done(self, job: BatchJobRecord) -> None:
        def done(conn: Connection) -> int:
            return batch.submitted(conn, job.id) - batch.unfinished(conn, job.id)

        completed = await self._store.read(done)
        await self._tasks.fail_endpoint(job.id, job.status_reason or "the job has ended")
        if completed:
            key = await self._write_results(job)
            await self._store.write(lambda conn: job_store.set_result(conn, job.id, key, completed))

    async def _remove_endpoint(self, job: BatchJobRecord) -> None:
        def mark(conn: Connection) -> EndpointRecord | None:
            endpoint = endpoint_store.get(conn, job.id)
            if endpoint is None:
                return None
            endpoint = replace(endpoint, status=EndpointStatus.DELETE_IN_PROGRESS, updated_at=clock.now())
            endpoint_store.update(conn, endpoint)
            return endpoint

        endpoint = await self._store.write(mark)
        if endpoint is not None:
            self._controller.remove(endpoint)
        await self._tasks.fail_endpoint(job.id, "the job has ended")

    async def _housekeeping(self) -> None:
        while True:
            try:
                before = clock.now() - self._settings.batch_retention_seconds
                while keys := await self._store.write(lambda conn: job_store.purge(conn, before)):  # noqa: B023
                    await self._delete(keys)
            except Exception:
                log.exception("old batch jobs could not be deleted; it is tried again")
            await asyncio.sleep(HOUSEKEEPING_SECONDS)

    async def _delete(self, keys: list[str]) -> None:
        for key in keys:
            await self._artifacts.delete(key)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _pulled(pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """The pieces, for a thread beside the loop's."""

    async def following() -> bytes | None:
        return await anext(pieces, None)

    while True:
        piece = asyncio.run_coroutine_threadsafe(following(), loop).result(PIECE_SECONDS)
        if piece is None:
            return
        yield piece


def _length(source: Iterator[Row], limit: int) -> int:
    return sum(1 for _ in islice(source, limit))


def _next_chunk(
    source: Iterator[Row], schemas: BundleSchemas, pickled: bool, most: int
) -> list[tuple[bytes, bytes | None]]:
    """The bodies of up to `most` more inputs; beside each, the result of one that is refused."""
    chunk: list[tuple[bytes, bytes | None]] = []
    size = 0
    for row in source:
        body, refusal = b"", None
        if isinstance(row, BadRow):
            refusal = row.reason
        else:
            document = row | {"return_pickled": True} if pickled else row
            try:
                check_document(document, schemas)
                body = orjson.dumps(document)
            except APIError as error:
                details = "; ".join(f"{'.'.join(map(str, e['loc'][1:]))}: {e['msg']}" for e in error.errors)
                refusal = f"{error.message}: {details}" if details else error.message
            except TypeError as error:
                refusal = f"the input can't be sent: {error}"
        chunk.append((body, None if refusal is None else failure(refusal, REFUSED_STATUS_CODE)))
        size += len(body)
        if len(chunk) == most or size > CHUNK_BYTES:
            break
    return chunk

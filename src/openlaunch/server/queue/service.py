"""The durable queue at work: tasks come in, are claimed for free slots, run, and are recorded."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from sqlalchemy import Connection

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import APIError, Conflict, NotFound, TooManyRequests, Unavailable
from openlaunch.server import clock
from openlaunch.server.dispatch.admission import is_hopeless
from openlaunch.server.dispatch.dispatcher import Dispatcher
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.work import Sender
from openlaunch.server.endpoints.specs import may_predict
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch.server.prediction.idempotency import Keyed, keyed
from openlaunch.server.prediction.inputs import PredictInput, check_input
from openlaunch.server.prediction.results import hold_against_schema, pickled_body
from openlaunch.server.prediction.schemas import SchemaCache
from openlaunch.server.settings import QueueSettings
from openlaunch.store import answers
from openlaunch.store.base import Store
from openlaunch.tasks import queue
from openlaunch.tasks.hub import Hub
from openlaunch.tasks.outbox import Callback
from openlaunch.tasks.queue import ClaimedTask, Finished, NewTask, Payload, TaskRecord
from openlaunch.tasks.states import State, failure
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.ids import new_id
from openlaunch_worker.frames import Flags, Outcome

log = logging.getLogger(__name__)

MAX_CLAIM = 256
HOUSEKEEPING_SECONDS = 5.0
RECORD_AGAIN_SECONDS = 1.0
REFUSED_STATUS_CODE = 422
DEADLINE_STATUS_CODE = 504
MAX_REASON = 500


Answerable = TaskRecord | Finished
"""What a task's answer is made of: as it stands in the store, or as it has just been recorded."""


class TaskWork:
    """One claimed task in a worker's slot: `server.work.Work` for the queue."""

    __slots__ = (
        *("_link", "_request_id", "_service", "alone", "body", "cancelled", "deadline", "flags", "lane"),
        *("seconds", "started_at", "task"),
    )

    def __init__(
        self, service: "TaskService", lane: Lane, task: ClaimedTask, body: bytes, seconds: float
    ) -> None:
        self._service = service
        self._link: Sender | None = None
        self._request_id = 0
        self.lane = lane
        self.task = task
        self.body = body
        self.seconds = seconds
        self.deadline = service.now() + seconds
        # A task that ends workers must not end others with it, which happened to be beside it each time.
        self.alone = task.is_last_attempt
        self.cancelled = False
        self.started_at = 0.0
        self.flags = Flags.PICKLED if task.return_pickled else Flags.NONE
        if task.owner != lane.endpoint.owner:
            self.flags |= Flags.FOREIGN

    def abandon(self) -> None:
        """The task has ended: stop it in its worker, or drop it before it gets there."""
        self.cancelled = True
        if self._link is not None:
            self._link.cancel(self._request_id)

    def started(self, link: Sender, request_id: int) -> None:
        self._link = link
        self._request_id = request_id
        self.started_at = self._service.now()
        self._service.deadlines.add(self)

    def expired(self) -> None:
        """It has run for too long."""
        self._service.work_expired(self)

    def chunk(self, data: bytes) -> None:
        """A task gets no chunks."""

    def finished(self, outcome: int, payload: bytes) -> None:
        self._service.deadlines.discard(self)
        self._service.work_finished(self, outcome, payload)

    def lost(self, reason: str) -> None:
        self._service.deadlines.discard(self)
        self._service.work_lost(self, reason)

    def refused(self, error: APIError) -> None:
        self._service.deadlines.discard(self)
        self._service.work_handed_back(self, str(error))


class TaskService:
    """Submits, runs and answers for async tasks. Used in the event loop's thread."""

    def __init__(
        self,
        settings: QueueSettings,
        store: Store,
        artifacts: Artifacts,
        dispatcher: Dispatcher,
        schemas: SchemaCache,
    ) -> None:
        self.hub = Hub()
        self.on_callbacks: Callable[[], None] = lambda: None
        self._callbacks_asked = False
        self._settings = settings
        self._store = store
        self._artifacts = artifacts
        self._dispatcher = dispatcher
        self._schemas = schemas
        self._lease_owner = secrets.token_hex(8)
        self._running: dict[str, TaskWork] = {}
        # The owners of tasks that are in a worker here, or whose results are on their way to disk.
        self._at_work: dict[str, str] = {}
        self._claiming: set[str] = set()
        self._finished: list[Finished] = []
        self._background: set[asyncio.Task[Any]] = set()
        self._stopping = False

    @property
    def max_queued_of_one(self) -> int:
        """Limit of one owner's waiting tasks at an endpoint."""
        return self._settings.max_queued_tasks_of_one

    async def start(self) -> None:
        """Take over what an earlier server left, and begin to work. The lanes are there already."""
        self._loop = asyncio.get_running_loop()
        self.deadlines = Deadlines()
        now = clock.now()
        left = await self._store.write(lambda conn: queue.recover(conn, now, self._lease_owner))
        if left:
            log.warning("%d tasks that ran when the last server ended are queued again", len(left))
        self._dispatcher.on_free_slots = self._claim_for
        await self._count_queued()
        self._spawn(self._housekeeping())

    def stop_claiming(self) -> None:
        """Claim nothing more, and let long polls return: the server stops."""
        self._stopping = True
        self.hub.close()

    async def stop(self) -> None:
        """Hand what still runs back to the queue, and record what has finished."""
        self.stop_claiming()
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self._record(self._take_finished())
        left = list(self._running)
        self._running.clear()
        if left:
            now = clock.now()
            await self._store.write(
                lambda conn: queue.give_back(conn, left, "the server stopped", now, died=False)
            )

    # Submitting.

    async def submit(
        self,
        lane: Lane,
        owner: str,
        inputs: Sequence[PredictInput],
        keyed: Keyed | None = None,
        refused: Mapping[int, bytes] | None = None,
    ) -> list[str]:
        """Store tasks, all or none, and return their ids once they are on disk.

        `refused` has the results of those, by their place, that are only to stand among the others: they
        have failed already.

        Raises:
            TooManyRequests: the endpoint's queue is full.
            Unprocessable: the idempotency key was used for something else.
            Unavailable: the server is stopping, or can't write.
        """
        if self._stopping:
            raise Unavailable("the server is stopping", code="stopping", retry_after=2)
        self._check_room(lane, owner, len(inputs))
        # What there are slots for is claimed as it is stored: one commit for both.
        backlog = lane.backlog
        wanted = min(lane.tasks_wanted(), backlog.size + len(inputs), MAX_CLAIM)
        backlog.expect(owner, len(inputs), wanted)
        try:
            stored, ids, claimed = await self._store_new(lane, owner, inputs, keyed, refused or {}, wanted)
        finally:
            backlog.arrived(owner, len(inputs), wanted)
        backlog.add(owner, stored)
        backlog.claimed(task.owner for task in claimed)
        for task in claimed:
            await self._run(lane, task)
        self._claim_for(lane)
        if backlog.size:
            lane.ask_for_workers()
        return ids

    def _check_room(self, lane: Lane, owner: str, count: int) -> None:
        waiting = lane.backlog.size + lane.backlog.arriving.size
        mine = lane.backlog.of(owner) + lane.backlog.arriving.of(owner)
        few = self._settings.max_queued_tasks - self._settings.max_queued_tasks_of_one
        limit = self._settings.max_queued_tasks_of_one + (few if mine + count <= few else 0)
        if waiting + count > limit:
            kept = f", and {few} more of owners who have no more than that" if mine + count > few > 0 else ""
            raise TooManyRequests(
                f"{waiting} tasks wait for the endpoint {lane.endpoint.name!r} already, {mine} of them yours; "
                f"the limit is {limit}{kept}",
                retry_after=lane.admission.rate.retry_after(waiting),
            )

    def refuse_hopeless(self, lane: Lane, owner: str) -> None:
        """Do nothing where a new task of this owner's can be expected to run before it expires.

        Raises:
            TooManyRequests: it can't: so many come before it, and so long does each take.
        """
        ahead, seconds = lane.backlog.ahead_of(owner), self._expires_seconds(lane)
        if is_hopeless(wait := lane.admission.expected_wait(ahead), seconds):
            raise TooManyRequests(
                f"{ahead} tasks of the endpoint {lane.endpoint.name!r} come before this one, which takes about "
                f"{wait:.0f} s, and a task expires after {seconds:g} s",
                code="deadline_unreachable",
                retry_after=lane.admission.rate.retry_after(ahead),
            )

    def _expires_seconds(self, lane: Lane) -> float:
        return lane.endpoint.spec.task_expires_seconds or self._settings.task_expires_seconds

    async def _store_new(
        self,
        lane: Lane,
        owner: str,
        inputs: Sequence[PredictInput],
        keyed: Keyed | None,
        refused: Mapping[int, bytes],
        wanted: int,
    ) -> tuple[int, list[str], list[ClaimedTask]]:
        """How many tasks are new and to be run, the ids of all, and up to `wanted` that are claimed.

        No payload stays behind without its task.
        """
        now = clock.now()
        new: list[NewTask] = []
        stored: set[str] = set()
        try:
            for index, predict_input in enumerate(inputs):
                one = None if keyed is None else Keyed(f"{keyed.key}#{index}", keyed.digest)
                new.append(await self._new_task(lane, owner, predict_input, now, one))
            failed = [
                Finished(new[index].id, State.FAILURE, REFUSED_STATUS_CODE, result)
                for index, result in refused.items()
            ]

            claim = self._claim_of(lane, wanted)

            def store(conn: Connection) -> tuple[list[str], list[ClaimedTask]]:
                ids = queue.submit(conn, new, now)
                queue.complete(conn, failed, now)
                return ids, claim(conn) if wanted else []

            ids, claimed = await self._store.write(store)
            stored = {task.id for task in new}.intersection(ids)
        finally:
            await self._delete_payloads(task for task in new if task.id not in stored)
        return len(stored) - len(failed), ids, claimed

    async def _delete_payloads(self, unstored: Iterable[NewTask]) -> None:
        for task in unstored:
            if task.payload_key is not None:
                await self._artifacts.delete(task.payload_key)

    async def _new_task(
        self, lane: Lane, owner: str, predict_input: PredictInput, now: float, keyed: Keyed | None
    ) -> NewTask:
        task_id = new_id(now)
        body, key = predict_input.body, None
        if len(body) > self._settings.inline_bytes:
            key = f"payloads/{task_id}.json"
            await self._artifacts.put(key, body)
        return NewTask(
            id=task_id,
            endpoint_id=lane.endpoint.id,
            owner=owner,
            expires_at=now + self._expires_seconds(lane),
            max_attempts=self._settings.task_max_attempts,
            payload=body if key is None else None,
            payload_key=key,
            priority=predict_input.priority,
            return_pickled=Flags.PICKLED in predict_input.flags,
            timeout_seconds=predict_input.timeout,
            idempotency_key=None if keyed is None else keyed.key,
            idempotency_digest=None if keyed is None else keyed.digest,
            callback=self._callback(lane, predict_input),
        )

    def _callback(self, lane: Lane, predict_input: PredictInput) -> Callback | None:
        callback = predict_input.callback or _default_callback(lane.endpoint.spec)
        self._callbacks_asked = self._callbacks_asked or callback is not None
        return callback

    # Claiming.

    def _claim_for(self, lane: Lane) -> None:
        """Claim tasks for the lane's free slots; one claim at a time for each lane."""
        idle = lane.endpoint.id not in self._claiming and not self._stopping
        if idle and lane.backlog.size and lane.tasks_wanted():
            self._claiming.add(lane.endpoint.id)
            self._spawn(self._claim(lane))

    async def _claim(self, lane: Lane) -> None:
        endpoint_id = lane.endpoint.id
        try:
            while lane.backlog.size and not self._stopping:
                wanted = min(lane.tasks_wanted(), MAX_CLAIM)
                if not wanted:
                    break
                lane.backlog.claiming += wanted
                try:
                    claimed = await self._store.write(self._claim_of(lane, wanted))
                finally:
                    lane.backlog.claiming -= wanted
                if not claimed:
                    lane.backlog.reset({})
                lane.backlog.claimed(task.owner for task in claimed)
                for task in claimed:
                    await self._run(lane, task)
        finally:
            self._claiming.discard(endpoint_id)

    def _claim_of(self, lane: Lane, limit: int) -> Callable[[Connection], list[ClaimedTask]]:
        """The operation that claims tasks; what it needs to know of the lane is looked up here, not in its thread."""
        endpoint_id, after = lane.endpoint.id, lane.backlog.last_owner
        me, lease = self._lease_owner, self._settings.lease_seconds
        return lambda conn: queue.claim(conn, endpoint_id, limit, me, lease, clock.now(), after)

    async def _run(self, lane: Lane, task: ClaimedTask) -> None:
        body = task.payload
        if body is None:
            try:
                body = await self._artifacts.get(task.payload_key or "")
            except NotFound as error:
                text = f"the task's payload is gone: {error}"
                self._finish(Finished(task.id, State.FAILURE, 500, failure(text, 500), reason=text))
                return
        work = TaskWork(self, lane, task, body, self._seconds_for(lane, task))
        self._running[task.id] = work
        self._at_work[task.id] = task.owner
        try:
            lane.submit(work, task.owner)
        except APIError as error:
            self.work_handed_back(work, str(error))

    def _seconds_for(self, lane: Lane, task: ClaimedTask) -> float:
        """How long the task may run: the request's own bound, within the endpoint's."""
        spec = lane.endpoint.spec
        limit: float = (
            spec.queue_message_timeout_seconds or spec.timeout_seconds or self._settings.task_timeout_seconds
        )
        return limit if task.timeout_seconds is None else min(task.timeout_seconds, limit)

    # What becomes of running tasks.

    def work_finished(self, work: TaskWork, outcome: int, payload: bytes) -> None:
        """The worker has answered."""
        work.lane.task_took(self.now() - work.started_at)
        if self._running.pop(work.task.id, None) is None:
            return
        if outcome == Outcome.CANCELLED:
            if not work.cancelled:
                self._spawn(self._give_back(work, "was stopped before the task ended", died=False))
        elif self._needs_care(outcome, payload):
            self._spawn(self._finish_with_care(work, outcome, payload))
        else:
            self._finish(_answered(work.task.id, outcome, payload))

    def _needs_care(self, outcome: int, payload: bytes) -> bool:
        if outcome == Outcome.PICKLED or len(payload) > self._settings.inline_bytes:
            return True
        return self._settings.check_responses and outcome == Outcome.SUCCESS

    async def _finish_with_care(self, work: TaskWork, outcome: int, payload: bytes) -> None:
        """Results that go to artifacts, or are held against the response schema first."""
        task_id = work.task.id
        if outcome == Outcome.PICKLED:
            key = f"results/{task_id}.pkl"
            await self._artifacts.put(key, payload)
            self._finish(Finished(task_id, State.SUCCESS, 200, result_key=key))
            return
        if outcome == Outcome.SUCCESS and self._settings.check_responses:
            schemas = await self._schemas.get(work.lane.endpoint.serving_bundle_id)
            checked = await hold_against_schema(payload, schemas)
            outcome = Outcome.SUCCESS if checked is payload else Outcome.FAILURE
            payload = checked
        finished = _answered(task_id, outcome, payload)
        if len(payload) > self._settings.inline_bytes:
            key = f"results/{task_id}.json"
            await self._artifacts.put(key, payload)
            finished = replace(finished, result=None, result_key=key)
        self._finish(finished)

    def work_lost(self, work: TaskWork, reason: str) -> None:
        """The worker died; the task is tried again, or has taken enough workers with it."""
        if self._running.pop(work.task.id, None) is not None:
            self._spawn(self._give_back(work, reason, died=True))

    def work_expired(self, work: TaskWork) -> None:
        """The task has run for as long as it may: it ends here, and what runs of it is stopped."""
        if self._running.pop(work.task.id, None) is not None:
            work.abandon()
            text = f"the deadline passed: the task ran for {work.seconds:g} s, which is how long it may take"
            result = failure(text, DEADLINE_STATUS_CODE)
            self._finish(
                Finished(work.task.id, State.FAILURE, DEADLINE_STATUS_CODE, result=result, reason=text)
            )

    def work_handed_back(self, work: TaskWork, reason: str) -> None:
        """The task was claimed, but there is no slot for it after all."""
        if self._running.pop(work.task.id, None) is not None:
            self._spawn(self._give_back(work, reason, died=False))

    async def _give_back(self, work: TaskWork, reason: str, *, died: bool) -> None:
        self._at_work.pop(work.task.id, None)
        outcome = await self._store.write(
            lambda conn: queue.give_back(conn, [work.task.id], reason, clock.now(), died=died)
        )
        for task_id, state in outcome:
            if state is State.PENDING:
                work.lane.backlog.add(work.task.owner)
                self._claim_for(work.lane)
                work.lane.ask_for_workers()
            else:
                self.hub.announce([task_id])

    def _finish(self, finished: Finished) -> None:
        """Record a result with all others that have come since the last time."""
        self._finished.append(finished)
        if len(self._finished) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        if results := self._take_finished():
            self._spawn(self._record(results))

    def _take_finished(self) -> list[Finished]:
        results, self._finished = self._finished, []
        return results

    async def _record(self, results: list[Finished]) -> None:
        """Record results; while the store can't be written they are kept, and tried again."""
        while results:
            try:
                recorded = await self._store.write(lambda conn: queue.complete(conn, results, clock.now()))
            except Unavailable as error:
                if self._stopping:
                    raise
                log.error("%d results could not be recorded, and wait: %s", len(results), error)
                await asyncio.sleep(RECORD_AGAIN_SECONDS)
            else:
                for result in results:
                    self._at_work.pop(result.id, None)
                self.hub.announce([r.id for r in results], {r.id: r for r in results if r.id in recorded})
                if self._callbacks_asked:
                    self.on_callbacks()
                return

    # Asking.

    def now(self) -> float:
        """The event loop's clock."""
        return self._loop.time()

    def is_in_worker(self, task_id: str) -> bool:
        """Whether a worker of this server runs it, and not just a claim for the next free slot holds it."""
        work = self._running.get(task_id)
        return work is not None and work.started_at > 0

    async def get(self, owner: str, task_id: str, wait: float) -> Answerable:
        """The task, after waiting up to `wait` seconds for it to be done.

        Raises:
            NotFound: the owner has no such task.
        """
        with self.hub.waiter([task_id]) as waiter:
            deadline = self._loop.time() + wait
            if wait > 0 and self._at_work.get(task_id) == owner and not self.hub.closed:
                # It is not done, and its result will come by here: no need to look it up.
                await waiter.wait(wait)
                if (finished := waiter.results.get(task_id)) is not None:
                    return finished
            while True:
                record = await self._store.read(lambda conn: queue.get(conn, owner, task_id))
                if record is None:
                    raise no_task(task_id)
                left = deadline - self._loop.time()
                if record.state.done or left <= 0 or self.hub.closed:
                    return record
                await waiter.wait(left)
                if (finished := waiter.results.get(task_id)) is not None:
                    return finished

    async def wait_for_any(self, owner: str, ids: Sequence[str], wait: float) -> Sequence[Answerable]:
        """Those of the tasks that are done, after waiting up to `wait` seconds for one to be.

        Raises:
            NotFound: the owner has no task of one of these ids.
        """
        with self.hub.waiter(ids) as waiter:
            deadline = self._loop.time() + wait
            known = await self._store.read(lambda conn: queue.known_ids(conn, owner, ids))
            if missing := [task_id for task_id in ids if task_id not in known]:
                raise no_task(missing[0])
            while True:
                done = await self._store.read(lambda conn: queue.get_many(conn, owner, ids, only_done=True))
                left = deadline - self._loop.time()
                if done or left <= 0 or self.hub.closed:
                    return done
                await waiter.wait(left)
                if waiter.results:
                    return list(waiter.results.values())

    async def payload_of(self, owner: str, task_id: str) -> bytes:
        """What was sent in with a task that has not succeeded.

        Raises:
            NotFound: the owner has no such task, or its payload is not kept any more.
        """
        return await self._payload_bytes(await self._payload(owner, task_id), task_id)

    async def rerun(self, owner: str, task_id: str, idempotency_key: str | None = None) -> str:
        """Put a task that failed or was cancelled into the queue once more, as a new task, and return its id.

        Raises:
            NotFound: the owner has no such task, or its endpoint or its payload is gone.
            Conflict: it has not ended, or it has succeeded.
            Unprocessable: its input does not fit the request schema of the bundle that serves now.
            TooManyRequests: the endpoint's queue is full.
        """
        stored = await self._payload(owner, task_id)
        if not stored.state.done or stored.state is State.SUCCESS:
            raise Conflict(
                f"the task {task_id!r} is {stored.state.value}: those that failed or were cancelled can be run again",
                code="task_not_failed",
            )
        lane = self._dispatcher.lane(stored.endpoint_id)
        if lane is None or not may_predict(lane.endpoint, owner):
            raise NotFound(f"the endpoint of the task {task_id!r} is gone", code="endpoint_not_found")
        body = await self._payload_bytes(stored, task_id)
        endpoint = lane.endpoint
        schemas = await self._schemas.get(endpoint.ready_bundle_id or endpoint.bundle_id)
        predict_input = await check_input(body, schemas)
        request = None if idempotency_key is None else await keyed(idempotency_key, lane.endpoint.id, body)
        return (await self.submit(lane, owner, [predict_input], request))[0]

    async def _payload(self, owner: str, task_id: str) -> Payload:
        stored = await self._store.read(lambda conn: queue.get_payload(conn, owner, task_id))
        if stored is None:
            raise no_task(task_id)
        return stored

    async def _payload_bytes(self, stored: Payload, task_id: str) -> bytes:
        if stored.payload is not None:
            return stored.payload
        if stored.payload_key is not None:
            return await self._artifacts.get(stored.payload_key)
        raise NotFound(
            f"the payload of the task {task_id!r} is not kept: it succeeded, or its endpoint was deleted",
            code="payload_not_found",
        )

    async def cancel(self, owner: str, task_id: str) -> bool:
        """Cancel a task; False when it was done already. What runs of it is stopped.

        Raises:
            NotFound: the owner has no such task.
        """
        before = await self._store.write(lambda conn: queue.cancel(conn, owner, task_id, clock.now()))
        if before is None:
            raise no_task(task_id)
        if before.done:
            return False
        work = self._running.pop(task_id, None)
        self._at_work.pop(task_id, None)
        if work is not None:
            work.abandon()
        self.hub.announce([task_id])
        return True

    async def fail_endpoint(self, endpoint_id: str, reason: str) -> None:
        """The endpoint is deleted: end its tasks."""
        while ended := await self._store.write(
            lambda conn: queue.fail_endpoint(conn, endpoint_id, reason, clock.now())
        ):
            for task_id in ended:
                self._at_work.pop(task_id, None)
                if (work := self._running.pop(task_id, None)) is not None:
                    work.abandon()
            self.hub.announce(ended)

    async def body_of(self, record: Answerable, make_url: Callable[[str], str]) -> bytes:
        """The JSON body that answers for a task; `make_url` signs the URL of a pickled result's key."""
        head = b'{"task_id": "%s", ' % record.id.encode()
        if not record.state.done:
            rest = b'"status": "%s", "result": null, "traceback": null, "status_code": null}'
            return head + rest % record.state.value.encode()
        body = record.result
        if body is None:
            key = record.result_key or ""
            body = pickled_body(make_url(key)) if key.endswith(".pkl") else await self._artifacts.get(key)
        return head + body[1:]

    # Housekeeping.

    async def _housekeeping(self) -> None:
        """Renew leases, end what waited too long, count what is queued, and delete old results."""
        while True:
            try:
                await asyncio.sleep(min(HOUSEKEEPING_SECONDS, self._settings.lease_seconds / 3))
                await self._tidy()
            except Exception:
                log.exception("housekeeping of the task queue failed; it is tried again")

    async def _tidy(self) -> None:
        now = clock.now()
        lease = self._settings.lease_seconds
        held = list(self._running)
        await self._store.write(lambda conn: queue.renew(conn, self._lease_owner, held, lease, now))
        # What this server has claimed and does not hold, an error of its own has dropped on the way.
        dropped = await self._store.write(lambda conn: queue.recover(conn, now))
        if dropped:
            log.warning("%d tasks whose lease ended are queued again", len(dropped))
        self.hub.announce(await self._store.write(lambda conn: queue.expire(conn, now)))
        keys = await self._store.write(
            lambda conn: queue.purge(conn, now, self._settings.result_retention_seconds)
        )
        keys += await self._store.write(lambda conn: answers.purge(conn, now))
        for key in keys:
            await self._artifacts.delete(key)
        await self._count_queued()

    async def _count_queued(self) -> None:
        """Set the lanes' counts right: what is counted in memory may drift when a write is tried again."""
        counts = await self._store.read(queue.queued_counts)
        for lane in self._dispatcher.lanes():
            if lane.endpoint.id not in self._claiming:
                lane.backlog.reset(counts.get(lane.endpoint.id, {}))
                self._claim_for(lane)
                if lane.backlog.size:
                    lane.ask_for_workers()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error(
                "work on the task queue failed; what it held is tried again when its lease ends",
                exc_info=error,
            )


def _default_callback(spec: EndpointSpec) -> Callback | None:
    # Its credentials go to its own URL alone: a request that names another URL brings its own.
    url, auth = spec.default_callback_url, spec.default_callback_auth
    if url is None or "callback" not in (spec.post_inference_hooks or ()):
        return None
    return Callback(url, None if auth is None else auth.model_dump())


def _answered(task_id: str, outcome: int, payload: bytes) -> Finished:
    """What the worker's answer is recorded as. The reason of a failure is the last line of its traceback."""
    if outcome == Outcome.SUCCESS:
        return Finished(task_id, State.SUCCESS, 200, result=payload)
    document = orjson.loads(payload)
    lines = (document["traceback"] or "").strip().splitlines()
    reason = lines[-1][:MAX_REASON] if lines else None
    return Finished(task_id, State.FAILURE, document["status_code"], result=payload, reason=reason)


def no_task(task_id: str) -> NotFound:
    """The error for an unknown task."""
    return NotFound(
        f"no task has the id {task_id!r}: results are kept for a limited time", code="task_not_found"
    )

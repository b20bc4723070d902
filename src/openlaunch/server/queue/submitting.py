"""Stores new tasks."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from openlaunch.errors import APIError, TooManyRequests, Unavailable
from openlaunch.server import clock
from openlaunch.server.dispatch.admission import is_hopeless
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.prediction.idempotency import Keyed
from openlaunch.server.prediction.inputs import PredictInput
from openlaunch.server.queue.claiming import MAX_CLAIM, Claimer
from openlaunch.server.queue.inbox import Inbox, Submission
from openlaunch.server.queue.recording import Recorder
from openlaunch.server.queue.refusals import REFUSED_STATUS_CODE
from openlaunch.server.queue.shared import Shared
from openlaunch.store.base import OUTCOME_UNKNOWN
from openlaunch.tasks.callback import Callback
from openlaunch.tasks.queue import ClaimedTask, Finished, NewTask
from openlaunch.tasks.states import State
from openlaunch.wire.endpoint_settings import EndpointSpec
from openlaunch.wire.ids import new_id
from openlaunch_worker.frames import Body, Flags


class Submitter:
    """Stores new tasks, and claims those that there are slots for in the same transaction."""

    def __init__(self, shared: Shared, claimer: Claimer, recorder: Recorder) -> None:
        self._settings, self._hub = shared.settings, shared.hub
        self._artifacts = shared.artifacts
        self._lanes, self._quotas = shared.lanes, shared.quotas
        self._claimer = claimer
        self._inbox = Inbox(shared, claimer)
        self._recorder = recorder
        self.traced: Callable[[Body], Body] | None = None
        """Puts into a payload what its task's spans belong to, where the server traces."""
        self._messages = shared.messages

    @property
    def max_queued_of_one(self) -> int:
        """Limit of one owner's waiting tasks at an endpoint."""
        return self._settings.max_queued_tasks_of_one

    async def submit(
        self,
        lane: Lane,
        owner: str,
        inputs: Sequence[PredictInput],
        keyed: Keyed | None = None,
        refused: Mapping[int, bytes] | None = None,
        check: Callable[[Connection], None] | None = None,
    ) -> list[str]:
        """Store tasks, all or none, and return their ids once they are on disk.

        `refused` holds the results, by index, of tasks whose input was refused: these are stored as failed, to keep
        their place among the others. What `check` raises in the transaction is raised, and nothing is stored.

        Raises:
            TooManyRequests: the endpoint's queue is full, or the owner has as many tasks waiting as are allowed.
            Unprocessable: the idempotency key was used for something else.
            Unavailable: the server is stopping, or can't write.
        """
        if self._hub.closed:
            raise Unavailable("the server is stopping", code="stopping", retry_after=2)
        self._check_room(lane, owner, len(inputs))
        backlog = lane.backlog
        wanted = min(lane.claims.wanted(), backlog.size + len(inputs), MAX_CLAIM)
        backlog.expect(owner, len(inputs), wanted)
        try:
            stored, ids, claimed = await self._store_new(
                lane, owner, inputs, keyed, refused or {}, wanted, check
            )
        finally:
            backlog.arrived(owner, len(inputs), wanted)
        backlog.add(owner, stored)
        lane.numbers.submitted += stored
        await self._claimer.run(lane, claimed)
        self._claimer.claim_for(lane)
        if backlog.size:
            lane.ask_for_workers()
            if self._messages is not None and stored > len(claimed):
                self._messages.waiting(lane.endpoint.id, owner, stored - len(claimed))
        return ids

    def _check_room(self, lane: Lane, owner: str, count: int) -> None:
        waiting = lane.backlog.size + lane.backlog.arriving.size
        is_of_job = owner == lane.endpoint.id or not lane.claims.of_tasks
        if "queued_tasks" in self._quotas.of(owner) and not is_of_job:
            after = lane.admission.rate.retry_after(waiting)
            self._quotas.check_queued(owner, self._lanes.queued_of(owner), count, after)
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
        """Raise TooManyRequests if a new task of this owner's would expire, at the present pace, before its turn."""
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
        check: Callable[[Connection], None] | None,
    ) -> tuple[int, list[str], list[ClaimedTask]]:
        """Store tasks and claim up to `wanted`; return how many are to run, all ids, and the claimed tasks.

        A payload whose task was not stored is deleted; where that is not known, it is kept until nobody can need it.
        """
        now = clock.now()
        new: list[NewTask] = []
        stored: set[str] = set()
        try:
            for index, predict_input in enumerate(inputs):
                one = None if keyed is None else Keyed(f"{keyed.key}#{index}", keyed.digest)
                new.append(await self._new_task(lane, owner, predict_input, now, one))
            status = State.FAILURE, REFUSED_STATUS_CODE
            failed = [Finished(new[index].id, *status, result) for index, result in refused.items()]
            stored = {task.id for task in new}  # as long as nobody says otherwise
            ids, claimed = await self._inbox.put(lane, owner, Submission(new, failed, wanted, check))
            stored.intersection_update(ids)
        except APIError as error:
            if error.code != OUTCOME_UNKNOWN:
                stored.clear()
            raise
        finally:
            unstored = [task.payload_key for task in new if task.id not in stored]
            for key in filter(None, unstored):
                await self._artifacts.delete(key)
        return len(stored) - len(failed), ids, claimed

    def new_task(self, lane: Lane, owner: str, body: bytes, key: str) -> NewTask:
        """Make a task of a small body that was checked, for who stores it in a transaction of its own.

        Raises:
            TooManyRequests: there is no room for it.
        """
        self._check_room(lane, owner, 1)
        keyed = Keyed(key, hashlib.sha256(body).digest())
        return self._made(lane, owner, PredictInput(body), clock.now(), keyed)

    def arrived(self, lane: Lane, owner: str) -> None:
        """Have a task run that `new_task` has made, and that is stored."""
        lane.backlog.add(owner, 1)
        lane.numbers.submitted += 1
        self._claimer.claim_for(lane)
        if lane.backlog.size:
            lane.ask_for_workers()
            if self._messages is not None:
                self._messages.waiting(lane.endpoint.id, owner, 1)

    async def _new_task(
        self, lane: Lane, owner: str, predict_input: PredictInput, now: float, keyed: Keyed | None
    ) -> NewTask:
        task = self._made(lane, owner, predict_input, now, keyed)
        assert task.payload is not None
        if len(task.payload) <= self._settings.inline_bytes:
            return task
        key = f"payloads/{task.id}.json"
        await self._artifacts.put(key, task.payload)
        return replace(task, payload=None, payload_key=key)

    def _made(
        self, lane: Lane, owner: str, predict_input: PredictInput, now: float, keyed: Keyed | None
    ) -> NewTask:
        payload = predict_input.body
        return NewTask(
            id=new_id(now),
            endpoint_id=lane.endpoint.id,
            owner=owner,
            expires_at=predict_input.expires_at or now + self._expires_seconds(lane),
            max_attempts=self._settings.task_max_attempts,
            payload=payload if self.traced is None else self.traced(payload),
            priority=predict_input.priority,
            return_pickled=Flags.PICKLED in predict_input.flags,
            timeout_seconds=predict_input.timeout,
            idempotency_key=None if keyed is None else keyed.key,
            idempotency_digest=None if keyed is None else keyed.digest,
            callback=self._callback(lane, predict_input),
        )

    def _callback(self, lane: Lane, predict_input: PredictInput) -> Callback | None:
        callback = predict_input.callback or _default_callback(lane.endpoint.spec)
        self._recorder.has_callbacks = self._recorder.has_callbacks or callback is not None
        return callback


def _default_callback(spec: EndpointSpec) -> Callback | None:
    # Its credentials go to its own URL alone: a request that names another URL brings its own.
    url, auth = spec.default_callback_url, spec.default_callback_auth
    if url is None or "callback" not in (spec.post_inference_hooks or ()):
        return None
    return Callback(url, None if auth is None else auth.model_dump())

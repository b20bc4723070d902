"""Cancels tasks, and runs those again that did not succeed."""

from collections.abc import AsyncIterator

from openlaunch.errors import Conflict, NotFound
from openlaunch.server import clock
from openlaunch.server.endpoints.specs import may_predict
from openlaunch.server.prediction.idempotency import keyed
from openlaunch.server.queue.answering import no_task
from openlaunch.server.queue.running import Runner
from openlaunch.server.queue.shared import Shared
from openlaunch.server.queue.submitting import Submitter
from openlaunch.tasks import control, lookups
from openlaunch.tasks.lookups import Payload
from openlaunch.tasks.states import State

PIECE_BYTES = 256 * 1024


class TaskControl:
    """Cancels tasks, and submits ended ones again. NotFound is raised for an id that is not the owner's task."""

    def __init__(self, shared: Shared, runner: Runner, submitter: Submitter) -> None:
        self._shared = shared
        self._store = shared.store
        self._runner = runner
        self._submitter = submitter

    async def cancel(self, owner: str, task_id: str) -> bool:
        """Cancel a task in the queue and in its worker, and return False if it was done already."""
        before = await self._store.write(
            lambda conn: control.cancel(conn, owner, task_id, clock.now()), owner
        )
        if before is None:
            raise no_task(task_id)
        if not before.done:
            self._ended([task_id])
        return not before.done

    async def fail_endpoint(self, endpoint_id: str, reason: str) -> None:
        """Fail all tasks of an endpoint that is deleted."""
        while ended := await self._store.write(
            lambda conn: control.fail_endpoint(conn, endpoint_id, reason, clock.now()),
            endpoint_id,  # takes turns with the owners: a million tasks are a thousand transactions
        ):
            self._ended(ended)

    async def fail_owner(self, owner: str, reason: str, status_code: int) -> None:
        """Fail all tasks of an owner that is a batch."""
        while ended := await self._store.write(
            lambda conn: control.fail_owner(conn, owner, reason, status_code, clock.now()), owner
        ):
            self._ended(ended)

    def _ended(self, ids: list[str]) -> None:
        self._runner.stop(ids)
        self._shared.hub.announce(ids)

    async def payload_of(self, owner: str, task_id: str) -> AsyncIterator[bytes]:
        """Return what was sent in with a task, in pieces, with the secrets of its callback masked.

        Raises:
            NotFound: it is no longer kept.
            Unprocessable: it has such secrets, and can't be written without them.
        """
        stored = await self._payload(owner, task_id)
        payload = await self._payload_bytes(stored, task_id)
        masked = await self._shared.schemas.checks.without_auth(owner, payload)
        if masked is None and stored.payload_key is not None:
            return self._shared.artifacts.stream(stored.payload_key, PIECE_BYTES)
        return _pieces_of(payload if masked is None else masked)

    async def rerun(self, owner: str, task_id: str, idempotency_key: str | None = None) -> str:
        """Submit a task that failed or was cancelled again, as a new task, and return its id.

        Raises:
            NotFound: its endpoint or its payload is gone.
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
        lane = self._shared.lanes.get(stored.endpoint_id)
        if lane is None or not may_predict(lane.endpoint, owner):
            raise NotFound(f"the endpoint of the task {task_id!r} is gone", code="endpoint_not_found")
        payload, endpoint = await self._payload_bytes(stored, task_id), lane.endpoint
        schemas = await self._shared.schemas.get(endpoint.ready_bundle_id or endpoint.bundle_id)
        predict_input = await self._shared.schemas.checks.one(owner, payload, schemas)
        request = None if idempotency_key is None else await keyed(idempotency_key, endpoint.id, payload)
        return (await self._submitter.submit(lane, owner, [predict_input], request))[0]

    async def _payload(self, owner: str, task_id: str) -> Payload:
        stored = await self._store.read(lambda conn: lookups.get_payload(conn, owner, task_id), owner)
        if stored is None:
            raise no_task(task_id)
        return stored

    async def _payload_bytes(self, stored: Payload, task_id: str) -> bytes:
        if stored.payload is not None:
            return stored.payload
        if stored.payload_key is not None:
            return await self._shared.artifacts.get(stored.payload_key)
        raise NotFound(
            f"the payload of the task {task_id!r} is not kept: it succeeded, or its endpoint was deleted",
            code="payload_not_found",
        )


async def _pieces_of(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]

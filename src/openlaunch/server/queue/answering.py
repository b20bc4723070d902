"""Answers for tasks, and waits until they are done."""

import asyncio
from collections.abc import Callable, Sequence

from openlaunch.errors import NotFound
from openlaunch.server.prediction.results import pickled_body
from openlaunch.server.queue.shared import Shared
from openlaunch.tasks import lookups
from openlaunch.tasks.lookups import TaskRecord
from openlaunch.tasks.queue import Finished

Answerable = TaskRecord | Finished
"""A task as it is in the store, or its end as it has just been recorded."""


class Answerer:
    """Looks tasks up, and waits for their results. NotFound is raised for ids that are not the owner's tasks."""

    def __init__(self, shared: Shared) -> None:
        self._store, self._artifacts, self._hub = shared.store, shared.artifacts, shared.hub
        self._now = asyncio.get_running_loop().time

    async def get(self, owner: str, task_id: str, wait: float) -> Answerable:
        """Return the task, after waiting up to `wait` seconds for it to be done."""
        with self._hub.waiter([task_id]) as waiter:
            deadline = self._now() + wait
            if wait > 0 and self._hub.expects(task_id, owner) and not self._hub.closed:
                # The task runs here: its result comes to the waiter, without a look into the store.
                await waiter.wait(wait)
            while (finished := waiter.results.get(task_id)) is None:
                record = await self._store.read(lambda conn: lookups.get(conn, owner, task_id), owner)
                if record is None:
                    raise no_task(task_id)
                left = deadline - self._now()
                if record.state.done or left <= 0 or self._hub.closed:
                    return record
                await waiter.wait(left)
            return finished

    async def wait_for_any(self, owner: str, ids: Sequence[str], wait: float) -> Sequence[Answerable]:
        """Return those of the tasks that are done, after waiting up to `wait` seconds for the first."""
        with self._hub.waiter(ids) as waiter:
            deadline = self._now() + wait
            known = await self._store.read(lambda conn: lookups.known_ids(conn, owner, ids), owner)
            if missing := [task_id for task_id in ids if task_id not in known]:
                raise no_task(missing[0])
            while True:
                done = await self._store.read(
                    lambda conn: lookups.get_many(conn, owner, ids, only_done=True), owner
                )
                left = deadline - self._now()
                if done or left <= 0 or self._hub.closed:
                    return done
                await waiter.wait(left)
                if waiter.results:
                    return list(waiter.results.values())

    async def body_of(self, record: Answerable, make_url: Callable[[str], str]) -> bytes:
        """Make the JSON body that answers for a task; `make_url` signs the URL of a pickled result's key."""
        head = b'{"task_id": "%s", ' % record.id.encode()
        if not record.state.done:
            rest = b'"status": "%s", "result": null, "traceback": null, "status_code": null}'
            return head + rest % record.state.value.encode()
        body = record.result
        if body is None:
            key = record.result_key or ""
            body = pickled_body(make_url(key)) if key.endswith(".pkl") else await self._artifacts.get(key)
        return head + body[1:]


def no_task(task_id: str) -> NotFound:
    """Make the error for an unknown task."""
    text = f"no task has the id {task_id!r}: results are kept for a limited time"
    return NotFound(text, code="task_not_found")

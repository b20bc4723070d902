"""Answers for tasks, and waits until they are done."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from openlaunch.errors import NotFound
from openlaunch.server.prediction.results import pickled_body
from openlaunch.server.queue.notes import Notes
from openlaunch.server.queue.shared import Shared
from openlaunch.store.base import Store
from openlaunch.store.owners import owner_of
from openlaunch.tasks import lookups
from openlaunch.tasks.lookups import TaskRecord
from openlaunch.tasks.queue import Finished

PIECE_BYTES = 256 * 1024
PAGE_BYTES = 1024 * 1024

Answerable = TaskRecord | Finished
"""A task as it is in the store, or its end as it has just been recorded."""


class Answerer:
    """Looks tasks up, and waits for their results. NotFound is raised for ids that are not the owner's tasks."""

    def __init__(self, shared: Shared, notes: Notes) -> None:
        self._notes = notes
        self._store, self._artifacts, self._hub = shared.store, shared.artifacts, shared.hub
        self._now = asyncio.get_running_loop().time

    async def get(self, owner: str, task_id: str, wait: float) -> Answerable:
        """Return the task, after waiting up to `wait` seconds for it to be done."""
        with self._hub.waiter([task_id]) as waiter:
            deadline = self._now() + wait
            if wait > 0 and self._hub.expects(task_id, owner) and not self._hub.closed:
                # The task runs here: its result comes to the hub, without a look into the store.
                await waiter.wait(wait)
            while (finished := self._hub.results((task_id,), owner).get(task_id)) is None:
                record = await self._store.read(lambda conn: lookups.get(conn, owner, task_id), owner)
                if record is None:
                    raise no_task(task_id)
                left = deadline - self._now()
                if record.state.done or left <= 0 or self._hub.closed:
                    return record
                await waiter.wait(left)
            return finished

    async def get_for_admin(self, owner: str, task_id: str, wait: float) -> Answerable:
        """Return the owner's task as `get` does, or else another owner's."""
        try:
            return await self.get(owner, task_id, wait)
        except NotFound:
            other = await self._store.read(lambda conn: owner_of(conn, {"task_id": task_id}), owner)
            if other in (None, owner):
                raise
        return await self.get(other, task_id, wait)

    async def wait_for_any(self, owner: str, ids: Sequence[str], wait: float) -> "DoneTasks":
        """Find those of the tasks that are done, after waiting up to `wait` seconds for the first."""
        with self._hub.waiter(ids) as waiter:
            deadline, looked = self._now() + wait, False
            while True:
                done = self._hub.results(ids, owner)
                sizes = [] if done and looked else await self._look(owner, ids, done)
                if done or sizes or (left := deadline - self._now()) <= 0 or self._hub.closed:
                    return DoneTasks(self._store, owner, sizes, done.values())
                looked = True
                await waiter.wait(left)

    async def _look(
        self, owner: str, ids: Sequence[str], done: Mapping[str, Finished]
    ) -> list[tuple[str, int]]:
        """Find which others are done, and the sizes of their results; those that run here are not."""
        asked = [i for i in ids if i not in done and not self._hub.expects(i, owner)]
        if not asked:
            return []
        found = await self._store.read(lambda conn: lookups.progress_of(conn, owner, asked), owner)
        if missing := [task_id for task_id in asked if task_id not in found]:
            raise no_task(missing[0])
        return [(task_id, size) for task_id, size in found.items() if size is not None]

    async def pieces_of(self, record: Answerable, make_url: Callable[[str], str]) -> AsyncIterator[bytes]:
        """Make the JSON body that answers for a task, in pieces; of an artifact, no more is in memory at a time.

        `make_url` signs the URL of a pickled result's key. The first piece is the brace and the task's id, which an
        answer by name leaves out.
        """
        yield b'{"task_id": "%s", ' % record.id.encode()
        key = record.result_key or ""
        if not record.state.done:
            rest = b'"status": "%s", "result": null, "traceback": null, "status_code": null'
            yield rest % record.state.value.encode()
            notes = self._notes.of(record.id)
            yield b"}" if notes is None or notes.progress is None else b', "progress": %b}' % notes.progress
        elif record.result is not None:
            yield record.result[1:]
        elif key.endswith(".pkl"):
            yield pickled_body(make_url(key))[1:]
        else:
            start = 1  # behind the brace of the stored body, in whose place the task's id stands
            async for piece in self._artifacts.stream(key, PIECE_BYTES):
                yield piece[start:]
                start = 0


class DoneTasks:
    """Tasks of one owner that are done. Their results are read as they are asked for, a part of them at a time."""

    def __init__(
        self, store: Store, owner: str, sizes: Sequence[tuple[str, int]], announced: Iterable[Finished]
    ) -> None:
        self._store = store
        self._owner = owner
        self._sizes = sizes
        self._announced = announced

    async def records(self) -> AsyncIterator[Answerable]:
        """Give the tasks, without those that have been deleted meanwhile."""
        for finished in self._announced:
            yield finished
        owner = self._owner
        for page in _pages(self._sizes):
            for record in await self._store.read(partial(lookups.get_many, owner=owner, ids=page), owner):
                yield record


def _pages(sizes: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Group tasks so that the results of each group are not over `PAGE_BYTES` together, or are one."""
    page: list[str] = []
    held = 0
    for task_id, size in sizes:
        if page and held + size > PAGE_BYTES:
            yield page
            page, held = [], 0
        page.append(task_id)
        held += size
    if page:
        yield page


def body_of(record: Answerable, result: bytes) -> bytes:
    """Make the JSON body that answers for a task whose result is in memory."""
    return b'{"task_id": "%s", %s' % (record.id.encode(), result[1:])


def no_task(task_id: str) -> NotFound:
    """Make the error for an unknown task."""
    text = f"no task has the id {task_id!r}: results are kept for a limited time"
    return NotFound(text, code="task_not_found")

"""Follows a task: its state, its progress and its partial values, as they change."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from openlaunch.server.queue.answering import no_task
from openlaunch.server.queue.notes import Notes
from openlaunch.server.queue.shared import Shared
from openlaunch.tasks import lookups
from openlaunch.tasks import notes as stored
from openlaunch.tasks.states import State
from openlaunch.wire.sse import END_EVENT
from openlaunch.wire.tasks import TaskStatus

LOOK_SECONDS = 1.0
"""How long what a task says on another server of the cluster may take to be seen here."""

HEARTBEAT_SECONDS = 10.0
_HEARTBEAT = b": there is nothing new\n\n"


@dataclass(frozen=True, slots=True)
class Seen:
    """A task as it is now: `number` is that of the last note, and `partials` are those behind a number."""

    task_id: str
    status: TaskStatus
    done: bool
    number: int
    progress: bytes | None = field(default=None, repr=False)
    progress_is_new: bool = False
    partials: tuple[tuple[int, bytes], ...] = field(default=(), repr=False)

    def document(self) -> bytes:
        partials = b", ".join(b'{"number": %d, "value": %b}' % each for each in self.partials)
        return b'{"task_id": "%b", "status": "%b", "progress": %b, "partials": [%b], "next": %d}' % (
            self.task_id.encode(),
            self.status.encode(),
            self.progress or b"null",
            partials,
            self.number,
        )

    def events(self) -> bytes:
        """Return what is new as server-sent events."""
        found = [b"id: %d\nevent: partial\ndata: %b\n\n" % each for each in self.partials]
        if self.progress_is_new and self.progress is not None:
            found.append(b"id: %d\nevent: progress\ndata: %b\n\n" % (self.number, self.progress))
        return b"".join(found)


class Follower:
    """Looks at what tasks say, and waits for more. NotFound is raised for ids that are not the owner's tasks."""

    def __init__(self, shared: Shared, notes: Notes) -> None:
        self._store, self._hub = shared.store, shared.hub
        self._is_alone = shared.messages is None
        self._notes = notes
        self._now = asyncio.get_running_loop().time

    async def follow(self, owner: str, task_id: str, after: int, wait: float) -> Seen:
        """Return the task once it has said something behind the number `after`, or is done, or `wait` is over."""
        with self._hub.waiter([task_id]) as waiter, self._notes.followed(task_id, waiter.event):
            deadline = self._now() + wait
            while True:
                runs_here = self._hub.expects(task_id, owner)
                seen = await self._look(owner, task_id, after, runs_here=runs_here)
                left = deadline - self._now()
                if seen.done or seen.number > after or left <= 0 or self._hub.closed:
                    return seen
                hears_all = runs_here or self._is_alone
                await waiter.wait(left if hears_all else min(left, LOOK_SECONDS))

    async def _look(self, owner: str, task_id: str, after: int, *, runs_here: bool) -> Seen:
        notes, last = self._notes.of(task_id), None
        state = State.STARTED
        if not runs_here or notes is None:
            record, last = await self._store.read(
                lambda conn: (lookups.get(conn, owner, task_id), stored.get(conn, task_id)), owner
            )
            if record is None:
                raise no_task(task_id)
            state = record.state
            notes = self._notes.of(task_id)  # it may have begun, and ended, during the read
        status = TaskStatus.FAILURE if state is State.CANCELLED else TaskStatus(state.value)
        if notes is not None and (last is None or notes.number >= last.number):
            number, progress, partials = notes.number, notes.progress, tuple(notes.partials)
        elif last is not None:
            number, progress = last.number, last.progress
            partials = () if last.partial is None else ((last.partial_number or 0, last.partial),)
        else:
            number, progress, partials = 0, None, ()
        new = tuple(each for each in partials if each[0] > after)
        is_new = progress is not None and number > after
        return Seen(task_id, status, state.done, max(number, after), progress, is_new, new)

    async def events(self, owner: str, task_id: str, seen: Seen) -> AsyncIterator[bytes]:
        """Give what the task says as server-sent events, from what was seen on until it is done."""
        yield seen.events() or _HEARTBEAT
        while not seen.done and not self._hub.closed:
            seen = await self.follow(owner, task_id, seen.number, HEARTBEAT_SECONDS)
            yield seen.events() or _HEARTBEAT
        if seen.done:
            yield END_EVENT.replace(b"{}", b'{"status": "%b"}' % seen.status.encode())

"""What tasks say before their end: kept in memory for those who follow, and the last of it in the store."""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import orjson

from openlaunch.background import BackgroundTasks
from openlaunch.errors import Unavailable
from openlaunch.server import clock
from openlaunch.store.base import Store
from openlaunch.tasks import notes as stored
from openlaunch.tasks.notes import LastNote
from openlaunch_worker.context import MAX_PARTIALS, MAX_PARTIALS_BYTES, MAX_TEXT
from openlaunch_worker.frames import Body, FrameError, Kind

STORE_SECONDS = 1.0
"""How long notes are gathered until they are stored."""

MAX_TASKS = 10_000
MAX_BYTES = 64 * 1024 * 1024
KEPT_PARTIALS = 1000
KEPT_BYTES = 1024 * 1024
"""Limits on what is kept in memory: tasks, bytes of all, and partial values of one task, of which the oldest go."""

FREE_NOTES = 200
NOTES_A_SECOND = 50
"""How much a worker may say of a request: a keeping one says its progress 20 times a second at most."""


class TaskNotes:
    """What one task has said in its present attempt. Numbers grow with each note, over restarts too."""

    __slots__ = (
        "attempt",
        "began",
        "number",
        "owner",
        "partials",
        "progress",
        "said",
        "size",
        "total",
        "values",
    )

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.number = 0
        self.begin(None)

    def begin(self, attempt: object) -> None:
        """Forget what an attempt before has said."""
        self.attempt = attempt
        self.began = monotonic()
        self.progress: bytes | None = None
        self.partials: deque[tuple[int, bytes]] = deque()
        self.size = self.said = self.values = self.total = 0

    def add(self, kind: int, payload: bytes) -> None:
        """Take a note. Raise `FrameError` if it is not one, or more than a worker may send."""
        self.said += kind == Kind.PROGRESS
        self.values += kind == Kind.PARTIAL
        self.total += len(payload)
        often = self.said > FREE_NOTES + NOTES_A_SECOND * (monotonic() - self.began)
        if often or self.values > MAX_PARTIALS or self.total > 2 * MAX_PARTIALS_BYTES:
            raise FrameError("it says more of a request than is allowed")
        document = _parsed(payload)
        self.number = max(self.number + 1, int(clock.now() * 1000))
        if kind == Kind.PROGRESS:
            self.progress = _checked(document)
            return
        self.partials.append((self.number, payload))
        self.size += len(payload)
        while len(self.partials) > KEPT_PARTIALS or self.size > KEPT_BYTES:
            self.size -= len(self.partials.popleft()[1])

    def last(self, task_id: str) -> LastNote:
        number, partial = self.partials[-1] if self.partials else (None, None)
        return LastNote(task_id, self.number, self.progress, number, partial)


def _parsed(payload: bytes) -> Any:
    try:
        return orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise FrameError("a note that is not JSON") from None


def _checked(document: Any) -> bytes:
    """Return a progress as JSON; raise `FrameError` if it is not one."""
    fraction, text = (
        (document.get("fraction"), document.get("text")) if type(document) is dict else (None, None)
    )
    if type(fraction) is not float or not 0 <= fraction <= 1 or type(text) is not str or len(text) > MAX_TEXT:
        raise FrameError("a PROGRESS that is not a fraction from 0 to 1 and a text")
    return orjson.dumps({"fraction": fraction, "text": text})


class Notes:
    """The notes of the tasks that run here, and of those that did a while ago. Used in the event loop's thread."""

    def __init__(self, store: Store, background: BackgroundTasks) -> None:
        self.on_note: Callable[[str, TaskNotes], None] | None = None
        """Called with each task that has said something."""
        self._store = store
        self._background = background
        self._loop = asyncio.get_running_loop()
        self._by_task: OrderedDict[str, TaskNotes] = OrderedDict()
        """The notes of each task; the task that has said something last is the last."""
        self._bytes = 0
        self._unsaved: dict[str, TaskNotes] = {}
        self._followers: dict[str, set[asyncio.Event]] = {}

    def of(self, task_id: str) -> TaskNotes | None:
        return self._by_task.get(task_id)

    def add(self, task_id: str, owner: str, attempt: object, kind: int, payload: Body) -> None:
        """Take what an attempt of a task says, and wake those who follow it; raises what `TaskNotes.add` does."""
        notes = self._by_task.get(task_id) or TaskNotes(owner)
        before = notes.size
        if notes.attempt is not attempt:
            notes.begin(attempt)
        notes.add(kind, bytes(payload))
        self._bytes += notes.size - before
        self._by_task[task_id] = notes
        self._by_task.move_to_end(task_id)
        self._make_room()
        if not self._unsaved:
            self._loop.call_later(STORE_SECONDS, self._save_soon)
        self._unsaved[task_id] = notes
        for event in self._followers.get(task_id, ()):
            event.set()
        if self.on_note is not None:
            self.on_note(task_id, notes)

    def _make_room(self) -> None:
        while len(self._by_task) > MAX_TASKS or (self._bytes > MAX_BYTES and len(self._by_task) > 1):
            _, oldest = self._by_task.popitem(last=False)
            self._bytes -= oldest.size

    @contextmanager
    def followed(self, task_id: str, event: asyncio.Event) -> Iterator[None]:
        """Set the event whenever the task says something."""
        same = self._followers.setdefault(task_id, set())
        same.add(event)
        try:
            yield
        finally:
            same.discard(event)
            if not same and self._followers.get(task_id) is same:
                del self._followers[task_id]

    def _save_soon(self) -> None:
        self._background.spawn(self.save())

    async def save(self) -> None:
        """Store the last of what tasks have said. What can't be stored is said again soon, or was not the last."""
        unsaved, self._unsaved = self._unsaved, {}
        if not unsaved:
            return
        rows = [notes.last(task_id) for task_id, notes in unsaved.items()]
        try:
            await self._store.write(lambda conn: stored.put(conn, rows))
        except Unavailable as error:
            logging.getLogger(__name__).warning(
                "what %d tasks have said could not be stored: %s", len(rows), error
            )

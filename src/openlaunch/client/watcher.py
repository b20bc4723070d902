"""Calls the done-callbacks of a client's futures: from one background thread, or one task of the event loop."""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from openlaunch.client.effects import Flow
from openlaunch.client.waiting import Future, Group
from openlaunch.errors import OpenlaunchError

log = logging.getLogger(__name__)
T = TypeVar("T")

POLL_SECONDS = 0.5
"""How long one bulk wait is held: so late may a future that is added meanwhile be noticed."""

MAX_WATCHED = 100_000


class Run(Protocol):
    """Runs flows."""

    def __call__(self, flow: Flow[T]) -> T:
        """Run a flow."""
        ...


class RunAsync(Protocol):
    """Runs flows, awaitable."""

    def __call__(self, flow: Flow[T]) -> Coroutine[Any, Any, T]:
        """Run a flow."""
        ...


class Watched:
    """A future with a callback, as a group of futures takes it."""

    def __init__(self, future: Future, callback: Callable[[Any], object]) -> None:
        self.client = future.client
        self.async_task_id = future.async_task_id
        self.answer = None
        self.keep = future.keep
        self._future = future
        self._callback = callback

    def call(self) -> None:
        """Call back; what the callback raises is logged."""
        try:
            self._callback(self._future)
        except Exception:
            log.exception("a done-callback of task %s raised", self.async_task_id)


def _check_room(closed: bool, count: int) -> None:
    if closed or count >= MAX_WATCHED:
        reason = "the client is closed" if closed else f"{MAX_WATCHED} callbacks wait already"
        raise RuntimeError(f"no callback can be added: {reason}")


def _given_up(group: "Group[Watched]", error: OpenlaunchError) -> list[Watched]:
    log.error("tasks can't be waited for: %s; their callbacks are called now, get() says the same", error)
    return group.members()


class Watcher:
    """One daemon thread, which is there only while there is something to watch."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._new: list[Watched] = []
        self._count = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, future: Future, callback: Callable[[Any], object]) -> None:
        """Call `callback(future)` once the task is done.

        Raises:
            RuntimeError: the client is closed, or watches too many futures already.

        """
        with self._lock:
            _check_room(self._closed, self._count)
            self._new.append(Watched(future, callback))
            self._count += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="openlaunch-callbacks", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Call nobody back any more; waits a moment for a poll that is under way."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * POLL_SECONDS)

    def _loop(self) -> None:
        group: Group[Watched] = Group(None)
        while self._take_new(group):
            try:
                done = self._run(group.poll(POLL_SECONDS))
            except OpenlaunchError as error:
                log.error(
                    "callbacks can't be waited for: %s; they are called now, get() says the same", error
                )
                done, group = group.members(), Group(None)
            for watched in done:
                watched.call()
            with self._lock:
                self._count -= len(done)

    def _take_new(self, group: Group[Watched]) -> bool:
        with self._lock:
            for watched in self._new:
                group.add(watched)
            self._new.clear()
            if self._closed or not group:
                self._thread = None
                return False
            return True


class AsyncWatcher:
    """The same in an event loop: one task, which is there only while there is something to watch."""

    def __init__(self, run: RunAsync) -> None:
        self._run = run
        self._new: list[Watched] = []
        self._count = 0
        self._closed = False
        self._task: asyncio.Task[None] | None = None

    def add(self, future: Future, callback: Callable[[Any], object]) -> None:
        """Call `callback(future)` once the task is done; raises what `Watcher.add` does."""
        _check_room(self._closed, self._count)
        self._new.append(Watched(future, callback))
        self._count += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._loop())

    async def close(self) -> None:
        """Call nobody back any more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _loop(self) -> None:
        group: Group[Watched] = Group(None)
        while self._take_new(group):
            try:
                done = await self._run(group.poll(POLL_SECONDS))
            except OpenlaunchError as error:
                done, group = _given_up(group, error), Group(None)
            for watched in done:
                watched.call()
            self._count -= len(done)

    def _take_new(self, group: Group[Watched]) -> bool:
        for watched in self._new:
            group.add(watched)
        self._new.clear()
        if not group:
            self._task = None
        return bool(group)

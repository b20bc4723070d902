"""Calls the done-callbacks of a client's futures: from one background thread, or one task of the event loop."""

import asyncio
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

from openlaunch.client.effects import Flow
from openlaunch.client.immediate import finished
from openlaunch.client.waiting import Future, Group
from openlaunch.errors import OpenlaunchError

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""How long one bulk wait is held: so late may a future that is added meanwhile be noticed."""

MAX_WATCHED = 100_000

Run = Callable[[Flow[list["Watched"]]], Coroutine[Any, Any, list["Watched"]]]
"""Runs a flow."""


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


class _Watcher(ABC):
    """Polls while there is something to watch."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._closed = False
        self.forget()

    def forget(self) -> None:
        """Begin anew, in a forked process too: what its parent waits for is the parent's."""
        self._lock = threading.Lock()
        self._new: list[Watched] = []
        self._count = 0
        self._running = False

    def add(self, future: Future, callback: Callable[[Any], object]) -> None:
        """Call `callback(future)` once the task is done.

        Raises RuntimeError when the client is closed, or watches too many futures already.
        """
        with self._lock:
            self._check_room()
            self._new.append(Watched(future, callback))
            self._count += 1
            if not self._running:
                self._running = True
                self._start()

    def _check_room(self) -> None:
        if self._closed or self._count >= MAX_WATCHED:
            reason = "the client is closed" if self._closed else f"{MAX_WATCHED} callbacks wait already"
            raise RuntimeError(f"no callback can be added: {reason}")

    @abstractmethod
    def _start(self) -> None: ...

    async def _watch(self) -> None:
        group: Group[Watched] = Group(None)
        while self._take_new(group):
            try:
                done = await self._run(group.poll(POLL_SECONDS))
            except OpenlaunchError as error:
                log.error(
                    "can't wait for tasks: %s; calling their callbacks now, get() raises this too", error
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
            self._running = bool(group) and not self._closed
            return self._running


class Watcher(_Watcher):
    """Watches from one daemon thread, which is there only while there is something to watch."""

    def forget(self) -> None:
        super().forget()
        self._thread: threading.Thread | None = None

    def _start(self) -> None:
        name = "openlaunch-callbacks"
        self._thread = threading.Thread(target=finished, args=(self._watch(),), name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Call nobody back from now on; waits a moment for a poll that is under way."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(2 * POLL_SECONDS)


class AsyncWatcher(_Watcher):
    """Watches from one task of an event loop, which is there only while there is something to watch."""

    def forget(self) -> None:
        super().forget()
        self._task: asyncio.Task[None] | None = None

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    async def close(self) -> None:
        """Call nobody back from now on."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

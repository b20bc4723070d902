"""Wakes requests that wait for tasks to be done."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from time import monotonic

from openlaunch.errors import TooManyRequests
from openlaunch.tasks.queue import Finished

RECENT_SECONDS = 60.0
"""How long a result is kept in memory after its task has ended."""
MAX_RECENT_BYTES = 8 * 1024 * 1024
"""Limit of these results together."""
_RESULT_BYTES = 600
"""What a result takes beside its body."""

_Recent = tuple[str, Finished, float]
"""The owner of a task that has ended here, its result, and when that was announced."""


def _size(result: Finished) -> int:
    return _RESULT_BYTES + len(result.result or b"")


class Waiter:
    """Waits for the first of some tasks. Made by `Hub.waiter`; to be used as a context manager."""

    def __init__(self, hub: "Hub", ids: Iterable[str]) -> None:
        self._hub = hub
        self.ids = frozenset(ids)
        self.event = asyncio.Event()

    def __enter__(self) -> "Waiter":
        self._hub._add(self)
        return self

    def __exit__(self, *exc: object) -> None:
        self._hub._remove(self)

    async def wait(self, timeout: float) -> bool:
        """Wait for an announcement up to `timeout` seconds, and return whether there was one."""
        try:
            async with asyncio.timeout(timeout):
                await self.event.wait()
        except TimeoutError:
            return False
        self.event.clear()
        return True


class Hub:
    """Who waits for which task, and the results of those that have just ended, in memory.

    Enter the waiter first, then look into the store, then wait: an announcement between the look and the
    wait is kept, so that none is lost.
    """

    def __init__(self, max_waiters: int = 10_000, recent_seconds: float = RECENT_SECONDS) -> None:
        self._max, self._recent_seconds = max_waiters, recent_seconds
        self._waiters: set[Waiter] = set()
        self._by_id: dict[str, set[Waiter]] = {}
        self._expected: dict[str, str] = {}
        self._recent: dict[str, _Recent] = {}
        self._recent_bytes = 0
        self.closed = False
        """Whether waits return at once, because the server stops."""
        self.on_ended: Callable[[Iterable[str]], None] | None = None
        """Called with tasks that this server has ended, for those who wait elsewhere."""

    def waiter(self, ids: Iterable[str]) -> Waiter:
        """Make a waiter for any of these tasks; entering it raises TooManyRequests if too many wait already."""
        return Waiter(self, ids)

    def expect(self, task_id: str, owner: str) -> None:
        """Note that this server runs the owner's task, so that its result will be announced here."""
        self._expected[task_id] = owner

    def forget(self, task_id: str) -> None:
        """Note that this server runs the task no longer."""
        self._expected.pop(task_id, None)

    def expects(self, task_id: str, owner: str) -> bool:
        """Return whether the owner's task is not done, and its result will be announced here."""
        return self._expected.get(task_id) == owner

    def results(self, ids: Iterable[str], owner: str) -> dict[str, Finished]:
        """Return the results of those of the owner's tasks that have ended here a moment ago."""
        found, since = {}, monotonic() - self._recent_seconds
        for task_id in ids:
            recent = self._recent.get(task_id)
            if recent is not None and recent[0] == owner and recent[2] > since:
                found[task_id] = recent[1]
        return found

    def drop(self, ids: Iterable[str]) -> None:
        """Forget the results of tasks, which are deleted."""
        for task_id in ids:
            if (recent := self._recent.pop(task_id, None)) is not None:
                self._recent_bytes -= _size(recent[1])

    def announce(self, ids: Collection[str], results: Mapping[str, Finished] | None = None) -> None:
        """Wake the waiters of these tasks, here and elsewhere, which are done, some with these results."""
        self.wake(ids, results)
        if self.on_ended is not None:
            self.on_ended(ids)

    def waited_for(self) -> list[str]:
        """List the tasks that somebody waits for here, and that run elsewhere or not yet."""
        return [task_id for task_id in self._by_id if task_id not in self._expected]

    def wake(self, ids: Iterable[str], results: Mapping[str, Finished] | None = None) -> None:
        """Wake the waiters of these tasks here, some with these results."""
        now = monotonic()
        for task_id in ids:
            owner = self._expected.pop(task_id, None)
            result = None if results is None else results.get(task_id)
            if owner is not None and result is not None:
                self._recent[task_id] = owner, result, now
                self._recent_bytes += _size(result)
            for waiter in self._by_id.get(task_id, ()):
                waiter.event.set()
        while self._recent_bytes > MAX_RECENT_BYTES:
            self.drop((next(iter(self._recent)),))

    def close(self) -> None:
        """Wake every waiter, present and future: the server stops."""
        self.closed = True
        for waiter in self._waiters:
            waiter.event.set()

    def _add(self, waiter: Waiter) -> None:
        if len(self._waiters) >= self._max:
            raise TooManyRequests(
                f"{self._max} requests wait for results already, which is the limit", retry_after=1
            )
        self._waiters.add(waiter)
        for task_id in waiter.ids:
            self._by_id.setdefault(task_id, set()).add(waiter)
        if self.closed:
            waiter.event.set()

    def _remove(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)
        for task_id in waiter.ids:
            waiting = self._by_id.get(task_id)
            if waiting is not None:
                waiting.discard(waiter)
                if not waiting:
                    del self._by_id[task_id]

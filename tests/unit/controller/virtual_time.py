"""An event loop whose time passes only while nothing is to be done, and then at once."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it. For code without threads and without sockets."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        self.run_until_complete(work)

    def cancel_all(self) -> None:
        """End every task."""
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        if tasks:
            self.run_until_complete(asyncio.wait(tasks))


class _Selector(selectors.SelectSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "nothing will ever happen any more"
        self._loop.now += timeout
        return []

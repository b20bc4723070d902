"""Tasks that answer requests which must wait for something other than a worker."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from openlaunch.server.gateway.exchange import Exchange


class RequestTasks:
    """Runs coroutines that answer requests; what one raises is the answer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, answer: Coroutine[Any, Any, None], exchange: Exchange) -> asyncio.Task[None]:
        """Answer the request in a task, which is returned."""
        task = self._loop.create_task(answer)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._ended(done, exchange))
        return task

    def _ended(self, task: asyncio.Task[None], exchange: Exchange) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            exchange.guarded(task.result)
        if exchange.outlives_client:
            exchange.let_go()

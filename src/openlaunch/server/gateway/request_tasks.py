"""Tasks that answer requests which must wait for something other than a worker."""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from openlaunch.errors import APIError
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.logs import Subject


class RequestTasks:
    """Runs coroutines that answer requests; what one raises is the answer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, answer: Coroutine[Any, Any, None], exchange: Exchange) -> asyncio.Task[None]:
        """Answer the request in a task, which is returned."""
        subject = Subject(exchange.scope)
        task = self._loop.create_task(answer, context=subject.context())
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, exchange, subject))
        return task

    def _ended(self, exchange: Exchange, subject: Subject, task: asyncio.Task[None]) -> None:
        subject.end()
        self._tasks.discard(task)
        if not task.cancelled():
            exchange.guarded(task.result)
        if exchange.outlives_client:
            exchange.let_go()


async def counted(lane: Lane, preparing: Coroutine[Any, Any, None]) -> None:
    """Prepare a prediction of the lane's endpoint, and count it where it is refused."""
    try:
        await preparing
    except APIError as error:
        lane.numbers.refused.refused(error)
        raise

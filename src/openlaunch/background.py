"""Tasks that run in the background: nobody awaits them, so something has to hold them and look at their errors."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


class BackgroundTasks:
    """Holds each task until it ends, and logs the error of one that fails.

    The event loop itself holds a task weakly, and an error that nobody asks for shows when the task is collected.
    """

    def __init__(self, failed: str) -> None:
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run the coroutine in a task. `failed`, from the constructor, is what the log says of its error."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s", self._failed, exc_info=error)

    def cancel(self) -> None:
        """Cancel every task, without waiting for its end."""
        for task in self._tasks:
            task.cancel()

    async def stop(self) -> None:
        """Cancel every task, and wait until all have ended."""
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Background(ABC):
    """Something that works in the background from `start` to `stop`."""

    def __init__(self, failed: str) -> None:
        """Take what the log says if its work ends with an error."""
        self._background = BackgroundTasks(failed)

    @abstractmethod
    async def _run(self) -> None:
        """Do the work, until it is cancelled."""

    def start(self) -> None:
        """Begin."""
        self._background.spawn(self._run())

    async def stop(self) -> None:
        """End, wherever the work is."""
        await self._background.stop()

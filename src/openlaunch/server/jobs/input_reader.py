"""Files of users are read in a process of their own, which is given a file's pieces and answers in parts."""

import asyncio
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from openlaunch.artifacts.base import Artifacts
from openlaunch.server.prediction.compute_process import ProcessApart
from openlaunch.tasks.batch_input import InputError

T = TypeVar("T")

PIECE_SECONDS = 60.0
_MODULE = "openlaunch.server.jobs.file_process"


class InputReader:
    """Has artifacts read by processes, up to `most` at once."""

    def __init__(self, artifacts: Artifacts, most: int) -> None:
        self._artifacts = artifacts
        # A thread for each: those that wait for slow inputs take none that others need.
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="batch-inputs")

    @asynccontextmanager
    async def read(self, key: str, order: object) -> AsyncIterator[AsyncIterator[Any]]:
        """Give the parts in which a process answers an order about an artifact.

        The iterator raises InputError where the artifact can't be read as ordered.
        """
        process = ProcessApart(_MODULE)
        pieces = _pulled(self._artifacts.stream(key), asyncio.get_running_loop())
        answers = _answers(process, pieces, order)

        async def parts() -> AsyncIterator[Any]:
            while True:
                yield await self._in_thread(next, answers)

        try:
            yield parts()
        finally:
            process.kill()
            with suppress(ValueError):  # a thread that still waits for an answer ends with the process
                await self._in_thread(answers.close)

    def _in_thread(self, call: Callable[..., T], *args: object) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._threads, call, *args)


def _pulled(pieces: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """Yield the pieces in a thread beside the loop's."""

    async def following() -> bytes | None:
        return await anext(pieces, None)

    while True:
        piece = asyncio.run_coroutine_threadsafe(following(), loop).result(PIECE_SECONDS)
        if piece is None:
            return
        yield piece


def _answers(process: ProcessApart, pieces: Iterator[bytes], order: object) -> Generator[Any]:
    """Give the process the pieces of the file as it asks for them, and yield the parts of its answer."""
    try:
        channel = process.channel()
        channel.send(order)
        while True:
            while (answer := channel.receive()) is None:
                channel.send(next(pieces, b""))
            if isinstance(answer, InputError):
                raise answer
            yield answer
            channel.send(None)
    except (OSError, EOFError):
        raise InputError("a part of the input takes too much time or memory to be read") from None
    finally:
        process.stop()

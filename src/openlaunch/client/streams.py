"""Items out of an answer's bytes as they come: read one way for both clients, iterated over in two."""

import _thread
import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Generic, Self, TypeVar

from openlaunch.client.effects import Response
from openlaunch.client.immediate import finished
from openlaunch.client.retry import TransportFailure

T = TypeVar("T")


class Reading(Generic[T]):
    """Reads the items of one answer, and of those that continue it.

    Args:
        response: the answer that begins the stream.
        feed: gives the items that are complete with a piece.
        resume: called with the reason when the bytes end; gives the answer that continues them, gives None at the
            stream's own end, or raises.
        on_stop: called when the stream is left before its end.

    Attributes:
        ready: items that have come and are not taken yet.
        ended: whether nothing follows them.
    """

    def __init__(
        self,
        response: Response,
        feed: Callable[[bytes], Iterator[T]],
        resume: Callable[[object], Awaitable[Response | None]],
        on_stop: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        assert response.stream is not None
        self.ready: Iterator[T] = iter(())
        self.ended = False
        self._body = response.stream
        self._feed = feed
        self._resume = resume
        self._on_stop = on_stop
        self._stopped = False
        self._process = os.getpid()

    async def more(self) -> bool:
        """Wait for items to be ready; return False at the end.

        Raises StreamInterrupted when the stream was cut before its end, and can't be resumed.
        """
        while not self.ended:
            reason: object = "the connection was closed"
            try:
                if piece := await self._body.read():
                    self.ready = self._feed(piece)
                    return True
            except TransportFailure as failure:
                reason = failure
            again = None if self._stopped else await self._resume(reason)
            if again is None:
                await self.release()
                return False
            assert again.stream is not None
            await self._body.close()
            self._body = again.stream
        return False

    async def release(self) -> None:
        self.ended = True
        await self._body.close()

    async def stop(self) -> None:
        """Leave the stream; harmless when called twice, and in a process that was forked from the reader's."""
        if not self._stopped and self._process == os.getpid():
            self._stopped = self.ended = True
            await self._body.close()
            if self._on_stop is not None:
                await self._on_stop()


class Stream(Generic[T]):
    """Items as they come: iterate over it, once. Leave it early with `close()`, or use it in a `with` statement."""

    def __init__(self, reading: Reading[T]) -> None:
        self._reading = reading

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """Wait for the next item.

        Raises StreamInterrupted when the stream was cut before its end, and can't be resumed.
        """
        try:
            while True:
                for item in self._reading.ready:
                    return item
                if not finished(self._reading.more()):
                    raise StopIteration
        except Exception:
            finished(self._reading.release())
            raise
        except BaseException:  # Ctrl-C: nobody reads on
            finished(self._reading.stop())
            raise

    def close(self) -> None:
        """Free the connection, and stop what feeds it; harmless when called twice."""
        finished(self._reading.stop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        # In a thread, because this may run in the middle of anything, and stopping talks to the server.
        if not self._reading.ended:
            with suppress(RuntimeError):  # the program ends, and its connections with it
                _thread.start_new_thread(finished, (self._reading.stop(),))


class AwaitableStream(Generic[T]):
    """Items as they come, for `async for` and `async with`; as `Stream` otherwise."""

    def __init__(self, reading: Reading[T]) -> None:
        self._reading = reading
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        """Wait for the next item.

        Raises StreamInterrupted when the stream was cut before its end, and can't be resumed.
        """
        try:
            while True:
                for item in self._reading.ready:
                    return item
                if not await self._reading.more():
                    raise StopAsyncIteration
        except Exception:
            await self._reading.release()
            raise
        except BaseException:  # it is cancelled: nobody reads on
            await self._reading.stop()
            raise

    async def close(self) -> None:
        """Free the connection, and stop what feeds it; harmless when called twice."""
        await self._reading.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        if not self._reading.ended:
            with suppress(RuntimeError):  # the loop is closed, and its connections with it
                self._loop.call_soon_threadsafe(_stop, self._reading)


def _stop(reading: Reading[T]) -> None:
    stopping = asyncio.ensure_future(reading.stop())
    _stopping.add(stopping)
    stopping.add_done_callback(_stopping.discard)


_stopping: set[asyncio.Future[None]] = set()
"""The loop itself holds its tasks weakly."""

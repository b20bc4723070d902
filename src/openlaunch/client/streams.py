"""Items out of an answer's bytes as they come: read one way for both clients, iterated over in two."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
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
    """

    def __init__(
        self,
        response: Response,
        feed: Callable[[bytes], Iterator[T]],
        resume: Callable[[object], Awaitable[Response | None]],
        on_stop: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        assert response.stream is not None
        self._body = response.stream
        self._feed = feed
        self._resume = resume
        self._on_stop = on_stop
        self._stopped = False

    async def more(self) -> Iterator[T] | None:
        """Give the items of the next piece; None at the end."""
        while True:
            reason: object = "the connection was closed"
            try:
                if piece := await self._body.read():
                    return self._feed(piece)
            except TransportFailure as failure:
                reason = failure
            again = None if self._stopped else await self._resume(reason)
            if again is None:
                return None
            assert again.stream is not None
            await self._body.close()
            self._body = again.stream

    async def release(self) -> None:
        await self._body.close()

    async def stop(self) -> None:
        """Leave the stream; harmless when called twice."""
        if not self._stopped:
            self._stopped = True
            await self._body.close()
            if self._on_stop is not None:
                await self._on_stop()


class Stream(Generic[T]):
    """Items as they come: iterate over it, once. Leave it early with `close()`, or use it in a `with` statement."""

    def __init__(self, reading: Reading[T]) -> None:
        self._reading = reading
        self._items = self._read()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """Wait for the next item.

        Raises StreamInterrupted when the stream was cut before its end, and can't be resumed.
        """
        return next(self._items)

    def _read(self) -> Iterator[T]:
        try:
            while (items := finished(self._reading.more())) is not None:
                yield from items
        finally:
            finished(self._reading.release())

    def close(self) -> None:
        """Free the connection, and stop what feeds it; harmless when called twice."""
        finished(self._reading.stop())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AwaitableStream(Generic[T]):
    """Items as they come, for `async for` and `async with`; as `Stream` otherwise."""

    def __init__(self, reading: Reading[T]) -> None:
        self._reading = reading
        self._items = self._read()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        """Wait for the next item.

        Raises StreamInterrupted when the stream was cut before its end, and can't be resumed.
        """
        return await anext(self._items)

    async def _read(self) -> AsyncIterator[T]:
        try:
            while (items := await self._reading.more()) is not None:
                for item in items:
                    yield item
        finally:
            await self._reading.release()

    async def close(self) -> None:
        """Free the connection, and stop what feeds it; harmless when called twice."""
        await self._reading.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

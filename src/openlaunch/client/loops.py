"""One thing for each event loop, so that a client may be used in several, one after the other or at once."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

from openlaunch.client.forks import bury, hold
from openlaunch.client.immediate import finished

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Things that belong to an event loop each: made at the first use in it, closed when the loop shuts down.

    Args:
        make: makes one, in the running loop.
        shut: closes one, in its loop.
    """

    def __init__(self, make: Callable[[], T], shut: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._shut = shut
        self._made: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        self._closed = False
        hold(self)

    def get(self) -> T:
        """Give the running loop's own.

        Raises RuntimeError when the client is closed, or no loop of asyncio runs.
        """
        loop = _running()
        made = self._made.get(loop)
        return self._new(loop) if made is None else made[0]

    def _new(self, loop: asyncio.AbstractEventLoop) -> T:
        if self._closed:
            raise RuntimeError("the client is closed")
        for other in [other for other in self._made if other.is_closed()]:
            self._made.pop(other, None)
        thing = self._make()
        # asyncio closes the generators that a loop has seen when the loop shuts down.
        life = _until_closed(self._shut, thing)
        finished(anext(life))
        self._made[loop] = thing, life
        return thing

    async def close(self) -> None:
        """Close the running loop's own now, and those of other loops as these run; harmless when called twice."""
        self._closed = True
        made, self._made = self._made, {}
        mine = made.pop(_running(), None)
        # A generator that nobody holds is closed by its loop.
        made.clear()
        if mine is not None:
            await mine[1].aclose()

    def forget(self) -> None:
        """Begin anew in a forked process, where the parent's loops are copies that must not act."""
        made, self._made = self._made, {}
        bury(made)
        for thing, _ in made.values():
            if hasattr(thing, "forget"):
                thing.forget()


def _running() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "no event loop of asyncio runs here, which the awaitable client needs: run it with asyncio.run, or with "
            "anyio's backend asyncio; under trio, call openlaunch.LaunchClient in a thread (trio.to_thread.run_sync)"
        ) from None


async def _until_closed(shut: Callable[[T], Awaitable[None]], thing: T) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await shut(thing)

"""Runs flows: the same rules, blocking or awaitable."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from openlaunch.client.effects import Attempt, Effect, Flow, ForOwner, Pause, Request, for_owner
from openlaunch.client.immediate import as_coroutine
from openlaunch.client.retry import RetryPolicy, exchange
from openlaunch.client.routing import awaitable_transport, blocking_transport
from openlaunch.client.spans import in_current_span
from openlaunch.client.transport import Target, Transport

T = TypeVar("T")


class Driver:
    """Runs flows. Of the blocking client: in the calling thread, and any number of threads may use it.

    Args:
        transport: sends requests.
        retry: when they are sent again.
        sleep: waits for some seconds.
        in_background: calls a function that may take a while.
        owner: whom an admin's requests are made for; None: the caller.
    """

    def __init__(
        self,
        transport: Transport,
        retry: RetryPolicy,
        sleep: Callable[[float], Awaitable[None]],
        in_background: Callable[[Callable[[], Any]], Awaitable[Any]],
        owner: str | None = None,
    ) -> None:
        self._transport = transport
        self._retry = retry
        self._sleep = sleep
        self._in_background = in_background
        self._owner = owner

    @classmethod
    def blocking(cls, target: Target, retry: RetryPolicy) -> "Driver":
        return cls(
            blocking_transport(target), retry, as_coroutine(time.sleep), as_coroutine(_call), target.owner
        )

    @classmethod
    def awaitable(cls, target: Target, retry: RetryPolicy) -> "Driver":
        return cls(awaitable_transport(target), retry, asyncio.sleep, asyncio.to_thread, target.owner)

    async def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end, and give what it returns."""
        try:
            effect = next(flow)
            while True:
                try:
                    answer = await self._perform(effect)
                except Exception as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    def _perform(self, effect: Effect) -> Awaitable[Any]:
        if isinstance(effect, Attempt):
            request = in_current_span(effect.request)
            return self._transport.send(request if self._owner is None else for_owner(request, self._owner))
        if isinstance(effect, Request):
            return self.run(exchange(effect, self._retry))
        if isinstance(effect, Pause):
            return self._sleep(effect.seconds)
        if isinstance(effect, ForOwner):
            return self._acting_for(effect.owner).run(effect.flow)
        return self._in_background(effect.function)

    def _acting_for(self, owner: str) -> "Driver":
        return Driver(self._transport, self._retry, self._sleep, self._in_background, owner)

    async def close(self) -> None:
        await self._transport.close()


def _call(function: Callable[[], T]) -> T:
    return function()

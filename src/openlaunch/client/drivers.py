"""Runs flows: the same rules, blocking or awaitable."""

import asyncio
import time
from typing import Any, TypeVar

from openlaunch.client.effects import Attempt, Effect, Flow, Pause, Request, Work
from openlaunch.client.retry import RetryPolicy, exchange
from openlaunch.client.transport import AsyncTransport, Transport

T = TypeVar("T")


class Driver:
    """Runs flows in the calling thread; any number of threads may use it."""

    def __init__(self, transport: Transport, retry: RetryPolicy) -> None:
        self._transport = transport
        self._retry = retry

    def run(self, flow: Flow[T]) -> T:
        """Run a flow to its end, and give what it returns."""
        try:
            effect = next(flow)
            while True:
                try:
                    answer = self._perform(effect)
                except Exception as error:
                    effect = flow.throw(error)
                else:
                    effect = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            flow.close()

    def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Attempt):
            return self._transport.send(effect.request)
        if isinstance(effect, Request):
            return self.run(exchange(effect, self._retry))
        if isinstance(effect, Pause):
            return time.sleep(effect.seconds)
        return effect.function()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


class AsyncDriver:
    """Runs flows in the event loop's thread."""

    def __init__(self, transport: AsyncTransport, retry: RetryPolicy) -> None:
        self._transport = transport
        self._retry = retry

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

    async def _perform(self, effect: Effect) -> Any:
        if isinstance(effect, Attempt):
            return await self._transport.send(effect.request)
        if isinstance(effect, Request):
            return await self.run(exchange(effect, self._retry))
        if isinstance(effect, Pause):
            return await asyncio.sleep(effect.seconds)
        assert isinstance(effect, Work)
        return await asyncio.to_thread(effect.function)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

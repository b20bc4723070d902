"""One way to call the blocking and the awaitable client, so that a test runs over both."""

import asyncio

import openlaunch
from openlaunch import aio

FLAVOURS = ["blocking", "awaitable"]


class Both:
    """The same calls to either client, so that each test runs over both."""

    def __init__(self, flavour, url, key="key", **options):
        self.loop = asyncio.Runner() if flavour == "awaitable" else None
        module = aio if self.loop else openlaunch
        self.client = self.call(lambda: module.LaunchClient(key, url, **options))

    def call(self, function, *args, **kwargs):
        if self.loop is None:
            return function(*args, **kwargs)

        async def awaited():
            result = function(*args, **kwargs)
            return await result if asyncio.iscoroutine(result) else result

        return self.loop.run(awaited())

    def items(self, stream):
        if self.loop is None:
            return list(stream)

        async def collect():
            return [item async for item in stream]

        return self.loop.run(collect())

    def close(self):
        self.call(self.client.close)
        if self.loop is not None:
            self.loop.close()

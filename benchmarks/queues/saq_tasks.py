"""SAQ on Redis, or on PostgreSQL where `BENCH_POSTGRES` names a database; ten at once."""

import asyncio
import os

from saq import Queue

queue = Queue.from_url(os.environ.get("BENCH_POSTGRES", "redis://127.0.0.1:6399/4"))


async def null(ctx, *, x, y):
    return x * 2 + len(y)


settings = {"queue": queue, "functions": [null], "concurrency": 10}


async def submit():
    return await queue.enqueue("null", x=2, y="hello")


async def round_trip():
    # Its own waiting, by subscription, now and then misses the end of a task as short as this one, and waits on.
    job = await submit()
    while not job.completed:
        await asyncio.sleep(0.001)
        await job.refresh()
    return job.result


async def results(handles):
    """All of them: by looking at the queue until it is empty."""
    while await queue.count("incomplete"):
        await asyncio.sleep(0.02)
    found = []
    for start in range(0, len(handles), 500):
        jobs = await queue.jobs([handle.key for handle in handles[start : start + 500]])
        found += [job.result for job in jobs]
    return found


async def begin():
    await queue.connect()

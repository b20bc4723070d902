"""`drive.py MODULE TASKS ROUND_TRIPS` submits tasks of a module here, and waits until every result is known.

Prints one line of JSON, as openlaunch/queue_client.py does.
"""

import asyncio
import importlib
import inspect
import json
import statistics
import sys
import time

SUBMITTERS = 32


def blocking(tasks_of, tasks, round_trips):
    for handle in [tasks_of.submit() for _ in range(50)]:
        assert tasks_of.result(handle) == 9
    began = time.perf_counter()
    handles = [tasks_of.submit() for _ in range(tasks)]
    submitted = time.perf_counter() - began
    for handle in handles:
        assert tasks_of.result(handle) == 9
    took = time.perf_counter() - began
    times = []
    for _ in range(round_trips):
        began = time.perf_counter()
        assert tasks_of.result(tasks_of.submit()) == 9
        times.append((time.perf_counter() - began) * 1000)
    return submitted, took, times


async def awaitable(tasks_of, tasks, round_trips):
    await tasks_of.begin()
    assert await tasks_of.round_trip() == 9
    handles = []

    async def submit(count):
        handles.extend([await tasks_of.submit() for _ in range(count)])

    began = time.perf_counter()
    await asyncio.gather(*(submit(tasks // SUBMITTERS) for _ in range(SUBMITTERS)))
    submitted = time.perf_counter() - began
    assert set(await tasks_of.results(handles)) == {9}
    took = time.perf_counter() - began
    times = []
    for _ in range(round_trips):
        began = time.perf_counter()
        assert await tasks_of.round_trip() == 9
        times.append((time.perf_counter() - began) * 1000)
    return submitted, took, times


def main():
    tasks_of, tasks, round_trips = importlib.import_module(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    tasks -= tasks % SUBMITTERS
    if inspect.iscoroutinefunction(tasks_of.submit):
        submitted, took, times = asyncio.run(awaitable(tasks_of, tasks, round_trips))
    else:
        submitted, took, times = blocking(tasks_of, tasks, round_trips)
    times.sort()
    print(
        json.dumps(
            {
                "rate": tasks / took,
                "submit_rate": tasks / submitted,
                "p50": statistics.median(times),
                "p99": times[int(len(times) * 0.99)],
            }
        )
    )


if __name__ == "__main__":
    main()

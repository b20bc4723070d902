"""What our clients cost: `round_trips.py SECONDS`, against the endpoint and the reference that the environment names.

Prints one line of JSON: microseconds of a round trip of one blocking thread, of our client to our server and of
`http.client` to the reference; and of each of 32 at once in one event loop, of our client and of aiohttp.
"""

import asyncio
import http.client
import json
import os
import statistics
import sys
import time
from urllib.parse import urlsplit

import aiohttp

from openlaunch import EndpointRequest, LaunchClient, aio

REQUEST = EndpointRequest(args={"x": 2, "y": "hello"})
BODY = b'{"args": {"x": 2, "y": "hello"}}'
CONCURRENCY = 32


def blocking(call, seconds: float) -> list[float]:
    times = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        call()
        times.append((time.perf_counter() - began) * 1e6)
    return times


async def concurrent(call, seconds: float) -> float:
    """Wall microseconds for each request."""
    count = 0
    began = time.perf_counter()

    async def one() -> None:
        nonlocal count
        while time.perf_counter() < began + seconds:
            await call()
            count += 1

    await asyncio.gather(*(one() for _ in range(CONCURRENCY)))
    return (time.perf_counter() - began) / count * 1e6


async def awaitable(url: str, key: str, reference: str, seconds: float) -> dict[str, float]:
    async with aio.LaunchClient(endpoint=url, api_key=key) as client, aiohttp.ClientSession() as session:
        endpoint = await client.get_model_endpoint("null")

        async def ours() -> None:
            assert (await endpoint.predict(REQUEST)).value == 9

        async def theirs() -> None:
            async with session.post(reference, data=BODY) as response:
                assert (await response.json())["result"] == 9

        pairs = [(await concurrent(theirs, seconds), await concurrent(ours, seconds)) for _ in range(3)]
    return {
        "aiohttp": statistics.median(theirs for theirs, _ in pairs),
        "awaitable": statistics.median(ours for _, ours in pairs),
    }


def main() -> None:
    seconds = float(sys.argv[1])
    url = os.environ["BENCH_URL"].split("/v1/")[0]
    key = os.environ["BENCH_HEADERS"].removeprefix("Authorization: Bearer ")
    reference = os.environ["BENCH_REFERENCE"]
    where = urlsplit(reference)
    connection = http.client.HTTPConnection(where.hostname, where.port)

    def bare() -> None:
        connection.request("POST", where.path, BODY, {"Content-Type": "application/json"})
        assert json.loads(connection.getresponse().read())["result"] == 9

    seen = {"http.client": [], "blocking": []}
    with LaunchClient(endpoint=url, api_key=key) as client:
        endpoint = client.get_model_endpoint("null")

        def predict() -> None:
            assert endpoint.predict(REQUEST).value == 9

        for _ in range(3):
            seen["http.client"] += blocking(bare, seconds)
            seen["blocking"] += blocking(predict, seconds)
    answer = {name: statistics.median(times) for name, times in seen.items()}
    answer |= {f"{name} p99": sorted(times)[int(len(times) * 0.99)] for name, times in seen.items()}
    print(json.dumps(answer | asyncio.run(awaitable(url, key, reference, seconds))))


if __name__ == "__main__":
    main()

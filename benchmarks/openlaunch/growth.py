"""How cost grows: with endpoints, workers, tasks that wait, bytes of a payload, and streams that are open.

`growth.py ENDPOINTS WORKERS TASKS STREAMS` prints one line of JSON. Each cost is of the same calls, in microseconds,
at steps up to the number given; memory is the server's, in MiB.
"""

import asyncio
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil

import openlaunch
from openlaunch import EndpointRequest, LaunchClient

REQUEST = EndpointRequest(args={"x": 2, "y": "hello"})
SMALL = {"cpus": 0.01, "memory": "8Mi"}
SECONDS = 1.0
ROUNDS = 5


async def predict(x: int, y: str):
    return x * 2 + len(y)


async def length(text: str):
    return len(text)


async def ticks(seconds: float):
    import asyncio

    yield "begun"
    await asyncio.sleep(seconds)
    yield "ended"


def steps(most: int, least: int = 1, factor: int = 10) -> list[int]:
    found = []
    while least < most:
        found.append(least)
        least *= factor
    return [*found, most]


def cost(call) -> float:
    """Microseconds of a call, the median of the rounds' means."""
    means = []
    for _ in range(ROUNDS):
        count, began = 0, time.perf_counter()
        while (took := time.perf_counter() - began) < SECONDS:
            call()
            count += 1
        means.append(took / count * 1e6)
    return statistics.median(means)


def server_mib(client: LaunchClient) -> float:
    return psutil.Process(client.server.pid).memory_full_info().pss / 2**20


def until_ready(client, number: int) -> None:
    deadline = time.monotonic() + 120
    while [e.model_endpoint.status.value for e in client.list_model_endpoints()].count("READY") < number:
        if time.monotonic() > deadline:
            raise TimeoutError("the endpoints were not ready in time")
        time.sleep(0.5)


def with_endpoints(client, most: int) -> list[dict[str, float]]:
    endpoint = client.get_model_endpoint("null")
    bundle = endpoint.model_endpoint.bundle_name
    rows, made = [], 0
    with ThreadPoolExecutor(8) as pool:
        for number in steps(most):
            more = range(made, number - 1)
            list(
                pool.map(
                    lambda n: client.create_model_endpoint(
                        endpoint_name=f"idle-{n}",
                        model_bundle=bundle,
                        min_workers=0,
                        max_workers=1,
                        per_worker=1,
                        **SMALL,
                    ),
                    more,
                )
            )
            made = max(made, number - 1)
            until_ready(client, number)
            us = cost(lambda: endpoint.predict(REQUEST).value)
            rows.append({"endpoints": number, "predict_us": us, "server_mib": server_mib(client)})
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def with_workers(client, most: int) -> list[dict[str, float]]:
    rows = []
    for number in steps(most, factor=4):
        many = client.deploy(
            predict, name=f"many-{number}", min_workers=number, max_workers=number, per_worker=1, **SMALL
        )
        until(lambda many=many, number=number: available(client, many) == number)
        us = cost(lambda many=many: many.predict(REQUEST).value)
        rows.append({"workers": number, "predict_us": us, "server_mib": server_mib(client)})
        print(rows[-1], file=sys.stderr, flush=True)
        client.delete_model_endpoint(f"many-{number}")
    return rows


def available(client, endpoint) -> int:
    return client.get_model_endpoint(
        endpoint.model_endpoint.name
    ).model_endpoint.deployment_state.available_workers


def until(condition, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("not so in time")
        time.sleep(0.1)


def with_payloads(client) -> list[dict[str, float]]:
    """Cost of one request, and how far it raises the server's memory above what it was."""
    endpoint = client.deploy(length, name="length", min_workers=1, max_workers=1, **SMALL)
    endpoint.predict(EndpointRequest(args={"text": ""}))
    process, rows = Path(f"/proc/{client.server.pid}"), []
    before = resident_kib(process, "VmRSS")
    for kib in (1, 100, 1024, 10 * 1024):
        request = EndpointRequest(args={"text": "x" * (kib * 1024)})
        (process / "clear_refs").write_text("5")  # the highest is counted from here
        endpoint.predict(request)
        peak = (resident_kib(process, "VmHWM") - before) / 1024
        us = cost(lambda request=request: endpoint.predict(request).value)
        rows.append({"kib": kib, "predict_us": us, "peak_mib": peak})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def resident_kib(process: Path, name: str) -> int:
    (line,) = [line for line in (process / "status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1])


def with_tasks(client, most: int) -> list[dict[str, float]]:
    waiting = client.deploy(
        predict, name="waiting", endpoint_type="async", min_workers=0, max_workers=0, wait=False, **SMALL
    )
    queue = client.deploy(
        predict, name="queue", endpoint_type="async", min_workers=1, max_workers=1, per_worker=8, **SMALL
    )
    rows, made = [], 0
    for number in steps(most, 1000):
        while made < number:
            size = min(10_000, number - made)
            waiting.predict_many([REQUEST] * size)
            made += size
        us = cost(lambda: queue.predict(REQUEST).get().value)
        rows.append({"queued": number, "round_trip_us": us, "server_mib": server_mib(client)})
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def with_streams(client, most: int) -> list[dict[str, float]]:
    endpoint = client.deploy(
        ticks, name="ticks", endpoint_type="streaming", per_worker=most, min_workers=1, max_workers=1, **SMALL
    ).model_endpoint
    url = urlsplit(client.server.url)
    body = json.dumps({"args": {"seconds": 3.0}}).encode()
    head = (
        f"POST /v1/streaming-tasks?model_endpoint_id={endpoint.id} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {client.server.api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    async def one() -> None:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(head.encode() + body)
        await reader.readuntil(b"ended")
        writer.close()

    async def some(number: int) -> dict[str, float]:
        began = time.perf_counter()
        streams = [asyncio.create_task(one()) for _ in range(number)]
        await asyncio.sleep(2.0)
        memory = server_mib(client)
        await asyncio.gather(*streams)
        return {"streams": number, "seconds": time.perf_counter() - began, "server_mib": memory}

    rows = []
    for number in steps(most):
        rows.append(asyncio.run(some(number)))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    endpoints, workers, tasks, streams = map(int, sys.argv[1:])
    with openlaunch.local() as client:
        client.deploy(predict, name="null", min_workers=1, max_workers=1, per_worker=8, **SMALL)
        answer = {"payloads": with_payloads(client), "streams": with_streams(client, streams)}
    with openlaunch.local() as client:
        answer["workers"] = with_workers(client, workers)
    with openlaunch.local() as client:
        client.deploy(predict, name="null", min_workers=1, max_workers=1, per_worker=8, **SMALL)
        answer["tasks"] = with_tasks(client, tasks)
    with openlaunch.local() as client:
        client.deploy(predict, name="null", min_workers=1, max_workers=1, per_worker=8, **SMALL)
        answer["endpoints"] = with_endpoints(client, endpoints)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()

"""Cold starts: a request to an endpoint that has been scaled to zero, until its answer; and a further worker.

`cold_starts.py TIMES` prints one line of JSON, in milliseconds: `warm` with the environment's parent process there,
`cold` for the first worker of a server, `further` for a worker beside one that serves; and MiB of memory.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import psutil

import openlaunch
from openlaunch import EndpointRequest
from openlaunch_worker.nursery import SPARE

REQUEST = EndpointRequest(args={"x": 2, "y": "hello"})
SMALL = {"cpus": 0.1, "memory": "64Mi"}


def predict(x: int, y: str):
    return x * 2 + len(y)


def sleep_a_little(seconds: float):
    time.sleep(seconds)


def workers(client) -> list[psutil.Process]:
    """The processes of workers, spares left out: a nursery, in a sandbox with two others, forks an init for each."""
    found = []
    for process in psutil.Process(client.server.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            above = [each.pid for each in process.parents()]
            if above.index(client.server.pid) == 4 and process.name() != SPARE:
                found.append(process)
    return found


def until(condition, seconds: float = 30.0):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("not so in time")
        time.sleep(0.002)


def answer_seconds(endpoint) -> float:
    began = time.perf_counter()
    assert endpoint.predict(REQUEST).value == 9
    return time.perf_counter() - began


def new_endpoint() -> tuple[float, float]:
    """Seconds of uv alone for an environment with scikit-learn, its cache warm; and of a new endpoint until READY."""
    uv = [sys.executable, "-m", "uv"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*uv, "venv", "--quiet", f"{folder}/first"], check=True)
        install = [*uv, "pip", "install", "--quiet", "scikit-learn", "--python"]
        subprocess.run([*install, f"{folder}/first/bin/python"], check=True)
        began = time.perf_counter()
        subprocess.run([*uv, "venv", "--quiet", f"{folder}/second"], check=True)
        subprocess.run([*install, f"{folder}/second/bin/python"], check=True)
        alone = time.perf_counter() - began
    with openlaunch.local() as client:
        client.list_model_endpoints()  # what manages endpoints is imported while the server already serves
        began = time.perf_counter()
        client.deploy(predict, name="new", requirements=["scikit-learn"], min_workers=1, **SMALL)
        return alone, time.perf_counter() - began


def main() -> None:
    times = int(sys.argv[1])
    os.environ["OPENLAUNCH_SCALE_DOWN_SECONDS"] = "0.1"
    warm, cold = [], []
    with openlaunch.local() as client:
        server = psutil.Process(client.server.pid)
        idle = server.memory_full_info().pss / 2**20
        endpoint = client.deploy(predict, name="null", min_workers=0, **SMALL)
        endpoint.predict(REQUEST)
        for _ in range(times):
            until(lambda: not workers(client))
            warm.append(answer_seconds(endpoint))
        further = further_workers(client, times)
        memory = worker_memory(client)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(times // 4 + 2):
            with openlaunch.local(folder) as client:
                if number == 0:
                    client.deploy(predict, name="null", min_workers=0, **SMALL).predict(REQUEST)
                    continue
                endpoint = client.get_model_endpoint("null")
                until(lambda: not workers(client))
                cold.append(answer_seconds(endpoint))
    with tempfile.TemporaryDirectory() as caches:
        os.environ["UV_CACHE_DIR"] = caches
        environments = [new_endpoint() for _ in range(times // 5 + 2)][1:]  # the first fills the caches
    print(
        json.dumps(
            {
                "uv": [1000 * alone for alone, _ in environments],
                "endpoint": [1000 * ready for _, ready in environments],
                "warm": [1000 * t for t in warm],
                "cold": [1000 * t for t in cold],
                "further": [1000 * t for t in further],
                "server_mib": idle,
                "worker_mib": memory,
            }
        )
    )


def further_workers(client, times: int) -> list[float]:
    """From a request that finds its only worker busy to the second worker's answer."""
    endpoint = client.deploy(
        sleep_a_little,
        name="sleepy",
        min_workers=1,
        max_workers=2,
        concurrent_requests_per_worker=1,
        per_worker=1,
        **SMALL,
    )
    taken = []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(times):
            until(
                lambda: (
                    client.get_model_endpoint("sleepy").model_endpoint.deployment_state.available_workers == 1
                )
            )
            busy = pool.submit(endpoint.predict, EndpointRequest(args={"seconds": 0.5}))
            time.sleep(0.1)
            began = time.perf_counter()
            endpoint.predict(EndpointRequest(args={"seconds": 0.0})).value  # noqa: B018
            taken.append(time.perf_counter() - began)
            busy.result()
    return taken


def worker_memory(client) -> float:
    """PSS of one more worker with its init, of ten."""
    client.deploy(predict, name="many", min_workers=10, max_workers=10, **SMALL)
    until(lambda: len(workers(client)) >= 10)
    endpoint = client.get_model_endpoint("many")
    for _ in range(50):
        endpoint.predict(REQUEST)
    both = [(process, process.parent()) for process in workers(client)]
    return statistics.median(sum(p.memory_full_info().pss for p in pair) / 2**20 for pair in both)


if __name__ == "__main__":
    main()

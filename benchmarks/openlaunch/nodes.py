"""Workers on nodes: the rate of more nodes, and what a request costs the server and the agents.

`nodes.py SECONDS`, with the repository's folder in PYTHONPATH, prints one line of JSON. All processes are on this
machine, connected over the loopback. wrk sends the load. CPU is in microseconds a request, latency in milliseconds.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import psutil
from benchmarks.harness.wrk import sent

from openlaunch.client.local import LocalClient, LocalServer

SLOTS, WORK_SECONDS = 32, 0.05
NODES = (1, 2, 4)
ENDPOINTS = (1, 100)
SMALL = {"cpus": 0.01, "memory": "8Mi"}
TOKEN = "b" * 64


async def work(seconds: float):
    import asyncio

    await asyncio.sleep(seconds)
    return seconds


async def null(x: int):
    return x


@contextlib.contextmanager
def agents(count: int) -> Iterator[tuple[list[psutil.Process], str]]:
    """Run agents; give their processes and their addresses."""
    with contextlib.ExitStack() as stack:
        processes, addresses = [], []
        for _ in range(count):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            command = [sys.executable, "-m", "openlaunch.cli", "agent", "--port", "0", "--data-dir", folder]
            env = {**os.environ, "OPENLAUNCH_CLUSTER_TOKEN": TOKEN}
            process = stack.enter_context(
                subprocess.Popen(
                    command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            )
            stack.callback(process.terminate)
            assert process.stdout is not None
            addresses.append(process.stdout.readline().removeprefix("ready ").strip())
            processes.append(psutil.Process(process.pid))
        yield processes, ",".join(addresses)


@contextlib.contextmanager
def served(count: int) -> Iterator[tuple[LocalClient, list[psutil.Process]]]:
    """Run a server with this number of nodes; 0: its workers are its own."""
    with agents(count) as (processes, addresses):
        on_nodes = {"engine": "agents", "agents": addresses, "cluster_token": TOKEN} if count else {}
        with LocalClient(LocalServer(settings=on_nodes)) as client:
            yield client, processes


def seconds_of(processes: list[psutil.Process]) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def load(
    client: LocalClient,
    name: str,
    args: dict[str, float],
    connections: int,
    seconds: int,
    agents: list[psutil.Process],
) -> dict[str, float]:
    """Send requests as fast as they are answered."""
    headers = {"Authorization": f"Bearer {client.server.api_key}"}
    server = [psutil.Process(client.server.pid)]
    before = seconds_of(server), seconds_of(agents)
    seen = sent(f"{client.server.url}/e/{name}", headers, json.dumps(args).encode(), connections, seconds)
    spent = seconds_of(server) - before[0], seconds_of(agents) - before[1]
    requests = max(1, seen["requests"])
    return {
        "rate": seen["requests"] / seen["seconds"],
        "p50": seen["p50_us"] / 1000,
        "server_us": spent[0] / requests * 1e6,
        "agents_us": spent[1] / requests * 1e6,
    }


def deployed(client: LocalClient, predict, name: str, workers: int) -> None:
    endpoint = client.deploy(
        predict, name=name, min_workers=workers, max_workers=workers, per_worker=SLOTS, **SMALL
    )
    endpoint.wait_until_ready(120)
    while endpoint.deployment_state().available_workers < workers:
        pass


def main(seconds: int) -> dict[str, list[dict[str, float]]]:
    nodes, endpoints, hop = [], [], []
    for count in NODES:
        with served(count) as (client, processes):
            deployed(client, work, "work", count)
            most = SLOTS * count
            # Twice as many as slots, so that each is used again at once.
            seen = load(client, "work", {"seconds": WORK_SECONDS}, 2 * most, seconds, processes)
            nodes.append({"nodes": count, "ideal": most / WORK_SECONDS, **seen})
            print(nodes[-1], file=sys.stderr, flush=True)
    for count in (0, 1):
        with served(count) as (client, processes):
            deployed(client, null, "null", 1)
            for connections in (1, SLOTS):
                seen = load(client, "null", {"x": 1}, connections, seconds, processes)
                hop.append({"nodes": count, "connections": connections, **seen})
                print(hop[-1], file=sys.stderr, flush=True)
            if count:
                bundle = client.get_model_endpoint("null").model_endpoint.bundle_name
                made = 1
                for number in ENDPOINTS:
                    for n in range(made, number):
                        client.create_model_endpoint(
                            endpoint_name=f"idle-{n}",
                            model_bundle=bundle,
                            min_workers=0,
                            max_workers=1,
                            per_worker=1,
                            **SMALL,
                        )
                    made = number
                    seen = load(client, "null", {"x": 1}, SLOTS, seconds, processes)
                    endpoints.append({"endpoints": number, **seen})
                    print(endpoints[-1], file=sys.stderr, flush=True)
    return {"nodes": nodes, "endpoints": endpoints, "hop": hop}


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))

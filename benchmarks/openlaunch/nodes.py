"""Workers on nodes: the rate of more nodes, what a request costs servers and agents, large bodies, further workers.

`nodes.py SECONDS`, with the repository's folder in PYTHONPATH, prints one line of JSON. All processes are on this
machine, connected over the loopback. wrk sends the load. CPU is in microseconds a request, latency in milliseconds.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
from benchmarks.harness.wrk import sent
from bodies import OCTETS, SIZE, Caller, length, memory
from cold_starts import further_workers
from tests.contract.postgres_server import PostgresServer

from openlaunch import EndpointRequest
from openlaunch.client.local import LocalClient, LocalServer

SLOTS, WORK_SECONDS = 32, 0.05
NODES = (1, 2, 4)
ENDPOINTS = (1, 100)
SERVERS = (1, 2)
SMALL = {"cpus": 0.01, "memory": "8Mi"}
TOKEN, KEY = "b" * 64, "ol_the-key-of-the-benchmark"
BODIES, FURTHER = 5, 10
"""How many large bodies are sent, and how many further workers are started."""


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
def served(count: int, **settings: str) -> Iterator[tuple[LocalClient, list[psutil.Process]]]:
    """Run a server with this number of nodes; 0: its workers are its own."""
    with agents(count) as (processes, addresses):
        on_nodes = {"engine": "agents", "agents": addresses, "cluster_token": TOKEN} if count else {}
        with LocalClient(LocalServer(settings=on_nodes | settings)) as client:
            yield client, processes


@contextlib.contextmanager
def together(count: int) -> Iterator[tuple[list[LocalClient], list[psutil.Process]]]:
    """Run this number of servers on one database, and one node."""
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        postgres.execute("CREATE DATABASE records")
        processes, addresses = stack.enter_context(agents(1))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "shared").mkdir()
        settings = {
            "engine": "agents",
            "agents": addresses,
            "cluster_token": TOKEN,
            "store": postgres.url("records"),
            "api_key": KEY,
        }
        clients = []
        for number in range(count):
            data = folder / f"server{number}"
            data.mkdir(mode=0o700)
            (data / "artifacts").symlink_to(folder / "shared")
            clients.append(stack.enter_context(LocalClient(LocalServer(data, settings=settings))))
        yield clients, processes


def gateways(count: int, seconds: int) -> dict[str, float]:
    """Return what a request costs one of this number of servers, all of which get load."""
    with together(count) as (clients, processes), ThreadPoolExecutor(count) as pool:
        deployed(clients[0], null, "null", 1)
        for client in clients:
            until_answered(client)
        each = SLOTS // max(SERVERS)
        runs = [pool.submit(load, client, "null", {"x": 1}, each, seconds, processes) for client in clients]
        seen = [run.result() for run in runs]
        return {
            "servers": count,
            "rate": sum(one["rate"] for one in seen),
            "server_us": statistics.mean(one["server_us"] for one in seen),
        }


def until_answered(client: LocalClient) -> None:
    """Wait until a server knows an endpoint that another one has made."""
    while True:
        with contextlib.suppress(Exception):
            client.get_model_endpoint("null").predict(EndpointRequest(args={"x": 1}))
            return


def large_bodies(count: int) -> dict[str, float]:
    """Return how many bodies of memory the server, and the agent, take at most on top for one of 10 MiB."""
    with served(count) as (client, processes):
        client.deploy(length, name="length", min_workers=1, max_workers=1, cpus=0.01, memory="256Mi")
        url, key = client.server.url, client.server.api_key
        caller = Caller(url, "/e/length", os.urandom(SIZE), OCTETS, key)
        caller.call()
        pids = [client.server.pid, *(each.pid for each in processes)]
        before = [memory(pid, "VmRSS") for pid in pids]
        for pid in pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        took = statistics.median(caller.call() for _ in range(BODIES))
        rises = [(memory(pid, "VmHWM") - was) / SIZE for pid, was in zip(pids, before, strict=True)]
        return {"nodes": count, "ms": 1000 * took, "server": rises[0], "agent": sum(rises[1:])}


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


def main(seconds: int) -> dict[str, object]:
    nodes, endpoints, hop = [], [], []
    servers = [gateways(count, seconds) for count in SERVERS]
    bodies = [large_bodies(count) for count in (0, 1)]
    further = []
    for count in (0, 1):
        with served(count, scale_down_seconds="0.1") as (client, _):
            further.append({"nodes": count, "ms": [1000 * each for each in further_workers(client, FURTHER)]})
    print(servers, bodies, further, file=sys.stderr, flush=True)
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
    return {
        "nodes": nodes,
        "endpoints": endpoints,
        "hop": hop,
        "servers": servers,
        "bodies": bodies,
        "further": further,
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))

"""Requests that fail while processes are killed: ours with `--engine ray`, and Ray Serve, on the same three nodes.

`faults.py SECONDS`, with the repository's folder in PYTHONPATH, prints one line of JSON: for each fault, in that
many seconds after it, how many requests failed, how many were answered, and the longest time without an answer.
Each system has a cluster of a head and two nodes, all on this machine, with a worker or replica on each node. Ours
has two servers and PostgreSQL. Eight callers each send one request after the other, each over a connection of its
own, which is tried at the next address where nobody takes it; once a request is sent it is not repeated.
"""

import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from benchmarks.ray.serve_cluster import WORK_SECONDS, ServeCluster
from tests.contract.postgres_server import PostgresServer
from tests.integration.ray_cluster import NODES

from openlaunch import LaunchClient

CALLERS = 8
RAYLETS_END_SECONDS = 75
"""What a head leaves behind ends a minute after it."""
RECOVERY_SECONDS = 30
"""Between two faults: Ray takes a node for dead after 15 s."""
START_SECONDS = 180.0
TOKEN, KEY = "b" * 64, "ol_the-key-of-the-benchmark"


async def work(seconds: float) -> float:
    import asyncio

    await asyncio.sleep(seconds)
    return seconds


class Load:
    """Requests of some callers, until the end of the block."""

    def __init__(self, urls: list[str], headers: dict[str, str], body: bytes) -> None:
        self._urls = [urlsplit(url) for url in urls]
        self._headers, self._body = {"Content-Type": "application/json", **headers}, body
        self.answered: list[float] = []
        self.failed: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CALLERS)]

    def ask(self, first: int = 0) -> bytes:
        """Send one request; raise what goes wrong once it is sent, or OSError where no address takes it."""
        refused: OSError | None = None
        for n in range(len(self._urls)):
            url = self._urls[(first + n) % len(self._urls)]
            connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
            try:
                connection.connect()
            except OSError as error:
                refused = error
                continue
            try:
                connection.request("POST", url.path, self._body, self._headers)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    raise http.client.HTTPException(f"{answer.status}: {body[:200]!r}")
                return body
            finally:
                connection.close()
        raise refused or OSError("no address")

    def _run(self, number: int) -> None:
        while not self._over.is_set():
            number += 1
            try:
                self.ask(number)
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                self._over.wait(0.02)
            else:
                self.answered.append(time.monotonic())

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def seen(load: Load, kill: Callable[[], None], seconds: float) -> dict[str, float]:
    """Return what the load saw from a fault on."""
    with load:
        time.sleep(2)
        before, failed_before, began = len(load.answered), len(load.failed), time.monotonic()
        kill()
        time.sleep(seconds)
    times = [began, *load.answered[before:], began + seconds]
    gap = max(later - earlier for earlier, later in itertools.pairwise(times))
    failed = load.failed[failed_before:]
    for error in sorted(set(failed))[:5]:
        print("   ", error[:300], file=sys.stderr)
    return {"failed": len(failed), "answered": len(times) - 2, "gap": gap}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("not so in time")
        time.sleep(0.2)


class Ours:
    """Two servers whose workers Ray places."""

    def __init__(
        self, cluster: ServeCluster, folder: Path, postgres: PostgresServer, stack: ExitStack
    ) -> None:
        self._cluster, self._postgres = cluster, postgres
        postgres.execute("CREATE DATABASE records")
        (folder / "shared").mkdir()
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        for number in range(2):
            data, port = folder / f"server{number}", free_port()
            data.mkdir(mode=0o700)
            (data / "artifacts").symlink_to(folder / "shared")
            env = {
                **os.environ,
                **cluster.environ,
                "OPENLAUNCH_STORE": postgres.url("records"),
                "OPENLAUNCH_CLUSTER_TOKEN": TOKEN,
                "OPENLAUNCH_API_KEY": KEY,
                "OPENLAUNCH_ENGINE": "ray",
            }
            command = [
                sys.executable,
                "-m",
                "openlaunch.cli",
                "serve",
                "--port",
                str(port),
                "--data-dir",
                str(data),
            ]
            with (folder / f"server{number}.log").open("wb") as log:
                process = subprocess.Popen(command, env=env, stdout=log, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            self._servers[f"http://127.0.0.1:{port}"] = process
        for url in self._servers:
            until(lambda url=url: _listens(url))
        with LaunchClient(KEY, next(iter(self._servers)), max_retries=20) as client:
            until(lambda: sum(each.state.value == "ready" for each in client.list_nodes()) == len(NODES))
            small = {"cpus": 1, "memory": "64Mi", "per_worker": 100}
            endpoint = client.deploy(work, name="work", min_workers=2, max_workers=2, **small)
            until(lambda: endpoint.deployment_state().available_workers == 2)

    def load(self) -> Load:
        urls = [f"{url}/e/work" for url in self._servers]
        body = json.dumps({"seconds": WORK_SECONDS}).encode()
        return Load(urls, {"Authorization": f"Bearer {KEY}"}, body)

    def kill_controller(self) -> None:
        """Kill the server that leads."""
        query = "SELECT address FROM leader JOIN gateways ON id = holder"
        self._servers[str(self._postgres.one(query, "records"))].kill()

    def kill_node(self) -> None:
        agent = psutil.Process(self._cluster.agent_of(NODES[-1]))
        for each in (agent, *agent.children(recursive=True)):
            each.kill()
        self._cluster.ask("kill_node")

    def kill_head(self) -> None:
        self._cluster.ask("kill_head_node")


class Serve:
    """Ray Serve."""

    def __init__(self, cluster: ServeCluster) -> None:
        self._cluster = cluster
        self._url = str(cluster.ask("serve"))

    def load(self) -> Load:
        return Load([self._url], {}, json.dumps({"args": {"seconds": WORK_SECONDS}}).encode())

    def kill_controller(self) -> None:
        assert self._cluster.ask("kill_controller")

    def kill_node(self) -> None:
        self._cluster.ask("kill_node")

    def kill_head(self) -> None:
        self._cluster.ask("kill_head_node")


def faults_of(system: Ours | Serve, seconds: float) -> Iterator[tuple[str, dict[str, float]]]:
    until(lambda: _answers(system.load()))
    for name, kill, long in (
        ("controller", system.kill_controller, seconds),
        ("node", system.kill_node, seconds),
        ("head", system.kill_head, max(seconds, RAYLETS_END_SECONDS)),
    ):
        found = seen(system.load(), kill, long)
        print(type(system).__name__, name, found, file=sys.stderr, flush=True)
        yield name, found
        if name != "head":
            time.sleep(RECOVERY_SECONDS)


def _answers(load: Load) -> bool:
    try:
        return bool(load.ask())
    except (OSError, http.client.HTTPException):
        return False


def _listens(url: str) -> bool:
    at = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((at.hostname, at.port)) == 0


@contextmanager
def cluster() -> Iterator[tuple[ServeCluster, Path]]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ["BENCH_PORT"] = str(free_port())
        made = ServeCluster(Path(folder), cluster_token=TOKEN, keep_workers_seconds=60)
        try:
            yield made, Path(folder)
        finally:
            made.close()


def main(seconds: float) -> list[dict[str, object]]:
    rows: dict[str, dict[str, object]] = {}
    with cluster() as (made, folder), PostgresServer() as postgres, ExitStack() as stack:
        for name, found in faults_of(Ours(made, folder, postgres, stack), seconds):
            rows[name] = {"fault": name, "ours": found}
    with cluster() as (made, _):
        for name, found in faults_of(Serve(made), seconds):
            rows[name]["serve"] = found
    return list(rows.values())


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(json.dumps(main(float(sys.argv[1]))))

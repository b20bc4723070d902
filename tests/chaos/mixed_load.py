"""Requests of all kinds, one after the other of each, by clients of a cluster."""

import concurrent.futures
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from cluster_servers import KEY, LITTLE
from nodes_driver import count
from server_driver import args, eventually

from openlaunch import LaunchClient


def work(n: int) -> int:
    import time

    time.sleep(0.05)
    return n * n


def batch_job(client: LaunchClient, n: int) -> bool:
    job = client.batch_async_request(model_bundle="async", inputs=[{"n": n}, {"n": n + 1}], **LITTLE)[
        "job_id"
    ]
    client.wait_for_batch_job(job, timeout=60)
    return [each["result"] for each in client.read_batch_results(job)] == [n * n, (n + 1) ** 2]


class Load:
    """Requests of three kinds and batch jobs, of each one after the other, by clients that know all servers."""

    def __init__(self, urls: str, key: str = KEY) -> None:
        self.done = {"sync": 0, "stream": 0, "async": 0, "batch": 0}
        self.failed: list[str] = []
        self._urls, self._key, self._over = urls, key, threading.Event()

    def _run(self, kind: str, ask: Callable[[LaunchClient, int], bool]) -> None:
        number = 0
        with LaunchClient(self._key, self._urls) as client:
            while not self._over.is_set():
                number += 1
                try:
                    good = ask(client, number)
                except Exception as error:
                    self.failed.append(f"{kind}: {error!r}")
                    self._over.wait(0.05)
                else:
                    self.done[kind] += 1
                    if not good:
                        self.failed.append(f"{kind}: a wrong answer")

    @contextmanager
    def running(self):
        kinds = {
            "sync": lambda client, n: client.get_model_endpoint("sync").predict(args(n=n)).value == n * n,
            "stream": lambda client, n: (
                [piece.value for piece in client.get_model_endpoint("stream").predict(args(n=5))]
                == [0, 1, 2, 3, 4]
            ),
            "async": lambda client, n: (
                client.get_model_endpoint("async").predict(args(n=n)).get(60).value == n * n
            ),
            "batch": batch_job,
        }
        with concurrent.futures.ThreadPoolExecutor(len(kinds)) as pool:
            for kind, ask in kinds.items():
                pool.submit(self._run, kind, ask)
            try:
                self.more()
                yield self
            finally:
                self._over.set()

    def more(self, *kinds: str) -> None:
        """Wait until there are more answers of these kinds; of all, where none is named."""
        before = dict(self.done)
        more = {kind: 1 if kind == "batch" else 3 for kind in kinds or before}
        eventually(lambda: all(self.done[kind] >= before[kind] + count for kind, count in more.items()))


def ready(client: LaunchClient, count: int) -> Callable[[], Any]:
    def look() -> bool:
        states = [client.get_model_endpoint(name).deployment_state() for name in ("sync", "stream", "async")]
        return all(each.available_workers == count for each in states)

    return look


def deployed(client: LaunchClient) -> None:
    """Make an endpoint of each kind, with two workers."""
    two = {"min_workers": 2, "max_workers": 2, **LITTLE}
    client.deploy(work, name="sync", **two)
    client.deploy(count, name="stream", endpoint_type="streaming", **two)
    client.deploy(work, name="async", endpoint_type="async", **two)
    eventually(ready(client, 2))

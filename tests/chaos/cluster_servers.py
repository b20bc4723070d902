"""Servers on one database, of which each test has as many as it needs."""

import concurrent.futures
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from chaos_server import ChaosServer
from server_driver import SMALL, args, eventually

from openlaunch import LaunchClient

TOKEN = "0123456789abcdef" * 4
KEY = "ol_the-first-key-of-the-cluster"
LITTLE = {"storage": "64Mi", **SMALL}


@dataclass
class Servers:
    """The servers of a cluster, and its database."""

    url: str
    folder: Path
    made: int = 0

    @contextmanager
    def another(self, clock_off: float = 0.0, **settings: object) -> Iterator[ChaosServer]:
        """One more server, with what it needs of the others."""
        with self.new(clock_off, **settings) as server:
            yield server

    @contextmanager
    def two(self, **settings: object) -> Iterator[tuple[ChaosServer, ChaosServer]]:
        """The server that leads and another one, which start at the same time."""
        both = [self.new(**settings) for _ in range(2)]
        with ExitStack() as stack:
            for server in both:
                stack.callback(server.stop)
                server.start()
            for server in both:
                server.wait_until_up()
            leader = eventually(self.leader)
            first, second = sorted(both, key=lambda server: server.url != leader)
            yield first, second

    def new(self, clock_off: float = 0.0, host: str = "127.0.0.1", **settings: object) -> ChaosServer:
        """One more server, not started yet."""
        self.made += 1
        data = self.folder / f"data{self.made}"
        data.mkdir(mode=0o700)
        (self.folder / "shared").mkdir(exist_ok=True)
        (data / "artifacts").symlink_to(self.folder / "shared")
        given = {"store": self.url, "cluster_token": TOKEN, "api_key": KEY, "drain_seconds": 5, **settings}
        return ChaosServer(data, clock_off, host, **{name: value for name, value in given.items() if value})

    def leader(self) -> str:
        """The URL of the server that leads now; empty: none does."""
        return self._address(
            """SELECT address FROM leader JOIN gateways ON id = holder
               WHERE leader.until > extract(epoch FROM clock_timestamp())"""
        )

    def holder(self) -> str:
        """The URL of the server that has the one task which runs; empty: none has."""
        return self._address(
            """SELECT address FROM tasks JOIN gateways ON gateways.id = lease_owner
               WHERE status = 'STARTED'"""
        )

    def answering(self) -> str:
        """The URL of the server that has the one request with a key which runs; empty: none has."""
        return self._address("SELECT address FROM answers JOIN gateways ON gateways.id = server")

    def _address(self, query: str) -> str:
        with psycopg.connect(self.url) as connection:
            found = connection.execute(query).fetchone()
        return found[0] if found else ""


def client_of(server: ChaosServer) -> LaunchClient:
    return LaunchClient(KEY, server.url, max_retries=0)


def counting_itself(log: Path) -> tuple[Callable[[], Any], Callable[..., int]]:
    """A model that writes a line as it is loaded, and says how many of its calls run."""

    def load():
        import threading

        with log.open("a") as file:
            file.write("loaded\n")
        return {"lock": threading.Lock(), "running": 0}

    def predict(model, seconds=0.0):
        import time

        with model["lock"]:
            model["running"] += 1
            running = model["running"]
        time.sleep(seconds)
        with model["lock"]:
            model["running"] -= 1
        return running

    return load, predict


def busy(client: LaunchClient) -> Callable[[], int]:
    endpoint = client.get_model_endpoint("busy")
    return lambda: int(endpoint.predict(args(seconds=0.01)).value)


class LoadOn:
    """Requests one after the other to a server, from several threads, until the end of the block.

    `of` makes what sends one and returns its answer.
    """

    def __init__(
        self, server: ChaosServer, threads: int, of: Callable[[LaunchClient], Callable[[], int]] = busy
    ) -> None:
        self._of = of
        self.answers: list[int] = []
        self.failed: list[str] = []
        self.slowest = 0.0
        """Seconds."""
        self._server, self._over = server, threading.Event()
        self._pool = concurrent.futures.ThreadPoolExecutor(threads)
        self._threads = threads

    def _run(self) -> None:
        with client_of(self._server) as client:
            ask = self._of(client)
            while not self._over.is_set():
                began = time.monotonic()
                try:
                    self.answers.append(ask())
                except Exception as error:
                    self.failed.append(repr(error))
                    self._over.wait(0.05)
                self.slowest = max(self.slowest, time.monotonic() - began)

    def more(self, count: int) -> None:
        """Wait until there are this many answers more."""
        before = len(self.answers)
        eventually(lambda: len(self.answers) >= before + count)

    def __enter__(self) -> "LoadOn":
        for _ in range(self._threads):
            self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()

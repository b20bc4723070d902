"""Servers on one database, of which each test has as many as it needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from chaos_server import ChaosServer
from server_driver import SMALL

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
    def another(self, **settings: object) -> Iterator[ChaosServer]:
        """One more server, with what it needs of the others."""
        self.made += 1
        data = self.folder / f"data{self.made}"
        data.mkdir(mode=0o700)
        (self.folder / "shared").mkdir(exist_ok=True)
        (data / "artifacts").symlink_to(self.folder / "shared")
        given = {"store": self.url, "cluster_token": TOKEN, "api_key": KEY, "drain_seconds": 5, **settings}
        given = {name: value for name, value in given.items() if value}
        with ChaosServer(data, **given) as server:
            yield server

    def leader(self) -> str:
        """The URL of the server that leads now; empty: none does."""
        query = """SELECT address FROM leader JOIN gateways ON id = holder
                   WHERE leader.until > extract(epoch FROM clock_timestamp())"""
        with psycopg.connect(self.url) as connection:
            found = connection.execute(query).fetchone()
        return found[0] if found else ""


def client_of(server: ChaosServer) -> LaunchClient:
    return LaunchClient(KEY, server.url, max_retries=0)

"""The processes of deploy/compose.yaml on this machine, without containers: any of them is killed, under load."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
import yaml
from chaos_server import free_port, has_ended
from mixed_load import Load, deployed
from postgres_server import PostgresServer
from s3_server import BUCKET, S3Server, s3_server
from server_driver import args, eventually

from openlaunch import LaunchClient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),  # nine processes, of which seven start again
    pytest.mark.skipif(
        shutil.which("haproxy") is None, reason="haproxy is missing: tools/install.sh haproxy"
    ),
]

DEPLOY = Path(__file__).parents[2] / "deploy"
PROGRAM = (sys.executable, "-m", "openlaunch.cli")
DEADLINE = 60.0
GONE = r"ConnectionFailed|WorkerDied|StreamInterrupted"
NOT_BEGUN = r"stream: .*(No server is available|502 Bad Gateway|ConnectionFailed)"
"""A stream that has no event yet is sent once, as a sync request is."""
MAY_FAIL = {
    "server-1": rf"(sync|batch): .*({GONE}|502|503)|{NOT_BEGUN}",
    "server-2": rf"(sync|batch): .*({GONE}|502|503)|{NOT_BEGUN}",
    "node-1": rf"(sync|stream): .*({GONE}|PredictionFailed|502)",
    "node-2": rf"(sync|stream): .*({GONE}|PredictionFailed|502)",
    "postgres": r"(async|batch): .*(Unavailable|503)",
    "s3": r"batch: .*(Unavailable|503)",
    "haproxy": rf"(sync|stream|async|batch): .*({GONE}|502|503)",
    "server-1 hangs": rf"(sync|batch): .*({GONE}|502|503)|{NOT_BEGUN}",
    "postgres hangs": r"(sync|stream|async|batch): .*(Unavailable|503)",
}
"""What of the load may fail while a service is away. What was accepted may not, nor may an answer be wrong. While
PostgreSQL is away, nobody is told what a name stands for; predictions of an endpoint that a client knows go on."""


class Service:
    """A process of the file, which listens on a port of its own."""

    def __init__(
        self, name: str, command: list[str], environ: dict[str, str], folder: Path, port: int
    ) -> None:
        self.name, self.port, self.folder, self.environ = name, port, folder, environ
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env={**os.environ, **self.environ}, stdout=log, stderr=log, cwd=self.folder
            )

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError((self.folder / "log").read_text()[-3000:])

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Have it stand still, with every connection open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if not has_ended(self._process):
            self.kill()


def _replaced(text: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        text = text.replace(name, place)
    return text


@contextmanager
def site(folder: Path, postgres: PostgresServer, s3: S3Server) -> Iterator[dict[str, Service]]:
    """What the file has of this program and HAProxy, in the order of the file, with ports of this machine."""
    described = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ours = [name for name, each in described.items() if each["image"] == "openlaunch"]
    ports = {name: free_port() for name in (*ours, "haproxy")}
    places = {
        f"{name}:{8001 if name.startswith('node') else 8000}": f"127.0.0.1:{ports[name]}" for name in ours
    }
    made: dict[str, Service] = {}
    for name in ours:
        command = [
            sys.executable,
            "-m",
            "openlaunch.cli",
            *(_replaced(word, places) for word in described[name]["command"]),
        ]
        command += ["--host", "127.0.0.1", "--port", str(ports[name])]
        environ = {
            **described[name]["environment"],
            "OPENLAUNCH_CLUSTER_TOKEN": "0123456789abcdef" * 4,
            "OPENLAUNCH_DATA_DIR": str(folder / name / "data"),
            "OPENLAUNCH_DRAIN_SECONDS": "5",
        }
        if name.startswith("server"):
            environ |= {
                "OPENLAUNCH_STORE": postgres.url("records"),
                "OPENLAUNCH_ARTIFACTS": f"s3://{BUCKET}/compose",
            }
            environ |= s3.environ
        made[name] = Service(name, command, environ, folder / name, ports[name])
    config = _replaced((DEPLOY / "haproxy.cfg").read_text(), places).replace(
        "bind :8000", f"bind 127.0.0.1:{ports['haproxy']}"
    )
    socket_line = f"\nglobal\n    stats socket {folder / 'haproxy.sock'}\n"
    (folder / "haproxy.cfg").write_text(config + socket_line)
    command = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
    made["haproxy"] = Service("haproxy", command, {}, folder / "haproxy", ports["haproxy"])
    with ExitStack() as stack:
        for each in made.values():
            stack.callback(each.stop)
            each.start()
        for each in made.values():
            each.wait_until_up()
        yield made


def _are_up(folder: Path) -> bool:
    """Whether HAProxy sends requests to both servers."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(str(folder / "haproxy.sock"))
        asking.sendall(b"show stat\n")
        lines = asking.makefile().read().splitlines()
    states = [line.split(",")[17] for line in lines if line.startswith("servers,server-")]
    return [state.split()[0] for state in states] == ["UP", "UP"]


def _store_is_away(port: int) -> bool:
    """Whether a server says so, and that it serves all the same."""
    answer = httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=DEADLINE)
    assert answer.status_code == 200, answer.text
    return any(each["name"] == "store" and each["status"] == "warning" for each in answer.json()["checks"])


def _knows(port: int, key: str) -> bool:
    """Whether a server has heard of a key that was made at another one."""
    url = f"http://127.0.0.1:{port}/v1/model-endpoints"
    return httpx2.get(url, auth=(key, ""), timeout=DEADLINE).status_code == 200


def _admin_key(server: Service) -> str:
    """As the page has one made: by a command beside a server."""
    command = [
        sys.executable,
        "-m",
        "openlaunch.cli",
        "keys",
        "create",
        "--owner",
        "ada",
        "--role",
        "admin",
        "--json",
    ]
    done = subprocess.run(
        command, env={**os.environ, **server.environ}, capture_output=True, text=True, timeout=60, check=True
    )
    return str(json.loads(done.stdout)["api_key"])


def test_any_of_them_is_killed(tmp_path: Path, figure: Callable[[str], None]) -> None:
    (tmp_path / "s3").mkdir()
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        postgres.execute("CREATE DATABASE records")
        s3 = stack.enter_context(s3_server(tmp_path / "s3"))
        services = stack.enter_context(site(tmp_path, postgres, s3))
        key = _admin_key(services["server-1"])
        for server in ("server-1", "server-2"):
            eventually(lambda port=services[server].port: _knows(port, key))
        url = f"http://127.0.0.1:{services['haproxy'].port}"
        client = stack.enter_context(LaunchClient(key, url))
        deployed(client)
        square = client.get_model_endpoint("sync")
        told = []
        load = stack.enter_context(Load(url, key).running())
        for name, may_fail in MAY_FAIL.items():
            eventually(lambda: _are_up(tmp_path))
            before = len(load.failed)
            if name == "postgres":
                postgres.kill()
                postgres.start()
            elif name == "s3":
                with s3.frozen():
                    load.more("sync", "stream", "async")
            elif name == "server-1 hangs":
                with services["server-1"].frozen():
                    load.more("sync", "stream", "async")
            elif name == "postgres hangs":
                with postgres.frozen():
                    for server in ("server-1", "server-2"):
                        eventually(lambda port=services[server].port: _store_is_away(port))
                    assert [square.predict(args(n=n)).value for n in range(5)] == [0, 1, 4, 9, 16]
            else:
                services[name].kill()
                if name != "haproxy":
                    load.more("sync", "stream", "async")
                services[name].start()
                services[name].wait_until_up()
            load.more()
            failed = load.failed[before:]
            assert [each for each in failed if not re.match(may_fail, each)] == [], name
            told.append(f"{name} {len(failed)}")
        figure(
            f"killed one after the other, requests that failed of {sum(load.done.values())}: {', '.join(told)}"
        )

"""Agents of tests, each a process of its own; with `OPENLAUNCH_TEST_ENGINE=agents` every server of a test has one."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ON_AGENTS = os.environ.get("OPENLAUNCH_TEST_ENGINE") == "agents"
TOKEN = "5" * 64


class Agent:
    """An agent's process; it can be killed, stopped and started again at the same port."""

    program: tuple[str, ...] = ("-m", "openlaunch.cli")

    def __init__(self, folder: Path, token: str = TOKEN, host: str = "127.0.0.1", **settings: object) -> None:
        self.folder, self.host = folder, host
        self.port = 0
        self._environ = {f"OPENLAUNCH_{name.upper()}": str(value) for name, value in settings.items()}
        self._environ["OPENLAUNCH_CLUSTER_TOKEN"] = token
        self.start()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "agent.log").read_text()

    def start(self) -> None:
        command = [sys.executable, *self.program, "agent", "--host", self.host, "--port", str(self.port)]
        command += ["--data-dir", str(self.folder / "data")]
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, env={**os.environ, **self._environ}, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert line.startswith("ready "), self.log
        self.port = int(line.rpartition(":")[2])

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self._ended()

    def _ended(self) -> None:
        self.process.wait(20)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            self._ended()
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def agents(count: int = 1, token: str = TOKEN, **settings: object) -> Iterator[list[Agent]]:
    """Run agents until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="openlaunch-agents-") as root:
        started: list[Agent] = []
        try:
            for number in range(count):
                folder = Path(root) / str(number)
                folder.mkdir()
                started.append(Agent(folder, token, **settings))
            yield started
        finally:
            for agent in started:
                agent.close()


def settings_of(started: list[Agent], token: str = TOKEN) -> dict[str, str]:
    """Return the settings of a server whose workers these agents have."""
    return {
        "engine": "agents",
        "agents": ",".join(agent.address for agent in started),
        "cluster_token": token,
    }


@contextmanager
def engine_of() -> Iterator[dict[str, str]]:
    """Give the settings of a server on the engine of this run."""
    if not ON_AGENTS:
        yield {}
        return
    with agents() as started:
        yield settings_of(started)

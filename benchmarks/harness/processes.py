"""Starting a system, with everything that it starts; what that costs; and ending it."""

import contextlib
import os
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.harness.environments import ROOT, WORK, environment

MARK = "OPENLAUNCH_BENCH_ID"
START_SECONDS = 120.0
STOP_SECONDS = 10.0
NULL_BODY = b'{"args": {"x": 2, "y": "hello"}}'


@dataclass(frozen=True)
class System:
    """One thing that is measured: how it is installed, started and asked.

    `command` and `env` may have `{bin}`, `{port}` and `{folder}`, the system's own folder of benchmarks/.
    A system whose URL and headers are made at its start writes them to the file that BENCH_READY names.
    """

    name: str
    label: str
    requirements: tuple[str, ...]
    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str = "/predict"
    env: dict[str, str] = field(default_factory=dict)
    body: bytes = NULL_BODY
    expect: bytes = b"9"


@dataclass
class Running:
    """A system at work."""

    system: System
    url: str
    headers: dict[str, str]
    start_seconds: float
    mark: str
    process: "subprocess.Popen[bytes]"

    def ask(self, body: bytes | None = None) -> bytes:
        """One answer, over a connection of its own."""
        headers = {"Content-Type": "application/json", **self.headers}
        request = urllib.request.Request(self.url, body or self.system.body, headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            return bytes(response.read())

    def processes(self) -> list[psutil.Process]:
        """Everything that the system has started, daemons too."""
        found = {}
        with contextlib.suppress(psutil.NoSuchProcess):
            own = psutil.Process(self.process.pid)
            found = {p.pid: p for p in (own, *own.children(recursive=True))}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark:
                    found[process.pid] = process
        return list(found.values())

    def cpu_seconds(self) -> float:
        """CPU time of all its processes so far."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def memory(self) -> dict[int, float]:
        """The proportional set size of each process, in MiB."""
        sizes = {}
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                sizes[process.pid] = process.memory_full_info().pss / 2**20
        return sizes

    def stop(self) -> None:
        """End all of its processes."""
        processes = self.processes()
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, alive = psutil.wait_procs(processes, STOP_SECONDS)
        for process in {*alive, *self.processes()}:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.process.wait(STOP_SECONDS)


@contextlib.contextmanager
def running(system: System, port: int, **more_env: str) -> Iterator[Running]:
    """Start a system, wait until it answers rightly, and stop it at the end."""
    folder = ROOT / "benchmarks" / system.name
    bin_folder = environment(system.name, system.requirements)
    places = {"bin": str(bin_folder), "port": str(port), "folder": str(folder)}
    mark = uuid.uuid4().hex
    ready = WORK / f"ready-{mark}"
    env = {**os.environ, MARK: mark, "BENCH_PORT": str(port), "BENCH_READY": str(ready), **more_env}
    env |= {name: value.format(**places) for name, value in system.env.items()}
    env["PATH"] = f"{bin_folder}:{env['PATH']}"
    log_path = WORK / "logs" / f"{system.name}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(
            [part.format(**places) for part in system.command],
            cwd=folder if folder.is_dir() else None,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    found = Running(system, f"http://127.0.0.1:{port}{system.path}", {}, 0.0, mark, process)
    try:
        _wait_until_it_answers(found, ready, log_path)
        found.start_seconds = time.perf_counter() - began
        yield found
    finally:
        found.stop()
        ready.unlink(missing_ok=True)


def _wait_until_it_answers(found: Running, ready: Path, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    last: object = None
    while time.monotonic() < deadline and found.process.poll() in (None, 0):
        try:
            if ready.exists():
                found.url, *lines = ready.read_text().splitlines()
                found.headers = dict(line.split(": ", 1) for line in lines)
            last = found.ask()
            if found.system.expect in last:
                return
        except OSError as error:
            last = error
        time.sleep(0.01)
    raise RuntimeError(f"{found.system.label} did not answer: {last!r}\n{log.read_text()[-2000:]}")

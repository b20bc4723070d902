"""A server that is killed and started again at the same address, and what it is made of."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from records import settings_of

from openlaunch_worker.nursery import SPARE

DEADLINE = 60.0
NURSERY = b"openlaunch_worker.nursery"
CLOCK_OFF = """
import sys, time
real, off = time.time, float(sys.argv.pop(1))
time.time = lambda: real() + off
from openlaunch.cli.app import run
sys.exit(run())
"""
"""A server whose time of day is off by the seconds that it is given."""
OWN_PROCESS = b"openlaunch.server."
"""Of the server's own code: what it does in processes of its own, which it keeps."""


class ChaosServer:
    """`openlaunch serve` on one port and one data directory, over all its lives."""

    def __init__(
        self, data_dir: Path, clock_off: float = 0.0, host: str = "127.0.0.1", **settings: object
    ) -> None:
        self.data_dir = data_dir
        self.program = ("-c", CLOCK_OFF, str(clock_off)) if clock_off else ("-m", "openlaunch.cli")
        self.port = free_port()
        self.host, self.url = host, f"http://{host}:{self.port}"
        self.started_at = 0.0
        given = {**settings_of(data_dir), **settings}
        self._environ = {f"OPENLAUNCH_{name.upper()}": str(value) for name, value in given.items()}
        self._process: subprocess.Popen[bytes] | None = None
        data_dir.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it, and return at once; `started_at` is when, in seconds since the epoch."""
        command = [sys.executable, *self.program, "serve", "--host", self.host, "--port", str(self.port)]
        with (self.data_dir / "server.log").open("ab") as log:
            self.started_at = time.time()
            self._process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self._environ},
                start_new_session=True,
            )

    def wait_until_up(self) -> None:
        """Until it accepts connections."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), 1):
                return
            time.sleep(0.01)
        raise AssertionError(f"the server does not listen after {DEADLINE:g} s:\n{self.log()}")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def api_key(self) -> str:
        """Of its admin, once it has been up."""
        return str(json.loads((self.data_dir / "credentials.json").read_text())["api_key"])

    def log(self) -> str:
        """The end of its log."""
        return (self.data_dir / "server.log").read_bytes()[-4000:].decode("utf-8", "replace")

    def everything(self) -> list[int]:
        """The server's process and all that it started."""
        return [self.pid, *descendants(self.pid)]

    def workers(self) -> list[int]:
        """Its worker processes: the first child of each child of a nursery, which is in a sandbox, but for spares."""
        parents = [
            pid for launcher in self.nurseries() for init in children(launcher) for pid in children(init)
        ]
        forks = [pid for parent in parents for init in children(parent) for pid in children(init)[:1]]
        return [pid for pid in forks if name(pid) != SPARE]

    def nurseries(self) -> list[int]:
        """The processes that its workers' parents end with."""
        return [pid for pid in children(self.pid) if NURSERY in command_line(pid)]

    def sandboxes(self) -> list[int]:
        """The processes that nurseries are in sandboxes with, and these themselves."""
        inits = [init for launcher in self.nurseries() for init in children(launcher)]
        return [*inits, *(pid for init in inits for pid in children(init))]

    def spares(self) -> list[int]:
        """The processes that wait to become workers, and their inits."""
        inits = [init for nursery in self.sandboxes() for init in children(nursery)]
        return [
            pid for init in inits for fork in children(init) if name(fork) == SPARE for pid in (init, fork)
        ]

    def kept(self) -> list[int]:
        """The processes that it keeps without a worker: nurseries, and those that check and parse."""
        own = [pid for pid in children(self.pid) if OWN_PROCESS in command_line(pid)]
        return [*self.nurseries(), *own]

    def kill(self) -> None:
        """SIGKILL to the server alone."""
        kill(self.pid)
        assert self._process is not None
        self._process.wait()

    def kill_everything(self) -> None:
        """SIGKILL to the server and all that it started."""
        for pid in self.everything():
            kill(pid)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, as at the end of a test."""
        if not has_ended(self._process):
            self.kill_everything()

    def __enter__(self) -> "ChaosServer":
        self.start()
        self.wait_until_up()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def has_ended(process: subprocess.Popen[bytes] | None) -> bool:
    """Send SIGTERM, and return whether nothing of the process is left then."""
    if process is not None and process.poll() is None:
        process.terminate()
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            return False
    return True


def waited(*pids: int) -> float:
    """How long the main threads of these processes have waited for a core, in seconds."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    return total / 1e9


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill(pid: int) -> None:
    """SIGKILL, to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Its own ones; none of a process that ends meanwhile."""
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def descendants(pid: int) -> list[int]:
    """All processes below this one, from the top down."""
    found = children(pid)
    for child in found:
        found += [grandchild for grandchild in descendants(child) if grandchild not in found]
    return found


def command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def name(pid: int) -> str:
    """What lists of processes call it."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def memory_mib(pid: int) -> float:
    """What the process has in memory."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) / 1024


def descriptors(pid: int) -> int:
    """How many files and sockets the process has open, but for its database: a pool, which opens as it is needed."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(link.readlink().name)
    return sum(not name.startswith("openlaunch.db") for name in found)


def middle(values: list[float]) -> float:
    """The median."""
    return sorted(values)[len(values) // 2]

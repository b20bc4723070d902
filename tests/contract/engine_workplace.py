"""Workers that run a script in place of the runtime, for the tests of engines."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import openlaunch_worker
from openlaunch.engines.containers import ContainerEngine
from openlaunch.engines.documents import Resources, WorkerExit, WorkerSpec
from openlaunch.engines.environments import Environments
from openlaunch.engines.images import Images
from openlaunch.engines.local import LocalEngine
from openlaunch.engines.log_lines import without_stamps
from openlaunch.engines.model_caches import ModelCaches
from openlaunch.engines.processes import Processes
from openlaunch.engines.sandbox import Sandboxes
from openlaunch.engines.worker_logs import WorkerLogs

DEADLINE = 60.0

SOURCES = str(Path(openlaunch_worker.__file__).parents[1])
"""Where the runtime is imported from; sandboxes hide it where the project lies in a temporary folder."""

# In place of the runtime: the script is run as the worker, be it by a nursery's fork.
SHIM = """
import runpy, sys, time
def run():
    runpy.run_path({source!r}, run_name="__main__")
if "openlaunch_worker.nursery" in str(sys.argv):
    from openlaunch_worker import nursery
    nursery.worker.main = run
    {in_nursery}
    sys.exit(nursery.main())
run()
"""


class Workplace:
    """Makes workers that run a script instead of the runtime, and hears of their exits."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exits: list[tuple[str, WorkerExit]] = []
        self.in_nursery = ""
        """What the nurseries of the next workers run before they serve."""

    def spec(self, script: str, worker_id: str = "w1", gpus: float = 0) -> WorkerSpec:
        python = self.python(worker_id)
        python.parent.mkdir(parents=True, exist_ok=True)
        source, shim = (python.with_name(name) for name in ("script.py", "shim.py"))
        source.write_text(script)
        shim.write_text(SHIM.format(source=str(source), in_nursery=self.in_nursery))
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{shim}" "$@"\n')
        python.chmod(0o755)
        return WorkerSpec(
            worker_id=worker_id,
            endpoint_id="e1",
            environment=worker_id,
            address="/run/somewhere.sock",
            token="a-token",
            resources=Resources(gpus=gpus),
        )

    def python(self, environment: str) -> Path:
        return self.root / "environments" / environment / "venv" / "bin" / "python"

    def worker_ended(self, worker_id: str, ended: WorkerExit) -> None:
        self.exits.append((worker_id, ended))

    def build_started(self, build_id: str) -> None:
        """No test builds anything."""

    def build_said(self, build_id: str, line: str) -> None:
        """No test builds anything."""

    def build_does(self, build_id: str, step: str) -> None:
        """No test builds anything."""

    def log_path(self, worker_id: str = "w1") -> Path:
        return WorkerLogs(self.root / "logs").path("e1", worker_id)

    def log(self, worker_id: str = "w1") -> str:
        path = self.log_path(worker_id)
        return without_stamps(path.read_text()) if path.exists() else ""

    async def exit(self) -> WorkerExit:
        await eventually(lambda: bool(self.exits))
        return self.exits[0][1]

    async def said(self, word: str, worker_id: str = "w1", times: int = 1) -> None:
        try:
            await eventually(lambda: self.log(worker_id).count(word) >= times)
        except TimeoutError:
            text = (
                f"{worker_id} did not say {word!r} {times} times: {self.log(worker_id)!r}; ends: {self.exits}"
            )
            raise AssertionError(text) from None


def local_engine(
    root: Path,
    workplace: Workplace,
    environ: Mapping[str, str] | None = None,
    *,
    forks: bool = True,
    sandboxes: Sandboxes | None = None,
) -> LocalEngine:
    """A local engine with three GPUs, that starts the workplace's workers below `root` and reports to it."""
    containers = ContainerEngine(server="test", folder=root)
    engine = LocalEngine(
        Processes(root, environ, forks=forks, sandboxes=sandboxes),
        Environments(workplace.root / "environments", workplace.root / "uv-cache"),
        containers,
        Images(containers, "", None),
        (0, 1, 2),
        WorkerLogs(workplace.root / "logs"),
        workplace.root / "jobs",
        ModelCaches(workplace.root / "caches", 0, sandboxes),
    )
    engine.listen(workplace)
    return engine


async def eventually(condition: Callable[[], bool]) -> None:
    pause = 0.01
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, 0.05)  # to ask takes cores from what is waited for


def processes_of(mark: str) -> list[int]:
    """The processes that run and whose command line has this in it; zombies have none."""
    found = subprocess.run(["pgrep", "-f", mark], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def tops_of(mark: str) -> list[int]:
    """Those of them that none of the others started."""
    found = processes_of(mark)
    return [pid for pid in found if _parent_of(pid) not in found]


def _parent_of(pid: int) -> int | None:
    with suppress(FileNotFoundError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None

"""Workers that run a script in place of the runtime, for the tests of engines."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from openlaunch.engines.base import Resources, WorkerExit, WorkerSpec
from openlaunch.engines.containers import ContainerEngine
from openlaunch.engines.environments import Environments
from openlaunch.engines.images import Images
from openlaunch.engines.local import LocalEngine
from openlaunch.engines.processes import Processes
from openlaunch.engines.worker_logs import WorkerLogs
from openlaunch_worker.documents import IsolationOrder

DEADLINE = 20.0

# In place of the runtime: the script is run as the worker, be it by a nursery's fork.
SHIM = """
import runpy, sys
def run():
    runpy.run_path({source!r}, run_name="__main__")
if "openlaunch_worker.nursery" in sys.argv[-1]:
    from openlaunch_worker import nursery
    nursery.worker.main = run
    sys.exit(nursery.main())
run()
"""


class Workplace:
    """Makes workers that run a script instead of the runtime, and hears of their exits."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.exits: list[tuple[str, WorkerExit]] = []

    def spec(self, script: str, worker_id: str = "w1", gpus: int = 0) -> WorkerSpec:
        source = self.root / f"{worker_id}.py"
        source.write_text(script)
        shim = self.root / f"{worker_id}-shim.py"
        shim.write_text(SHIM.format(source=str(source)))
        python = self.python(worker_id)
        python.parent.mkdir(parents=True, exist_ok=True)
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

    def log_path(self, worker_id: str = "w1") -> Path:
        return WorkerLogs(self.root / "logs").path("e1", worker_id)

    def log(self, worker_id: str = "w1") -> str:
        path = self.log_path(worker_id)
        return path.read_text() if path.exists() else ""

    async def exit(self) -> WorkerExit:
        await eventually(lambda: bool(self.exits))
        return self.exits[0][1]

    async def said(self, word: str, worker_id: str = "w1") -> None:
        await eventually(lambda: word in self.log(worker_id))


def local_engine(
    root: Path,
    workplace: Workplace,
    environ: Mapping[str, str] | None = None,
    *,
    forks: bool = True,
    isolation: IsolationOrder | None = None,
) -> LocalEngine:
    """A local engine with three GPUs, that starts the workplace's workers below `root` and reports to it."""
    containers = ContainerEngine(server="test", folder=root)
    engine = LocalEngine(
        Processes(root, environ, forks=forks, isolation=isolation),
        Environments(workplace.root / "environments", workplace.root / "uv-cache"),
        containers,
        Images(containers, "", None),
        (0, 1, 2),
        WorkerLogs(workplace.root / "logs"),
        workplace.root / "jobs",
    )
    engine.listen(workplace)
    return engine


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that waits for its parent does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")

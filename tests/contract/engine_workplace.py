"""Workers that run a script in place of the runtime, for the tests of engines."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from openlaunch.engines.base import WorkerExit, WorkerSpec

DEADLINE = 20.0

# In place of the runtime: the script is run as the worker, be it by a nursery's fork.
SHIM = """
import runpy, sys
def run():
    runpy.run_path({source!r}, run_name="__main__")
if sys.argv[1:] == ["-m", "openlaunch_worker.nursery"]:
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

    def spec(self, script: str, worker_id: str = "w1", gpus: tuple[int, ...] = (), **env: str) -> WorkerSpec:
        source = self.root / f"{worker_id}.py"
        source.write_text(script)
        shim = self.root / f"{worker_id}-shim.py"
        shim.write_text(SHIM.format(source=str(source)))
        python = self.root / f"{worker_id}-python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{shim}" "$@"\n')
        python.chmod(0o755)
        return WorkerSpec(
            worker_id=worker_id,
            endpoint_id="e1",
            python=python,
            address="/run/somewhere.sock",
            token="a-token",
            log_path=self.root / f"{worker_id}.log",
            gpus=gpus,
            env=env,
        )

    def on_exit(self, worker_id: str, ended: WorkerExit) -> None:
        self.exits.append((worker_id, ended))

    def log(self, worker_id: str = "w1") -> str:
        path = self.root / f"{worker_id}.log"
        return path.read_text() if path.exists() else ""

    async def exit(self) -> WorkerExit:
        await eventually(lambda: bool(self.exits))
        return self.exits[0][1]

    async def said(self, word: str, worker_id: str = "w1") -> None:
        await eventually(lambda: word in self.log(worker_id))


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

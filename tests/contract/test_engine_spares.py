"""The local engine's spares: forks that wait for work, which the next worker of an environment becomes."""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from engine_workplace import Workplace, eventually, processes_of

from openlaunch.engines import spares
from openlaunch.engines.documents import WorkerSpec
from openlaunch.engines.local import LocalEngine
from openlaunch_worker.nursery import SPARE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux only")

TELLS = """
import os, time
folder, token = os.getcwd().split("/")[-2], os.environ["OPENLAUNCH_WORKER_TOKEN"]
print(folder[:6], token, sorted(os.listdir("/proc/self/fd")), flush=True)
time.sleep(300)
"""
"""Whether its folder was a spare's, its token, and which descriptors it has."""


def waiting(workplace: Workplace) -> list[int]:
    """The spares."""
    found = []
    for pid in processes_of(str(workplace.python("w1").parent)):
        path = Path(f"/proc/{pid}/comm")
        if path.exists() and path.read_text().strip() == SPARE:
            found.append(pid)
    return found


def second(workplace: Workplace, first: WorkerSpec) -> WorkerSpec:
    return replace(workplace.spec(TELLS, "w2"), environment=first.environment, token="another-token")


async def with_spare(engine: LocalEngine, workplace: Workplace) -> WorkerSpec:
    """Start a worker, and wait for the spare that follows it."""
    first = workplace.spec(TELLS)
    await engine.start(first)
    await workplace.said("a-token")
    await eventually(lambda: len(waiting(workplace)) == 1 and len(engine_spares(engine)) == 1)
    return first


def test_the_next_worker_is_the_spare_and_another_one_follows(
    engine: LocalEngine, workplace: Workplace
) -> None:
    async def main() -> None:
        first = await with_spare(engine, workplace)
        spare = waiting(workplace)
        await engine.start(second(workplace, first))
        await workplace.said("another-token", "w2")
        was, token, *descriptors = workplace.log("w2").split(maxsplit=2)
        assert (was, token) == ("spare-", "another-token")
        assert descriptors == workplace.log("w1").split(maxsplit=2)[2:]
        await eventually(lambda: len(waiting(workplace)) == 1 and waiting(workplace) != spare)
        await engine.close()
        await eventually(lambda: processes_of(str(workplace.python("w1").parent)) == [])

    asyncio.run(main())


def test_a_spare_that_has_ended_is_no_worker(
    engine: LocalEngine, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        first = await with_spare(engine, workplace)
        monkeypatch.setattr(spares, "SPARE_SECONDS", 300.0)
        for pid in waiting(workplace):
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not waiting(workplace))
        await eventually(lambda: not engine_spares(engine))
        await engine.start(second(workplace, first))
        await workplace.said("another-token", "w2")
        assert workplace.log("w2").startswith("worker ")
        assert workplace.exits == []
        await engine.close()

    asyncio.run(main())


def engine_spares(engine: LocalEngine) -> list[spares.Spare]:
    """The spares that the engine would use."""
    ready = engine._processes._nurseries._spares._ready.values()
    return [spare for spare in ready if spare.worker.returncode is None]


def test_a_spare_with_another_bound_of_memory_is_replaced(engine: LocalEngine, workplace: Workplace) -> None:
    async def main() -> None:
        first = await with_spare(engine, workplace)
        spare = waiting(workplace)
        await engine.start(replace(second(workplace, first), memory_limit=1 << 30))
        await workplace.said("another-token", "w2")
        assert workplace.log("w2").startswith("worker")
        await eventually(lambda: len(waiting(workplace)) == 1 and waiting(workplace) != spare)
        await eventually(lambda: len(list(engine_folder(engine).glob("spare-*"))) == 1)
        await engine.close()

    asyncio.run(main())


def engine_folder(engine: LocalEngine) -> Path:
    """The folder of its one nursery."""
    (folder,) = engine._processes._root.glob("nursery-*")
    return folder

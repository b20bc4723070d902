"""The local engine's nurseries: what happens when one breaks, and how many there are."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from engine_workplace import Workplace, alive, eventually, local_engine

from openlaunch.engines import processes
from openlaunch.engines.base import WorkerExit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux only")

SLEEP = "import os, time; print(os.getppid(), flush=True); time.sleep(300)"


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "workers").mkdir()
    return tmp_path / "workers"


def test_workers_of_one_environment_have_one_parent(root: Path, workplace: Workplace) -> None:
    async def main() -> None:
        engine = local_engine(root, workplace)
        first = workplace.spec(SLEEP, "w1")
        second = workplace.spec(SLEEP, "w2")
        other = workplace.spec(SLEEP, "w3")
        object.__setattr__(second, "environment", first.environment)
        await asyncio.gather(*(engine.start(spec) for spec in (first, second, other)))
        for name in ("w1", "w2", "w3"):
            await workplace.said("\n", name)
        await engine.close()
        assert workplace.log("w1") == workplace.log("w2") != workplace.log("w3")

    asyncio.run(main())


def test_workers_end_with_their_nursery_and_the_next_one_has_a_new_one(
    root: Path, workplace: Workplace
) -> None:
    async def main() -> None:
        engine = local_engine(root, workplace)
        spec = workplace.spec(SLEEP + "  # " + str(os.getpid()))
        await engine.start(spec)
        await workplace.said("\n")
        nursery = int(workplace.log())
        os.kill(nursery, signal.SIGKILL)
        assert await workplace.exit() == WorkerExit(code=None, signal=9)
        await engine.start(spec)
        await eventually(lambda: workplace.log().count("\n") == 2)
        assert int(workplace.log().split()[1]) != nursery
        await engine.close()
        assert not alive(nursery)

    asyncio.run(main())


def test_a_python_that_breaks_says_so_and_its_words_are_in_the_log(root: Path, workplace: Workplace) -> None:
    async def main() -> None:
        engine = local_engine(root, workplace)
        spec = workplace.spec("")
        workplace.python("w1").write_text("#!/bin/sh\necho no library >&2\nexit 1\n")
        for _ in range(2):
            with pytest.raises(OSError, match="ended at its start"):
                await engine.start(spec)
        assert workplace.log() == "no library\nno library\n"
        assert workplace.exits == []
        await engine.close()

    asyncio.run(main())


def test_nurseries_without_workers_make_room(
    root: Path, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_NURSERIES", 2)
    script = "import os; print(os.getppid(), flush=True)"

    async def main() -> None:
        engine = local_engine(root, workplace)
        await engine.start(workplace.spec(SLEEP, "busy"))
        await workplace.said("\n", "busy")
        for name in ("a", "b", "c"):
            await engine.start(workplace.spec(script, name))
            await eventually(lambda: name in [worker for worker, _ in workplace.exits])  # noqa: B023
        nurseries = {name: int(workplace.log(name)) for name in ("busy", "a", "b", "c")}
        assert [name for name, pid in nurseries.items() if alive(pid)] == ["busy", "c"]
        await engine.close()
        assert not any(alive(pid) for pid in nurseries.values())

    asyncio.run(main())

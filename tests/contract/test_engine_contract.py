"""What every engine does; an engine is a parameter of the `engine` fixture."""

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine_workplace import DEADLINE, SOURCES, Workplace, eventually, local_engine, processes_of

from openlaunch.engines.base import Engine, NoRoom
from openlaunch.engines.documents import LogPart, WorkerExit, WorkerSpec
from openlaunch.engines.sandbox import Sandboxes
from openlaunch.engines.worker_logs import MAX_WORKER_BYTES

SECRETS = {"OPENLAUNCH_API_KEY": "do-not-tell", "AWS_SECRET_ACCESS_KEY": "neither", "PYTHONPATH": "/nowhere"}
ENVIRON = {**os.environ, **SECRETS, "LC_ALL": "C.UTF-8"}
ENGINES: dict[str, Callable[[Path, Workplace], Engine]] = {
    "forks": lambda root, workplace: local_engine(root, workplace, ENVIRON),
    "isolated": lambda root, workplace: local_engine(
        root, workplace, ENVIRON, sandboxes=Sandboxes((str(root),), (SOURCES,), processes=500, required=True)
    ),
    "processes": lambda root, workplace: local_engine(root, workplace, ENVIRON, forks=False),
}


@asynccontextmanager
async def open_engine(kind: str, workplace: Workplace) -> AsyncIterator[Engine]:
    with tempfile.TemporaryDirectory() as root:
        engine = ENGINES[kind](Path(root), workplace)
        try:
            yield engine
        finally:
            await engine.close()


@pytest.fixture(params=sorted(ENGINES))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def run_to_end(kind: str, workplace: Workplace, spec: WorkerSpec) -> WorkerExit:
    async with open_engine(kind, workplace) as engine:
        await engine.start(spec)
        return await workplace.exit()


def test_exit_code_is_told(kind: str, workplace: Workplace) -> None:
    ended = asyncio.run(run_to_end(kind, workplace, workplace.spec("raise SystemExit(3)")))
    assert ended == WorkerExit(code=3, signal=None)


def test_signal_is_told(kind: str, workplace: Workplace) -> None:
    ended = asyncio.run(run_to_end(kind, workplace, workplace.spec("import os; os.kill(os.getpid(), 9)")))
    assert ended == WorkerExit(code=None, signal=9)
    assert "killed by signal 9" in str(ended)


def test_runs_the_worker_module_or_its_nursery(kind: str, workplace: Workplace) -> None:
    asyncio.run(run_to_end(kind, workplace, workplace.spec("import sys; print(sys.argv[1:])")))
    module = "openlaunch_worker.main" if kind == "processes" else "openlaunch_worker.nursery"
    assert f"from {module} import main" in workplace.log()


def test_python_that_is_not_there_raises(kind: str, workplace: Workplace) -> None:
    spec = workplace.spec("")
    workplace.python(spec.environment).unlink()

    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            with pytest.raises(FileNotFoundError):
                await engine.start(spec)

    asyncio.run(main())
    assert workplace.exits == []


def test_stop_lets_the_worker_finish(kind: str, workplace: Workplace) -> None:
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "print('up', flush=True); time.sleep(60)"
    )

    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            await engine.start(workplace.spec(script))
            await workplace.said("up")
            await engine.stop("w1", grace=DEADLINE)
            assert workplace.exits == [("w1", WorkerExit(code=0, signal=None))]

    asyncio.run(main())


IGNORES_SIGTERM = (
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('up', flush=True)\n"
    "while True: time.sleep(60)"
)


def test_stop_kills_a_worker_that_ignores_sigterm(kind: str, workplace: Workplace) -> None:
    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            await engine.start(workplace.spec(IGNORES_SIGTERM))
            await workplace.said("up")
            await engine.stop("w1", grace=0.1)
            assert workplace.exits == [("w1", WorkerExit(code=None, signal=9))]

    asyncio.run(main())


def test_stop_of_an_unknown_worker_is_ignored(kind: str, workplace: Workplace) -> None:
    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            await engine.stop("nobody", grace=1)

    asyncio.run(main())


GRANDCHILD = (
    "import subprocess, sys, time\n"
    "for own_session in (False, True):\n"
    "    code = 'import time; time.sleep(300)  # {mark}'\n"
    "    subprocess.Popen([sys.executable, '-c', code], start_new_session=own_session)\n"
    "print('up', flush=True)\n"
)


@pytest.mark.parametrize("end", ["exits", "is stopped"])
def test_what_a_worker_started_ends_with_it(kind: str, workplace: Workplace, end: str) -> None:
    mark = f"started by a worker of {workplace.root}"
    script = GRANDCHILD.format(mark=mark) + ("" if end == "exits" else "time.sleep(300)")
    in_sessions = 1 if kind == "processes" else 0  # which nothing but a nursery finds

    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            await engine.start(workplace.spec(script))
            await workplace.said("up")
            if end == "is stopped":
                await engine.stop("w1", grace=DEADLINE)
            await workplace.exit()
            await eventually(lambda: len(processes_of(mark)) == in_sessions)

    try:
        asyncio.run(main())
    finally:
        for pid in processes_of(mark):
            os.kill(pid, signal.SIGKILL)


SHOW = (
    "import json, os; print(json.dumps({'env': dict(os.environ), 'cwd': os.getcwd(), 'here': os.listdir()}))"
)


def test_environment_holds_what_a_worker_needs_and_no_secrets(kind: str, workplace: Workplace) -> None:
    asyncio.run(run_to_end(kind, workplace, workplace.spec(SHOW)))
    env = json.loads(workplace.log())["env"]
    assert env["OPENLAUNCH_WORKER_ADDRESS"] == "/run/somewhere.sock"
    assert env["OPENLAUNCH_WORKER_TOKEN"] == "a-token"
    assert (env["LC_ALL"], env["PATH"]) == ("C.UTF-8", os.environ["PATH"])
    assert not SECRETS.keys() & env.keys()


@pytest.mark.parametrize(("gpus", "shown"), [(0, ""), (1, "0"), (2, "0,1")])
def test_a_worker_sees_its_own_gpus_only(kind: str, workplace: Workplace, gpus: int, shown: str) -> None:
    asyncio.run(run_to_end(kind, workplace, workplace.spec(SHOW, gpus=gpus)))
    assert json.loads(workplace.log())["env"]["CUDA_VISIBLE_DEVICES"] == shown


def test_workers_share_a_gpu_and_know_their_part_of_it(kind: str, workplace: Workplace) -> None:
    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            for name in ("w1", "w2"):
                await engine.start(workplace.spec(IGNORES_SIGTERM, name, gpus=0.5))
            assert engine.capacity().free_gpus == 2
            await engine.start(workplace.spec(SHOW, "w3", gpus=0.25))
            await eventually(lambda: '"env"' in workplace.log("w3"))
            env = json.loads(workplace.log("w3"))["env"]
            assert (env["CUDA_VISIBLE_DEVICES"], env["OPENLAUNCH_GPU_SHARE"]) == ("1", "0.25")
            for name in ("w1", "w2", "w3"):
                await engine.stop(name, grace=0)
            assert engine.capacity().free_gpus == 3

    asyncio.run(main())


def test_gpus_are_held_until_the_worker_ends(kind: str, workplace: Workplace) -> None:
    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            await engine.start(workplace.spec(IGNORES_SIGTERM, "w1", gpus=2))
            assert engine.capacity().free_gpus == 1
            with pytest.raises(NoRoom):
                await engine.start(workplace.spec("", "w2", gpus=2))
            await engine.stop("w1", grace=0)
            assert engine.capacity().free_gpus == 3

    asyncio.run(main())


def test_gpus_of_a_worker_that_can_not_be_started_are_free_again(kind: str, workplace: Workplace) -> None:
    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            spec = workplace.spec("", gpus=2)
            workplace.python(spec.environment).unlink()
            with pytest.raises(FileNotFoundError):
                await engine.start(spec)
            assert engine.capacity().free_gpus == 3

    asyncio.run(main())


def test_working_folder_is_empty_and_removed_at_exit(kind: str, workplace: Workplace) -> None:
    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            await engine.start(workplace.spec(SHOW))
            await workplace.exit()
            shown = json.loads(workplace.log())
            assert shown["here"] == []
            await eventually(lambda: not Path(shown["cwd"]).exists())

    asyncio.run(main())


def test_log_keeps_both_streams_and_earlier_runs_and_is_private(kind: str, workplace: Workplace) -> None:
    workplace.log_path().write_text("earlier\n")
    workplace.log_path().chmod(0o600)
    script = "import sys; print('out', flush=True); print('err', file=sys.stderr)"
    asyncio.run(run_to_end(kind, workplace, workplace.spec(script)))
    assert workplace.log() == "earlier\nout\nerr\n"
    fresh = workplace.spec(script, "w2")
    workplace.exits.clear()
    asyncio.run(run_to_end(kind, workplace, fresh))
    assert workplace.log_path("w2").stat().st_mode & 0o777 == 0o600


def test_log_that_has_grown_too_large_is_emptied_first(kind: str, workplace: Workplace) -> None:
    with workplace.log_path().open("wb") as file:
        file.truncate(MAX_WORKER_BYTES + 1)
    asyncio.run(run_to_end(kind, workplace, workplace.spec("print('new')")))
    assert workplace.log() == "new\n"


def test_the_end_of_a_worker_comes_with_its_last_lines(kind: str, workplace: Workplace) -> None:
    script = "print('first'); print('second', flush=True); raise SystemExit(1)"
    ended = asyncio.run(run_to_end(kind, workplace, workplace.spec(script)))
    assert ended.last_lines == "first\nsecond"


def test_logs_are_read_followed_and_removed(kind: str, workplace: Workplace) -> None:
    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            follower = engine.logs.follow("e1")
            assert await follower.begin(LogPart(1000)) == []
            await engine.start(workplace.spec("print('hello', flush=True)"))
            await workplace.exit()
            (line,) = await follower.poll()
            assert line[:2] == ("w1", "hello")
            assert await engine.logs.read("e1", LogPart(1000)) == [line]
            await engine.logs.remove("e1")
            assert await engine.logs.read("e1", LogPart(1000)) == []

    asyncio.run(main())


def test_standard_input_is_empty(kind: str, workplace: Workplace) -> None:
    asyncio.run(run_to_end(kind, workplace, workplace.spec("import sys; print(repr(sys.stdin.read()))")))
    assert workplace.log() == "''\n"


def test_close_ends_every_worker_at_once(kind: str, workplace: Workplace) -> None:
    async def main() -> float:
        async with open_engine(kind, workplace) as engine:
            for name in ("w1", "w2", "w3"):
                await engine.start(workplace.spec(IGNORES_SIGTERM, name))
                await workplace.said("up", name)
            began = time.monotonic()
            await engine.close()
            assert sorted(name for name, _ in workplace.exits) == ["w1", "w2", "w3"]
            with pytest.raises(OSError, match="closed"):
                await engine.start(workplace.spec(""))
            return time.monotonic() - began

    assert asyncio.run(main()) < DEADLINE / 2


def test_exit_is_told_once_when_stopped_by_several(kind: str, workplace: Workplace) -> None:
    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            await engine.start(workplace.spec(IGNORES_SIGTERM))
            await workplace.said("up")
            await asyncio.gather(*(engine.stop("w1", grace=0.1) for _ in range(3)))
        assert len(workplace.exits) == 1

    asyncio.run(main())


def test_works_on_uvloop(kind: str, workplace: Workplace) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        ended = runner.run(run_to_end(kind, workplace, workplace.spec("raise SystemExit(7)")))
    assert ended == WorkerExit(code=7, signal=None)


def test_capacity_names_cores_memory_and_gpus(kind: str, workplace: Workplace) -> None:
    async def main() -> None:
        async with open_engine(kind, workplace) as engine:
            capacity = engine.capacity()
        assert capacity.cpus >= 1
        assert capacity.memory > 1 << 28
        assert (capacity.gpus, capacity.free_gpus) == (3, 3)

    asyncio.run(main())

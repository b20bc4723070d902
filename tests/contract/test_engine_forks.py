"""The local engine's nurseries: what happens when one breaks or misbehaves, and how many there are."""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine_workplace import DEADLINE, Workplace, eventually, processes_of, tops_of

from openlaunch.engines import nurseries, nursery, usage
from openlaunch.engines.base import Refused
from openlaunch.engines.documents import WorkerExit
from openlaunch.engines.local import LocalEngine
from openlaunch.engines.nursery import ForkedWorker, Nursery

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forks on Linux only")

MANY = 200
"""More workers than there is room for in what a socket holds of orders."""

SLEEP = "import time; print('up', flush=True); time.sleep(300)"


def parents(workplace: Workplace, environment: str = "w1") -> list[int]:
    """The nurseries of an environment, or what started them."""
    return tops_of(str(workplace.python(environment).parent))


def test_workers_of_one_environment_have_one_parent(engine: LocalEngine, workplace: Workplace) -> None:
    async def main() -> None:
        first, second, other = (workplace.spec(SLEEP, name) for name in ("w1", "w2", "w3"))
        object.__setattr__(second, "environment", first.environment)
        await asyncio.gather(*(engine.start(spec) for spec in (first, second, other)))
        for name in ("w1", "w2", "w3"):
            await workplace.said("up", name)
        assert [len(parents(workplace, name)) for name in ("w1", "w2", "w3")] == [1, 0, 1]
        await engine.close()

    asyncio.run(main())


def test_workers_end_with_their_nursery_and_the_next_one_has_a_new_one(
    engine: LocalEngine, workplace: Workplace
) -> None:
    async def main() -> None:
        spec = workplace.spec(SLEEP)
        await engine.start(spec)
        await workplace.said("up")
        parent = parents(workplace)[0]
        os.kill(parent, signal.SIGKILL)
        assert await workplace.exit() == WorkerExit(code=None, signal=9)
        await engine.start(spec)
        await workplace.said("up\n", times=2)
        assert parents(workplace) != [parent]
        await engine.close()
        await eventually(lambda: parents(workplace) == [])

    asyncio.run(main())


def test_a_python_that_breaks_says_so_and_its_words_are_in_the_log(
    engine: LocalEngine, workplace: Workplace
) -> None:
    async def main() -> None:
        spec = workplace.spec("")
        workplace.python("w1").write_text("#!/bin/sh\necho no library >&2\nexit 1\n")
        for _ in range(2):
            with pytest.raises(OSError, match="ended at its start"):
                await engine.start(spec)
        assert workplace.log() == "no library\nno library\n"
        assert workplace.exits == []
        await engine.close()

    asyncio.run(main())


def test_a_sandbox_that_is_refused_is_why_the_worker_is(engine: LocalEngine, workplace: Workplace) -> None:
    async def main() -> None:
        why = b'{"refused": "isolation is required, and there is none"}'
        workplace.in_nursery = (
            f"import socket; socket.socket(fileno=int(sys.argv[-1])).send({why!r}); sys.exit(125)"
        )
        with pytest.raises(Refused, match="isolation is required, and there is none"):
            await engine.start(workplace.spec(SLEEP))
        await engine.close()

    asyncio.run(main())


def test_nurseries_without_workers_make_room(
    engine: LocalEngine, workplace: Workplace, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nurseries, "MAX_NURSERIES", 2)

    async def main() -> None:
        await engine.start(workplace.spec(SLEEP, "busy"))
        await workplace.said("up", "busy")
        for name in ("a", "b", "c"):
            await engine.start(workplace.spec("", name))
            await eventually(lambda: name in [worker for worker, _ in workplace.exits])  # noqa: B023
        names = ("busy", "a", "b", "c")
        # One that makes room ends beside the start of the next.
        await eventually(lambda: [name for name in names if parents(workplace, name)] == ["busy", "c"])
        await eventually(lambda: len(list(root.glob("nursery-*"))) == 2)
        await engine.close()
        await eventually(lambda: not any(parents(workplace, name) for name in names))

    asyncio.run(main())


def test_workers_that_wait_for_room_have_one_parent_too(
    engine: LocalEngine, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nurseries, "MAX_NURSERIES", 1)

    async def main() -> None:
        await engine.start(workplace.spec("", "idle"))
        await eventually(lambda: workplace.exits)
        first, second = (workplace.spec(SLEEP, name) for name in ("w1", "w2"))
        object.__setattr__(second, "environment", first.environment)
        await asyncio.gather(engine.start(first), engine.start(second))
        for name in ("w1", "w2"):
            await workplace.said("up", name)
        assert len(parents(workplace)) == 1
        await engine.close()

    asyncio.run(main())


# Code that runs in the nursery before it serves, as a `.pth` of an owner's requirement does.


def test_what_a_nursery_prints_is_in_the_log_and_no_report(engine: LocalEngine, workplace: Workplace) -> None:
    async def main() -> None:
        workplace.in_nursery = "print('a word of its own', flush=True)"
        await engine.start(workplace.spec(SLEEP))
        await workplace.said("up")
        assert "a word of its own\n" in workplace.log()
        await engine.close()

    asyncio.run(main())


EATS = {
    "memory": "x = bytearray(600 << 20)",
    "disk": "import pathlib; pathlib.Path('large').write_bytes(bytes(30 << 20))",
}


@pytest.mark.parametrize("what", EATS)
@pytest.mark.parametrize("when", ["before its first worker", "beside its worker"])
def test_what_code_in_a_nursery_uses_is_bounded_with_its_workers(
    engine: LocalEngine, workplace: Workplace, monkeypatch: pytest.MonkeyPatch, what: str, when: str
) -> None:
    monkeypatch.setattr(nurseries, "NURSERY_MEMORY", 100 << 20)
    monkeypatch.setattr(usage, "DISK_SECONDS", 0.5)
    monkeypatch.setattr(engine._processes._usage, "_disk", 10 << 20)

    async def main() -> None:
        mark = f"eats for {workplace.root}"
        code = f"{EATS[what]}; import time; time.sleep(60)  # {mark}"
        eats = f"import subprocess; subprocess.Popen([sys.executable, '-c', {code!r}])"
        hangs = "; time.sleep(300)" if when == "before its first worker" else ""
        workplace.in_nursery = eats + hangs
        spec = replace(workplace.spec(SLEEP), memory_limit=10 << 20)
        if hangs:
            with pytest.raises(OSError, match="ended at its start"):
                await engine.start(spec)
        else:
            await engine.start(spec)
            assert await workplace.exit() == WorkerExit(code=None, signal=9)
        assert "the environment's Python is ended with all its workers" in workplace.log()
        if is_isolated(engine):  # else nothing holds what it has started
            await eventually(lambda: processes_of(mark) == [])
        await engine.close()

    asyncio.run(main())


def test_what_workers_use_is_not_their_nurserys(
    engine: LocalEngine, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nurseries, "NURSERY_MEMORY", 100 << 20)

    async def main() -> None:
        spec = workplace.spec(f"x = bytearray(300 << 20); {SLEEP}")
        await engine.start(replace(spec, memory_limit=1 << 30))
        await workplace.said("up")
        for _ in range(2):
            await engine._processes._usage.look()
        assert workplace.exits == []
        await engine.close()

    asyncio.run(main())


def is_isolated(engine: LocalEngine) -> bool:
    return engine._processes._nurseries._sandboxes is not None


BREAKS = {
    "garbage": "import socket; socket.socket(fileno=int(sys.argv[-1])).send(b'garbage'); time.sleep(300)",
    "another's worker": (
        'import socket; socket.socket(fileno=int(sys.argv[-1])).send(b\'{"id": "x", "pid": 1}\'); time.sleep(300)'
    ),
    "nothing, and ends": "sys.exit(0)",
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_nursery_that_breaks_the_protocol_ends_alone_and_leaves_nothing(
    engine: LocalEngine, workplace: Workplace, what: str
) -> None:
    async def main() -> None:
        await engine.start(workplace.spec(SLEEP, "good"))
        await workplace.said("up", "good")
        workplace.in_nursery = BREAKS[what]
        with pytest.raises(OSError, match="ended at its start"):
            await engine.start(workplace.spec(SLEEP, "bad"))
        await eventually(lambda: processes_of(str(workplace.python("bad").parent)) == [])
        assert workplace.exits == []
        await engine.close()

    asyncio.run(main())


@pytest.mark.parametrize("code", ['"soon"', "1e999", "1" + 300 * "0"])
def test_a_nursery_that_reports_an_end_which_is_none_holds_nothing_up(
    engine: LocalEngine, workplace: Workplace, code: str
) -> None:
    lie = f'{{"id": "w1", "code": {code}}}'

    async def main() -> None:
        workplace.in_nursery = (
            "report = nursery.Nursery._report; nursery.Nursery._report = "
            f"lambda self, document: (report(self, document), self._channel.send({lie.encode()!r}))"
        )
        await engine.start(workplace.spec(SLEEP))
        assert await workplace.exit() == WorkerExit(code=None, signal=9)
        async with asyncio.timeout(20):
            await engine.close()

    asyncio.run(main())


def test_a_worker_whose_nursery_ends_before_it_is_tied_to_it_ends_too(
    engine: LocalEngine, workplace: Workplace
) -> None:
    """The nursery ends between its fork and the moment when the fork asks the kernel to end it with the nursery."""

    async def main() -> None:
        workplace.in_nursery = (
            "import os; from openlaunch_worker import kernel; tie = kernel.die_with_parent; me = os.getpid(); "
            "gone = lambda: os.getppid() not in (0, me) or time.sleep(0.001); "
            "kernel.die_with_parent = lambda *number: (any(gone() for _ in range(1000)), tie(*number)); "
            "nursery.Nursery._report = lambda self, document: self._channel.send(b'garbage')"
        )
        with pytest.raises(OSError, match="ended at its start"):
            await engine.start(workplace.spec(SLEEP))
        await eventually(lambda: processes_of(str(workplace.python("w1").parent)) == [])
        await engine.close()

    asyncio.run(main())


def test_many_workers_can_be_asked_for_while_their_nursery_starts(
    engine: LocalEngine, workplace: Workplace
) -> None:
    async def main() -> None:
        workplace.in_nursery = "time.sleep(1)"
        specs = [workplace.spec("", f"w{number}") for number in range(MANY)]
        for spec in specs:
            object.__setattr__(spec, "environment", "w0")
        await asyncio.gather(*(engine.start(spec) for spec in specs))
        await eventually(lambda: len(workplace.exits) == MANY)
        assert {str(ended) for _, ended in workplace.exits} == {"exited with code 0"}
        await engine.close()

    asyncio.run(main())


def test_a_nursery_that_does_not_obey_is_ended_whole(
    engine: LocalEngine, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nursery, "OBEY_SECONDS", 0.1)

    async def main() -> None:
        workplace.in_nursery = "nursery.Nursery._signal = lambda self, order: None"
        await engine.start(workplace.spec(SLEEP))
        await workplace.said("up")
        await engine.stop("w1", grace=0)
        assert await workplace.exit() == WorkerExit(code=None, signal=9)
        await eventually(lambda: processes_of(str(workplace.python("w1").parent)) == [])
        await engine.close()

    asyncio.run(main())


def test_a_process_that_holds_the_channel_does_not_hold_up_the_end(
    engine: LocalEngine, workplace: Workplace
) -> None:
    holder = "subprocess.Popen(['sleep', '300'], pass_fds=[int(sys.argv[-1])], start_new_session=True)"

    async def main() -> None:
        workplace.in_nursery = f"import subprocess; {holder}"
        await engine.start(workplace.spec(SLEEP))
        await workplace.said("up")
        async with asyncio.timeout(20):
            await engine.close()

    asyncio.run(main())


def test_a_worker_that_comes_as_its_start_is_cancelled_ends(
    engine: LocalEngine, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder is gone."""
    heard = Nursery._heard
    forked: list[ForkedWorker] = []

    async def main() -> None:
        def and_cancel(parent: Nursery, report: dict[str, Any]) -> None:
            heard(parent, report)
            forked.extend(parent._children.values())
            starting.cancel()

        monkeypatch.setattr(Nursery, "_heard", and_cancel)
        starting = asyncio.create_task(engine.start(workplace.spec(SLEEP)))
        with pytest.raises(asyncio.CancelledError):
            await starting
        await asyncio.wait_for(forked[0].wait(), DEADLINE)
        await engine.close()

    asyncio.run(main())

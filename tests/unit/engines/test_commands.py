"""Programs that are run to their end."""

import asyncio
import os
import signal
import sys
import threading
import time

import pytest
import uvloop

from openlaunch.engines.commands import (
    KEPT_LINES,
    QUICK_BYTES,
    READ_BYTES,
    SLOW_SECONDS,
    _lines_to,
    run_command,
)

RUNNERS = {"asyncio": asyncio.run, "uvloop": uvloop.run}


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_what_a_program_has_left_running_is_not_waited_for(run):
    code = (
        "import subprocess\nprint(subprocess.Popen(['sleep', '600'], start_new_session=True).pid, flush=True)"
    )
    began = time.monotonic()
    ended = run(run_command([sys.executable, "-c", code], env={}, timeout=300))
    os.kill(int(ended.lines[0]), signal.SIGKILL)
    assert ended.code == 0
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_all_that_a_program_has_printed_is_passed_on(run):
    lines: list[str] = []
    code = "import sys\nfor i in range(5000): print(i)\nsys.stdout.write('end')"
    ended = run(run_command([sys.executable, "-c", code], env={}, timeout=60, log=lines.append))
    assert lines == [*map(str, range(5000)), "end"]
    assert ended.lines == lines[-KEPT_LINES:]


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_a_run_can_be_cancelled_at_each_step_of_its_start(run):
    async def main() -> None:
        for steps in range(12):
            running = asyncio.create_task(run_command(["/bin/sleep", "600"], env={}, timeout=None))
            for _ in range(steps):
                await asyncio.sleep(0)
            running.cancel()
            async with asyncio.timeout(60):
                await asyncio.wait([running])
            assert running.cancelled()

    run(main())


def test_a_program_that_prints_without_end_is_slowed_down():
    lines: list[str] = []

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await run_command(["yes"], env={}, timeout=2, log=lines.append)

    asyncio.run(main())
    slow = READ_BYTES * 2 / SLOW_SECONDS
    assert sum(len(line) + 1 for line in lines) < QUICK_BYTES + 2 * slow


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_descriptors_of_other_threads_are_left_open(run):
    closed_by_others, over = [], threading.Event()

    def use_files() -> None:
        while not over.is_set():
            file = os.open(os.devnull, os.O_RDONLY)
            try:
                os.close(file)
            except OSError as error:
                closed_by_others.append(error)

    async def main() -> None:
        for _ in range(500):
            async with _lines_to(lambda line: None) as output:
                os.write(output, b"a line\n")

    threads = [threading.Thread(target=use_files) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        run(main())
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert closed_by_others == []

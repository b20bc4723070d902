"""Programs that are run to their end."""

import asyncio
import os
import signal
import sys
import time

import pytest
import uvloop

from openlaunch.engines.commands import KEPT_LINES, run_command

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

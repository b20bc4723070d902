"""Running a program to its end: bounded in time, its output passed on line by line."""

import asyncio
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from openlaunch.engines.groups import end_process

KEPT_LINES = 200
MAX_LINE = 4000

Log = Callable[[str], None]
"""Takes one line of a program's output."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended, and its last lines, of standard output and standard error together."""

    code: int
    lines: list[str]


def quiet(_: str) -> None:
    """Drop the line: a log that keeps nothing."""


async def run_command(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    timeout: float | None,
    log: Log = quiet,
    cwd: Path | None = None,
) -> Finished:
    """Run a program to its end. When this is cancelled, it is killed with all that it started.

    Raise `OSError` if it could not be started, and `TimeoutError` if it was not done within `timeout` seconds, and
    was killed; None sets no limit.
    """
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True
    )
    kept: deque[str] = deque(maxlen=KEPT_LINES)

    def take(line: str) -> None:
        kept.append(line)
        log(line)

    try:
        async with asyncio.timeout(timeout):
            await _read_lines(process, take)
            await process.wait()
    finally:
        await end_process(process, grace=0)
    assert process.returncode is not None
    return Finished(process.returncode, list(kept))


async def run_starter(
    command: Sequence[str], *, env: Mapping[str, str], timeout: float, cwd: Path | None = None
) -> Finished:
    """Run a program that starts others and ends before them.

    Its output goes through a file: a pipe would not end before all who have inherited it do, and uvloop lets
    children inherit more than is meant for them. Raise `OSError` if it could not be started, and `TimeoutError` if
    it was not done within `timeout` seconds, and was killed.
    """
    with tempfile.TemporaryFile() as output:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=cwd, env=env, stdin=DEVNULL, stdout=output, stderr=STDOUT, start_new_session=True
        )
        try:
            async with asyncio.timeout(timeout):
                await process.wait()
        except BaseException:
            await end_process(process, grace=0)
            raise
        output.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
    assert process.returncode is not None
    return Finished(process.returncode, lines[-KEPT_LINES:])


async def _read_lines(process: Process, take: Log) -> None:
    assert process.stdout is not None
    rest = b""
    while data := await process.stdout.read(65536):
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[-MAX_LINE:]
        for line in lines:
            take(line[:MAX_LINE].decode(errors="replace"))
    if rest:
        take(rest.decode(errors="replace"))

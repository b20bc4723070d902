"""Running a program to its end: bounded in time, its output passed on line by line."""

import asyncio
import os
import tempfile
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from openlaunch.engines.groups import end_process

T = TypeVar("T")

KEPT_LINES = 200
MAX_LINE = 4000
READ_BYTES = 8192
"""Bytes of output that are handled at once: a program that never stops printing delays nobody else."""
QUICK_BYTES = 1024 * 1024
SLOW_SECONDS = 0.01
"""After this many bytes there is a pause between reads, in which the program waits."""
REST_SECONDS = 1.0
"""How long output is read on after a program's end. What it has left running may hold the pipe open for ever."""

Log = Callable[[str], None]
"""Takes one line of a program's output."""

Watch = Callable[[int], Coroutine[Any, Any, str]]
"""Watches a process, and returns the reason as soon as there is one to end it."""


class Stopped(Exception):
    """A program was killed because its watch gave this reason."""


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
    watch: Watch | None = None,
) -> Finished:
    """Run a program to its end. When this is cancelled, it is killed with all that it started.

    Raise `OSError` if it could not be started, `TimeoutError` if it was not done within `timeout` seconds, and was
    killed, and `Stopped` if it was killed because of its watch. None as `timeout` sets no limit.
    """
    kept: deque[str] = deque(maxlen=KEPT_LINES)

    def take(line: str) -> None:
        kept.append(line)
        log(line)

    async with _lines_to(take) as output:
        process = await _start(command, env, cwd, output)
        try:
            async with asyncio.timeout(timeout):
                await (process.wait() if watch is None else _watched(process, watch))
        finally:
            await end_process(process, grace=0)
    assert process.returncode is not None
    return Finished(process.returncode, list(kept))


async def _start(
    command: Sequence[str], env: Mapping[str, str], cwd: Path | None, output: int | IO[bytes]
) -> Process:
    starting = asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=env, stdin=DEVNULL, stdout=output, stderr=STDOUT, start_new_session=True
    )
    return await _finished(starting, lambda process: end_process(process, grace=0))


async def _finished(opening: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[None]]) -> T:
    """Open something to the end, and undo it where this was cancelled.

    When asyncio's own start of a process is cancelled, it may wait for ever, or leave a pipe open.
    """
    task = asyncio.create_task(opening)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await undo(await task)
        raise


async def _watched(process: Process, watch: Watch) -> None:
    """Wait for the end of a process. Raise `Stopped` if there is a reason to end it before."""
    ending = asyncio.create_task(process.wait())
    watching = asyncio.create_task(watch(process.pid))
    try:
        await asyncio.wait((ending, watching), return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            raise Stopped(watching.result())
    finally:
        ending.cancel()
        watching.cancel()


async def run_starter(
    command: Sequence[str], *, env: Mapping[str, str], timeout: float, cwd: Path | None = None
) -> Finished:
    """Run a program that starts others and ends before them.

    Its output goes through a file: a pipe would not end before all who have inherited it do, and uvloop lets
    children inherit more than is meant for them. Raise `OSError` if it could not be started, and `TimeoutError` if
    it was not done within `timeout` seconds, and was killed.
    """
    with tempfile.TemporaryFile() as output:
        process = await _start(command, env, cwd, output)
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


@asynccontextmanager
async def _lines_to(take: Log) -> AsyncIterator[int]:
    """Give the descriptor that a program writes to; `take` has had its lines when this ends."""
    receiving, sending = os.pipe()
    reading = asyncio.create_task(_read_lines(receiving, take))
    reading.add_done_callback(lambda _: os.close(receiving))
    try:
        try:
            yield sending
        finally:
            os.close(sending)
        with suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                await reading
    finally:
        reading.cancel()


async def _read_lines(output: int, take: Log) -> None:
    rest, received = b"", 0
    while data := await _read(output):
        if (received := received + len(data)) > QUICK_BYTES:
            await asyncio.sleep(SLOW_SECONDS)
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[-MAX_LINE:]
        for line in lines:
            take(line[:MAX_LINE].decode(errors="replace"))
    if rest:
        take(rest.decode(errors="replace"))


async def _read(pipe: int) -> bytes:
    """Wait for what is in a pipe; nothing: it has ended.

    Without a transport: uvloop's closes the descriptor of a file twice, and by then it may be another thread's.
    """
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(pipe)
    return os.read(pipe, READ_BYTES)

"""Running uv: bounded, with a scrubbed environment, its output passed on line by line."""

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import uv

from openlaunch.engines.environ import scrub
from openlaunch.engines.groups import end_process

KEPT_LINES = 200
MAX_LINE = 4000
MAX_REASON_LINES = 8
MAX_REASON = 1000

Log = Callable[[str], None]
"""Takes one line of a build's output."""


class UvError(Exception):
    """uv ended with an error, or was not done in time; the message holds the last lines it said about it."""


class Uv:
    """The `uv` command that is installed with the server.

    Its own variables (`UV_INDEX_URL`, `UV_CACHE_DIR`, …) are passed on to it, the server's are not.
    """

    def __init__(self, timeout: float, environ: Mapping[str, str] | None = None) -> None:
        self._timeout = timeout
        self._environ = scrub(os.environ if environ is None else environ, ("UV_", "XDG_"))
        self._environ |= {"NO_COLOR": "1", "UV_NO_PROGRESS": "1"}

    async def run(self, *args: str | Path, cwd: Path, log: Log) -> list[str]:
        """Run uv to its end and return the last lines of its output.

        When this is cancelled, uv is killed with all that it started.

        Raises:
            UvError: it failed, or took longer than the timeout.

        """
        process = await self._start(args, cwd)
        kept: deque[str] = deque(maxlen=KEPT_LINES)

        def take(line: str) -> None:
            kept.append(line)
            log(line)

        try:
            async with asyncio.timeout(self._timeout):
                await _read_lines(process, take)
                await process.wait()
        except TimeoutError:
            raise UvError(f"was not done within {self._timeout:g} s") from None
        finally:
            await end_process(process, grace=0)
        if process.returncode != 0:
            raise UvError(meaningful(list(kept)) or f"uv ended with code {process.returncode} and no message")
        return list(kept)

    async def _start(self, args: tuple[str | Path, ...], cwd: Path) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                *(uv.find_uv_bin(), *map(str, args)),
                cwd=cwd,
                env=self._environ,
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise UvError(f"uv could not be started: {error}; install it with the server again") from error


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


def meaningful(lines: list[str]) -> str:
    """The part of uv's output that says what went wrong: from the last line that begins an error on."""
    starts = [i for i, line in enumerate(lines) if line.lstrip().startswith(("error", "\u00d7"))]
    chosen = [line.strip() for line in lines[starts[-1] if starts else 0 :] if line.strip()]
    if not starts:
        chosen = chosen[-MAX_REASON_LINES:]
    return "\n".join(chosen[:MAX_REASON_LINES])[:MAX_REASON]

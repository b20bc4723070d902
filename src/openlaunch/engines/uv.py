"""Running uv: bounded, with a scrubbed environment, its output passed on line by line."""

import os
from collections.abc import Mapping
from pathlib import Path

import uv

from openlaunch.engines.commands import Log, run_command
from openlaunch.engines.environ import scrub

MAX_REASON_LINES = 8
MAX_REASON = 1000


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

        When this is cancelled, uv is killed with all that it started. Raise `UvError` if it failed, or took longer
        than the timeout.
        """
        try:
            command = (uv.find_uv_bin(), *map(str, args))
            ended = await run_command(command, env=self._environ, timeout=self._timeout, log=log, cwd=cwd)
        except TimeoutError:
            raise UvError(f"was not done within {self._timeout:g} s") from None
        except OSError as error:
            raise UvError(f"uv could not be started: {error}; install it with the server again") from error
        if ended.code != 0:
            raise UvError(meaningful(ended.lines) or f"uv ended with code {ended.code} and no message")
        return ended.lines


def meaningful(lines: list[str]) -> str:
    """Return the part of uv's output that says what failed: from the last line that begins an error."""
    starts = [i for i, line in enumerate(lines) if line.lstrip().startswith(("error", "\u00d7"))]
    chosen = [line.strip() for line in lines[starts[-1] if starts else 0 :] if line.strip()]
    if not starts:
        chosen = chosen[-MAX_REASON_LINES:]
    return "\n".join(chosen[:MAX_REASON_LINES])[:MAX_REASON]

"""Running uv, and the Python of environments: bounded in time, without the server's variables, output by lines."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import uv

from openlaunch.engines.commands import Finished, Log, Stopped, Watch, quiet, run_command
from openlaunch.engines.environ import scrub

MAX_REASON_LINES = 8
MAX_REASON = 1000

Wrap = Callable[[Sequence[str]], list[str]]
"""Returns the command line that runs a command somewhere else, such as in a sandbox."""


class UvError(Exception):
    """uv ended with an error, or was not done in time; the message holds the last lines it said about it."""


class Uv:
    """The `uv` command that is installed with the server.

    Its own variables (`UV_INDEX_URL`, …) are passed on to it, the server's are not. `timeout` is for each run.
    """

    def __init__(
        self, timeout: float, environ: Mapping[str, str], wrap: Wrap = list, watch: Watch | None = None
    ) -> None:
        self._timeout = timeout
        self._environ = scrub(environ, ("UV_", "XDG_")) | {"NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
        self._wrap = wrap
        self._watch = watch

    async def run(self, *args: str | Path, cwd: Path, log: Log) -> list[str]:
        """Run uv to its end and return the last lines of its output.

        When this is cancelled, uv is killed with all that it started. Raise `UvError` if it failed, or took longer
        than the timeout.
        """
        ended = await self._run((uv.find_uv_bin(), *map(str, args)), cwd, log)
        if ended.code != 0:
            raise UvError(meaningful(ended.lines) or f"uv ended with code {ended.code} and no message")
        return ended.lines

    async def run_python(self, python: Path, *args: str, cwd: Path) -> None:
        """Run a Python to its end, however that is. Raise `UvError` if it took longer than the timeout."""
        await self._run((str(python), *args), cwd, quiet)

    async def _run(self, command: Sequence[str], cwd: Path, log: Log) -> Finished:
        command = self._wrap(command)
        try:
            return await run_command(
                command, env=self._environ, timeout=self._timeout, log=log, cwd=cwd, watch=self._watch
            )
        except Stopped as error:
            raise UvError(str(error)) from None
        except TimeoutError:
            raise UvError(f"was not done within {self._timeout:g} s") from None
        except OSError as error:
            raise UvError(f"uv could not be started: {error}; install it with the server again") from error


def meaningful(lines: list[str]) -> str:
    """Return the part of uv's output that says what failed: from the last line that begins an error."""
    starts = [i for i, line in enumerate(lines) if line.lstrip().startswith(("error", "\u00d7"))]
    chosen = [line.strip() for line in lines[starts[-1] if starts else 0 :] if line.strip()]
    if not starts:
        chosen = chosen[-MAX_REASON_LINES:]
    return "\n".join(chosen[:MAX_REASON_LINES])[:MAX_REASON]

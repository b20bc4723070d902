"""Building one environment with uv, which runs code of its owner's: the build systems of requirements."""

import itertools
import os
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uv import find_uv_bin

from openlaunch.engines.base import Refused
from openlaunch.engines.build_watch import Bounds, BuildWatch
from openlaunch.engines.commands import Log, run_command
from openlaunch.engines.environ import scrub
from openlaunch.engines.environment_folder import EnvironmentFolder
from openlaunch.engines.package_sources import PackageSources
from openlaunch.engines.pythons import find_python, no_python
from openlaunch.engines.runtime import make_readable
from openlaunch.engines.sandbox import Sandboxes, give, make_folder
from openlaunch.engines.uv import Uv, UvError
from openlaunch.engines.uv_caches import UvCaches
from openlaunch_worker.sandbox import SAYS

_COMPILE = ("-I", "-S", "-m", "compileall", "-qq", "-j", "0")
"""Without the environment's `.pth` files, and whatever the code of others looks like."""

_NOTHING = ("-I", "-S", "-c", "")
CHECK_SECONDS = 60.0

_CONFIGURATION = (
    "UV_CONFIG_FILE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
)


class BuildFailed(Exception):
    """The environment can't be built; the message is for the endpoint's owner."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an environment is to have in it, and whose it is; nobody's where it has no requirements."""

    owner: str
    requirements: tuple[str, ...]
    version: str


class Builder:
    """Builds environments below `root`, in a sandbox that sees the environment and its owner's cache of uv alone.

    `timeout` is for each program of a build.
    """

    def __init__(
        self,
        root: Path,
        caches: UvCaches,
        timeout: float,
        bounds: Bounds,
        sandboxes: Sandboxes | None,
        sources: PackageSources,
    ) -> None:
        self._root = root
        self._sources = sources
        self._bounds = bounds
        self._caches = caches
        self._timeout = timeout
        self._sandboxes = sandboxes
        self._uv = Uv(timeout, {**os.environ, "UV_NO_CACHE": "1"})
        self._isolates = sandboxes is None or not sandboxes.required
        """Whether a sandbox was made completely here, where that is required."""

    async def check_isolation(self) -> None:
        """Start nothing in a sandbox, where it is required and was not done before.

        Raise `Refused` if that can't be done, with the step that failed and what to do.
        """
        if self._isolates or self._sandboxes is None:
            return
        with tempfile.TemporaryDirectory() as folder:
            command = self._sandboxes.command([sys.executable, *_NOTHING], make_folder(Path(folder)))
            ended = await run_command(command, env=scrub(os.environ), timeout=CHECK_SECONDS)
        if ended.code != 0:
            raise Refused("\n".join(ended.lines[-3:]).removeprefix(SAYS) or "a sandbox could not be started")
        self._isolates = True

    async def build(self, folder: EnvironmentFolder, wanted: Wanted, log: Log) -> dict[str, Any]:
        """Make the environment in its folder, which is emptied first, and return what there is to know about it.

        Raise `BuildFailed` or `OSError`.
        """
        if (python := await find_python(wanted.version, self._uv, self._root)) is None:
            raise BuildFailed(await no_python(wanted.version, self._uv, self._root))
        folder.begin(wanted.requirements)

        def say(line: str) -> None:
            log(self._sources.hide(line))

        say(f"environment for Python {wanted.version} with {len(wanted.requirements)} requirements")
        try:
            async with self._caches.of(wanted.owner) as cache:
                await self._make(folder, wanted, python, cache, say)
        except UvError as error:
            reason = self._sources.hide(f"the environment could not be built: {error}")
            raise BuildFailed(reason) from error
        return {
            **asdict(wanted),
            "base": str(python.resolve()),
            "needs": [str(path) for path in _needs(python)],
        }

    async def compile(self, folder: EnvironmentFolder, wanted: Wanted) -> None:
        """Add the bytecode of its packages to an environment that is built.

        Its workers can't write there, and one that starts before this is done compiles what it imports for itself.
        Raise `BuildFailed`.
        """
        folder.scratch.mkdir(exist_ok=True)
        uv = self._sandboxed(folder, wanted, os.environ, folder.needs())
        try:
            await uv.run_python(folder.python, *_COMPILE, str(folder.venv / "lib"), cwd=folder.scratch)
        except UvError as error:
            raise BuildFailed(f"an environment could not be compiled: {error}") from error

    async def compile_runtime(self, runtime: Path, base: Path) -> None:
        """Add the bytecode of an interpreter to the runtime. Raise `BuildFailed`."""
        try:
            await self._uv.run_python(base, *_COMPILE, str(runtime), cwd=runtime)
        except UvError as error:
            raise BuildFailed(f"the worker runtime could not be compiled: {error}") from error

    async def _make(
        self, folder: EnvironmentFolder, wanted: Wanted, python: Path, cache: Path, log: Log
    ) -> None:
        own = {"UV_CACHE_DIR": str(cache)}
        environ = {"UV_LINK_MODE": "copy", **os.environ, **self._sources.variables, **own}
        folder.scratch.mkdir()
        if wanted.requirements and self._sandboxes is not None:
            give(folder.venv)
            give(folder.requirements)
        readable = (folder.requirements, Path(find_uv_bin()), *_configured(), *self._sources.folders())
        uv = self._sandboxed(folder, wanted, environ, (*_needs(python), *readable), cache)
        await uv.run(
            *("venv", "--no-project", "--allow-existing", "--python", python, folder.venv),
            cwd=folder.scratch,
            log=log,
        )
        if not wanted.requirements:
            make_readable(folder.venv)
            return
        await uv.run(
            *("pip", "install", "--python", folder.python, "--requirements", folder.requirements),
            cwd=folder.scratch,
            log=log,
        )

    def _sandboxed(
        self,
        folder: EnvironmentFolder,
        wanted: Wanted,
        environ: Mapping[str, str],
        readable: Collection[Path],
        *caches: Path,
    ) -> Uv:
        """Return what runs programs of a build in a sandbox. Nobody's code runs in one without requirements."""
        watch = BuildWatch((folder.path, *caches), self._bounds)
        if (sandboxes := self._sandboxes) is None or not wanted.requirements:
            return Uv(self._timeout, environ, watch=watch)
        numbers = itertools.count()
        writable = (folder.venv, *caches)

        def wrap(command: Sequence[str]) -> list[str]:
            # A new folder for each program: the one before may have replaced what is in its own by links.
            own = make_folder(folder.scratch / str(next(numbers)))
            return sandboxes.command(("nice", *command), own, readable=readable, writable=writable)

        return Uv(self._timeout, environ, wrap, watch)


def _needs(python: Path) -> tuple[Path, ...]:
    """Return the installation that an interpreter is of, and the one that it is a link to."""
    return tuple({path.parent.parent for path in (python, python.resolve())})


def _configured() -> tuple[Path, ...]:
    """Return the files and folders that the administrator's variables name, wherever they are."""
    return tuple(Path(os.environ[name]).absolute() for name in _CONFIGURATION if os.environ.get(name))

"""The virtual environments of bundles: one for each owner and set of requirements, built once, and kept."""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from openlaunch.background import BackgroundTasks
from openlaunch.engines.base import EngineError
from openlaunch.engines.build_watch import Bounds, sizes_of
from openlaunch.engines.commands import KEPT_LINES, Log
from openlaunch.engines.documents import EnvironmentInfo
from openlaunch.engines.environment_build import Builder, BuildFailed, Wanted
from openlaunch.engines.environment_folder import EnvironmentFolder, built, prune
from openlaunch.engines.package_sources import PackageSources
from openlaunch.engines.pythons import SERVER_PYTHON
from openlaunch.engines.runtime import has_bytecode, install_runtime
from openlaunch.engines.sandbox import Sandboxes
from openlaunch.engines.uv_caches import UvCaches
from openlaunch.turns import Turns

FORMAT = 2
"""Part of the hash: to be raised when environments are built in another way."""

MAX_LOG_LINES = 1000
"""Lines of a build's output that are kept and passed on."""


class EnvironmentFailed(EngineError):
    """The environment can't be built; the message is for the endpoint's owner."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`timeout` is in seconds, for each program of a build. `builds` run at once, up to half of them of one owner."""

    builds: int = 6
    timeout: float = 1800.0
    environments: int = 50
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(eq=False)
class _Build:
    """A build under way, and everyone who waits for it."""

    task: asyncio.Task[Path] = field(init=False)
    lines: list[str] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)
    waiting: int = 0
    given_up: bool = False
    """Whether it is being cancelled, because nobody waits for it."""

    def log(self, line: str) -> None:
        if len(self.lines) < KEPT_LINES:
            self.lines.append(line)
        for log in self.logs:
            log(line)

    def join(self, log: Log) -> None:
        for line in self.lines:
            log(line)
        self.logs.append(log)


class Environments:
    """Environments below `root`, in folders named by a hash of what is in them and whose they are.

    One without requirements, in which is nobody's code, is everybody's. The runtime is in `../runtime`.
    """

    def __init__(
        self,
        root: Path,
        caches: Path,
        limits: Limits | None = None,
        sandboxes: Sandboxes | None = None,
        sources: PackageSources | None = None,
    ) -> None:
        self._root = root
        self._limits = limits or Limits()
        self._caches = UvCaches(caches)
        self._sources = sources or PackageSources.of(os.environ)
        self._builder = Builder(
            root, self._caches, self._limits.timeout, self._limits.bounds, sandboxes, self._sources
        )
        self._turns = Turns(self._limits.builds)
        self._builds: dict[str, _Build] = {}
        self._compiling: set[str] = set()
        self._turns_to_compile = Turns(1)
        self._background = BackgroundTasks("an environment could not be compiled")
        self._runtime: Path | None = None

    async def check_isolation(self) -> None:
        """Raise `Refused` where isolation is required and this machine can't isolate; the message says what to do."""
        await self._builder.check_isolation()

    def python(self, environment: str) -> Path:
        return self._folder(environment).python

    def readable(self, environment: str) -> tuple[Path, ...]:
        """Return the folders that its workers need."""
        folder = self._folder(environment)
        return (folder.venv, self.runtime, *folder.needs())

    def is_everybodys(self, environment: str) -> bool:
        """Return whether workers of all owners are in it, because it has no requirements."""
        with suppress(FileNotFoundError):
            return not self._folder(environment).about()["requirements"]
        return False

    def id_of(self, python: Path) -> str:
        return python.parents[2].name

    @property
    def runtime(self) -> Path:
        """The folder of the worker runtime, which is installed at the first use."""
        if self._runtime is None:
            self._runtime = install_runtime(self._root.parent / "runtime")
        return self._runtime

    def _folder(self, environment: str) -> EnvironmentFolder:
        return EnvironmentFolder(self._root / environment)

    async def ensure(
        self,
        requirements: list[str],
        python_version: str | None,
        log: Log,
        started: Callable[[], None] = lambda: None,
        owner: str = "",
    ) -> Path:
        """Return the interpreter of an environment with these requirements, built if it is not there.

        `python_version` is a minor version such as "3.12", None for the server's own. `log` gets the lines of the
        build's output, of the build that made it where it exists. `started` is called when the `owner` has a turn:
        only some builds run at a time. An environment without requirements waits for no turn. Calls for the same
        environment share one build, which ends when the last of them is cancelled. Raise `EnvironmentFailed` if it
        can't be built; the message says why.
        """
        checked = sorted({_checked(requirement) for requirement in requirements})
        wanted = Wanted(owner if checked else "", tuple(checked), python_version or SERVER_PYTHON)
        folder = self._folder(_digest(wanted, self._sources.key() if checked else {}))
        if not checked or await asyncio.to_thread(folder.is_complete):
            started()
            return await self._join(folder, wanted, log)
        async with self._turns.of(owner):
            started()
            return await self._join(folder, wanted, log)

    async def _join(self, folder: EnvironmentFolder, wanted: Wanted, log: Log) -> Path:
        """Wait for the build of the environment, which is begun where none is under way."""
        name = folder.path.name
        while (build := self._builds.get(name)) is not None and build.given_up:
            await asyncio.wait([build.task])
        if build is None:
            build = self._builds[name] = _Build()
            build.task = asyncio.create_task(self._run(build, folder, wanted))
        build.join(log)
        return await _wait(build)

    async def _run(self, build: _Build, folder: EnvironmentFolder, wanted: Wanted) -> Path:
        try:
            await asyncio.to_thread(lambda: self.runtime)
            if not await asyncio.to_thread(folder.is_complete):
                await self._build(build, folder, wanted)
            else:
                for line in (await asyncio.to_thread(folder.build_log.read_text)).splitlines():
                    build.log(line)
            if not has_bytecode(self.runtime, wanted.version):
                await self._builder.compile_runtime(self.runtime, Path(folder.about()["base"]))
            os.utime(folder.marker)
            if (
                wanted.requirements
                and not folder.compiled.exists()
                and folder.path.name not in self._compiling
            ):
                self._compiling.add(folder.path.name)
                self._background.spawn(self._compile(folder, wanted))
            return folder.python
        except BuildFailed as error:
            raise EnvironmentFailed(str(error)) from error
        except OSError as error:
            raise EnvironmentFailed(f"the environment could not be written: {error}") from error
        finally:
            del self._builds[folder.path.name]

    async def _build(self, build: _Build, folder: EnvironmentFolder, wanted: Wanted) -> None:
        lines: list[str] = []

        def keep(line: str) -> None:
            if len(lines) <= MAX_LOG_LINES:
                line = line if len(lines) < MAX_LOG_LINES else "(the rest of the output is left out)"
                lines.append(line)
                build.log(line)

        try:
            about = await self._builder.build(folder, wanted, keep)
        except BaseException:
            folder.discard()
            raise
        await asyncio.to_thread(folder.finish, about, lines)

    async def _compile(self, folder: EnvironmentFolder, wanted: Wanted) -> None:
        """Compile an environment beside its first workers.

        They do not wait, because it can take ten times as long as the build, and they import little of what is there.
        """
        try:
            async with self._turns_to_compile.of(wanted.owner):
                await self._builder.compile(folder, wanted)
            folder.compiled.touch()
        finally:
            self._compiling.discard(folder.path.name)

    async def close(self) -> None:
        """End what runs in the background. An environment that has no bytecode gets it when it is next used."""
        await self._background.stop()

    async def all(self) -> list[EnvironmentInfo]:
        """Return the environments that are built, with what each takes on the disk."""
        found = await asyncio.to_thread(built, self._root)
        sizes = await sizes_of([self._root / each.id for each in found])
        return [replace(each, size=sizes.get(self._root / each.id, 0)) for each in found]

    async def prune(self, keep: Collection[Path], owner: str | None = None) -> list[str]:
        """Remove those used least recently, down to the limit, and return them; these interpreters' stay.

        With an `owner`, all of theirs go. The caches of owners who then have no environment go with them.
        """
        spared = {python.parents[2] for python in keep}
        limit = self._limits.environments
        removed, owners = await asyncio.to_thread(
            prune, self._root, spared, {*self._builds, *self._compiling}, limit, owner
        )
        self._caches.prune(owners)
        return removed


async def _wait(build: _Build) -> Path:
    build.waiting += 1
    try:
        return await asyncio.shield(build.task)
    finally:
        build.waiting -= 1
        if build.waiting == 0 and not build.task.done():
            build.given_up = True
            build.task.cancel()
            await asyncio.wait([build.task])


_OPTION = re.compile(r"\s--?[A-Za-z]")


def _checked(requirement: str) -> str:
    """Return the requirement if it is one alone: options, lines and variables are for files of one's own.

    uv replaces `${NAME}` in requirement files by what may be a secret of the server's, such as an index's key.
    """
    text = requirement.strip()
    if (
        not text
        or text.startswith(("-", "#"))
        or text.endswith("\\")
        or "${" in text
        or _OPTION.search(text)
        or not text.isprintable()
    ):
        raise EnvironmentFailed(
            f"the requirement {requirement!r} is not allowed: give one package each, such as 'numpy>=2' or "
            "'name @ https://…', without options, variables or comments"
        )
    return text


def _digest(wanted: Wanted, sources: dict[str, str]) -> str:
    parts = [FORMAT, wanted.owner, wanted.version, wanted.requirements]
    text = json.dumps([*parts, sources] if sources else parts)
    return hashlib.sha256(text.encode()).hexdigest()[:20]

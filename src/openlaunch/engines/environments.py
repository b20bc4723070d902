"""The virtual environments of bundles: built with uv, shared by hash, and kept."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from openlaunch.engines.base import EngineError
from openlaunch.engines.commands import KEPT_LINES, Log, quiet
from openlaunch.engines.runtime import install_runtime, link_runtime
from openlaunch.engines.uv import Uv, UvError
from openlaunch.turns import Turns

FORMAT = 1
"""Part of the hash: to be raised when environments are built in another way."""

SERVER_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

_MARKER = "openlaunch.json"
"""Written last: an environment without it was not finished."""

_BUILD_LOG = "build.log"


class EnvironmentFailed(EngineError):
    """The environment can't be built; the message is for the endpoint's owner."""


@dataclass(frozen=True, slots=True)
class Limits:
    """`timeout` is in seconds, for each run of uv. `python_downloads` lets uv fetch a Python that is not there.

    `builds` run at once, up to half of them of one owner.
    """

    builds: int = 6
    timeout: float = 1800.0
    environments: int = 50
    python_downloads: bool = False


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
    """Environments below `root`, in folders named by a hash of what is in them; `../runtime` is on their path."""

    def __init__(self, root: Path, limits: Limits | None = None) -> None:
        self._root = root
        self._limits = limits or Limits()
        self._uv = Uv(self._limits.timeout)
        self._turns = Turns(self._limits.builds)
        self._builds: dict[str, _Build] = {}
        self._runtime: Path | None = None

    def python(self, environment: str) -> Path:
        return self._root / environment / "bin" / "python"

    def id_of(self, python: Path) -> str:
        return python.parent.parent.name

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
        version = python_version or SERVER_PYTHON
        wanted = sorted({_checked(requirement) for requirement in requirements})
        folder = self._root / _digest(wanted, version)
        if not wanted or await asyncio.to_thread(_is_complete, folder):
            started()
            return await self._join(folder, wanted, version, log)
        async with self._turns.of(owner):
            started()
            return await self._join(folder, wanted, version, log)

    async def _join(self, folder: Path, wanted: list[str], version: str, log: Log) -> Path:
        """Wait for the build of the environment, which is begun where none is under way."""
        while (build := self._builds.get(folder.name)) is not None and build.given_up:
            await asyncio.wait([build.task])
        if build is None:
            build = self._builds[folder.name] = _Build()
            build.task = asyncio.create_task(self._run(build, folder, wanted, version))
        build.join(log)
        return await _wait(build)

    async def _run(self, build: _Build, folder: Path, wanted: list[str], version: str) -> Path:
        try:
            runtime = self._install_runtime()
            if not await asyncio.to_thread(_is_complete, folder):
                await self._build(folder, wanted, version, build.log)
            else:
                for line in (await asyncio.to_thread((folder / _BUILD_LOG).read_text)).splitlines():
                    build.log(line)
            await asyncio.to_thread(_use, folder, runtime)
            return self.python(folder.name)
        except OSError as error:
            raise EnvironmentFailed(f"the environment could not be written: {error}") from error
        finally:
            del self._builds[folder.name]

    def _install_runtime(self) -> Path:
        if self._runtime is None:
            parent = self._root.parent / "runtime"
            parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._runtime = install_runtime(parent)
        return self._runtime

    async def _build(self, folder: Path, wanted: list[str], version: str, log: Log) -> None:
        await asyncio.to_thread(_clear, folder)
        lines: list[str] = []

        def keep(line: str) -> None:
            lines.append(line)
            log(line)

        try:
            await self._make(folder, wanted, version, keep)
        except BaseException:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            raise
        (folder / _BUILD_LOG).write_text("".join(f"{line}\n" for line in lines))
        half = folder / f"{_MARKER}.new"
        half.write_text(json.dumps({"requirements": wanted, "python_version": version}))
        half.replace(folder / _MARKER)

    async def _make(self, folder: Path, wanted: list[str], version: str, log: Log) -> None:
        base = await self._find_python(version)
        log(f"environment for Python {version} with {len(wanted)} requirements")
        try:
            await self._uv.run(
                "venv", "--no-project", "--allow-existing", "--python", base, ".", cwd=folder, log=log
            )
            if wanted:
                (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in wanted))
                python = folder / "bin" / "python"
                install = ("pip", "install", "--python", python, "--requirements", "requirements.txt")
                await self._uv.run(*install, cwd=folder, log=log)
        except UvError as error:
            raise EnvironmentFailed(f"the environment could not be built: {error}") from error

    async def _find_python(self, version: str) -> str:
        """Return what `uv venv --python` is given: a path, unless uv may download."""
        if version == SERVER_PYTHON:
            return sys.executable
        if self._limits.python_downloads:
            return version
        try:
            found = await self._uv.run("python", "find", "--no-project", version, cwd=self._root, log=quiet)
        except UvError as error:
            # uv gives up at the shims of a pyenv that has this version, but not switched on.
            if (python := _pyenv_pythons().get(version)) is not None:
                return str(python)
            raise EnvironmentFailed(await self._no_python(version)) from error
        return next(line for line in reversed(found) if line.startswith("/"))

    async def _no_python(self, version: str) -> str:
        try:
            listed = await self._uv.run("python", "list", "--only-installed", cwd=self._root, log=quiet)
        except UvError:
            listed = []
        found = {SERVER_PYTHON, *_minor_versions(listed), *_pyenv_pythons()}
        return (
            f"the bundle was packed with Python {version}, which is not on this machine "
            f"(found: {', '.join(sorted(found, key=_as_numbers))}); "
            f"install it, or pack the bundle with {SERVER_PYTHON}"
        )

    async def prune(self, keep: Collection[Path]) -> list[str]:
        """Remove those used least recently, down to the limit, and return them; these interpreters' stay."""
        spared = {python.parent.parent for python in keep} | {self._root / name for name in self._builds}
        return await asyncio.to_thread(_prune, self._root, spared, self._limits.environments)


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
        or not text.isprintable()
    ):
        raise EnvironmentFailed(
            f"the requirement {requirement!r} is not allowed: give one package each, such as 'numpy>=2' or "
            "'name @ https://…', without options, variables or comments"
        )
    return text


def _digest(requirements: list[str], version: str) -> str:
    text = json.dumps([FORMAT, version, requirements])
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _minor_versions(listed: list[str]) -> set[str]:
    """Return the minor versions in lines such as "cpython-3.12.1-linux-x86_64-gnu    /usr/bin/python3.12"."""
    full = [line.split("-")[1] for line in listed if line.startswith("cpython-") and line.count("-") > 1]
    return {".".join(version.split(".")[:2]) for version in full}


def _as_numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def _pyenv_pythons() -> dict[str, Path]:
    """Return the newest interpreter of each minor version that pyenv has installed."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    installed = [
        p for p in root.glob("versions/3.*/bin/python3") if re.fullmatch(r"3\.\d+\.\d+", p.parts[-3])
    ]
    in_order = sorted(installed, key=lambda p: _as_numbers(p.parts[-3]))
    return {p.parts[-3].rpartition(".")[0]: p for p in in_order}


def _is_complete(folder: Path) -> bool:
    """Return whether it was finished, and its base interpreter is still there."""
    return (folder / _MARKER).exists() and os.access(folder / "bin" / "python", os.X_OK)


def _clear(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700)


def _use(folder: Path, runtime: Path) -> None:
    link_runtime(folder, runtime)
    os.utime(folder / _MARKER)


def _prune(root: Path, spared: set[Path], limit: int) -> list[str]:
    by_age = sorted(root.glob(f"*/{_MARKER}"), key=lambda marker: marker.stat().st_mtime)
    surplus = len(by_age) - limit
    unused = [marker.parent for marker in by_age if marker.parent not in spared]
    removed = unused[: max(0, surplus)]
    for folder in removed:
        (folder / _MARKER).unlink(missing_ok=True)  # first: half a folder without it is not used
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in removed]

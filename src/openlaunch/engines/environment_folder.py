"""The folder of one virtual environment: what the server keeps there, and what a build writes.

A build runs code of the environment's owner, and so do the environment's workers. They see nothing but `venv`, and
the server reads and follows nothing in it.
"""

import json
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openlaunch.engines.documents import EnvironmentInfo
from openlaunch.trash import PREFIX, discard

MARKER = "openlaunch.json"
"""Written last: an environment without it was not finished."""


@dataclass(frozen=True, slots=True)
class EnvironmentFolder:
    """The paths of one environment, by its folder."""

    path: Path

    @property
    def venv(self) -> Path:
        return self.path / "venv"

    @property
    def python(self) -> Path:
        return self.venv / "bin" / "python"

    @property
    def requirements(self) -> Path:
        return self.path / "requirements.txt"

    @property
    def scratch(self) -> Path:
        """Where each program of a build has a home and temporary files."""
        return self.path / "scratch"

    @property
    def marker(self) -> Path:
        return self.path / MARKER

    @property
    def compiled(self) -> Path:
        """A file that is there once the packages have their bytecode."""
        return self.path / "compiled"

    @property
    def build_log(self) -> Path:
        return self.path / "build.log"

    def begin(self, requirements: Sequence[str]) -> None:
        """Make the folder anew, for a build."""
        discard(self.path)
        self.venv.mkdir(parents=True, mode=0o700)
        self.requirements.write_text("".join(f"{line}\n" for line in requirements))

    def finish(self, about: dict[str, Any], log: Sequence[str]) -> None:
        """Keep the log of the build, and say that the environment can be used."""
        discard(self.scratch)
        self.build_log.write_text("".join(f"{line}\n" for line in log))
        half = self.path / f"{MARKER}.new"
        half.write_text(json.dumps(about))
        half.replace(self.marker)

    def is_complete(self) -> bool:
        """Return whether it was finished, and its base interpreter is still there."""
        try:
            return os.access(self.about()["base"], os.X_OK)
        except (FileNotFoundError, KeyError):
            return False

    def needs(self) -> tuple[Path, ...]:
        """Return the folders of the Python that it was made for; none where it was not finished."""
        with suppress(FileNotFoundError):
            return tuple(map(Path, self.about()["needs"]))
        return ()

    def about(self) -> dict[str, Any]:
        """Return what `finish` was given."""
        about: dict[str, Any] = json.loads(self.marker.read_text())
        return about

    def discard(self) -> None:
        self.marker.unlink(missing_ok=True)  # first: half a folder without it is not used
        discard(self.path)


def built(root: Path) -> list[EnvironmentInfo]:
    """Return the environments that were finished, without their sizes."""
    found: list[EnvironmentInfo] = []
    for path in root.iterdir():
        with suppress(FileNotFoundError, KeyError, NotADirectoryError):
            about, used_at = EnvironmentFolder(path).about(), (path / MARKER).stat().st_mtime
            requirements = tuple(about["requirements"])
            found.append(
                EnvironmentInfo(path.name, about["owner"], about["version"], requirements, 0, used_at)
            )
    return found


def prune(
    root: Path, used: set[Path], builds: Collection[str], limit: int, owner: str | None = None
) -> tuple[list[str], set[str]]:
    """Remove the environments that were used least recently, down to the limit, and halves of them.

    With an `owner`, remove all of theirs instead. Those in use stay, and those that are built, also from a moment ago
    on. Return the names of those that were removed, and the owners of the others.
    """
    spared = used | {root / name for name in list(builds)}
    unused: list[tuple[float, Path]] = []
    removed: list[Path] = []
    for path in root.iterdir():
        if path.name.startswith(PREFIX) or path in spared:
            continue
        try:
            unused.append(((path / MARKER).stat().st_mtime, path))
        except FileNotFoundError:
            removed.append(path)
    surplus = max(0, len(unused) + len(spared) - limit)
    oldest_first = [path for _, path in sorted(unused)]
    if owner is not None:
        removed = []
        oldest_first.sort(key=lambda path: _owner(path) != owner)
        surplus = sum(_owner(path) == owner for path in oldest_first)
    removed += oldest_first[:surplus]
    removed = [path for path in removed if path.name not in builds]
    for path in removed:
        EnvironmentFolder(path).discard()
    return [path.name for path in removed], {_owner(path) for path in (*spared, *oldest_first[surplus:])}


def _owner(path: Path) -> str:
    try:
        return str(EnvironmentFolder(path).about()["owner"])
    except (FileNotFoundError, KeyError):
        return ""  # of a build under way, whose cache is in use

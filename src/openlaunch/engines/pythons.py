"""The Python interpreters of this machine that environments can be made for."""

import os
import re
import sys
from pathlib import Path

from openlaunch.engines.commands import quiet
from openlaunch.engines.uv import Uv, UvError

SERVER_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


async def find_python(version: str, uv: Uv, folder: Path) -> Path | None:
    """Return an interpreter of a minor version such as "3.12"; None where there is none. uv runs in `folder`."""
    if version == SERVER_PYTHON:
        return Path(sys.executable)
    try:
        found = await uv.run("python", "find", "--no-project", version, cwd=folder, log=quiet)
    except UvError:
        # uv gives up at the shims of a pyenv that has this version, but not switched on.
        return _pyenv_pythons().get(version)
    return Path(next(line for line in reversed(found) if line.startswith("/")))


async def no_python(version: str, uv: Uv, folder: Path) -> str:
    """Say that there is no interpreter of this version, which ones there are, and what to do."""
    try:
        listed = await uv.run("python", "list", "--only-installed", cwd=folder, log=quiet)
    except UvError:
        listed = []
    found = {SERVER_PYTHON, *_minor_versions(listed), *_pyenv_pythons()}
    return (
        f"the bundle was packed with Python {version}, which is not on this machine "
        f"(found: {', '.join(sorted(found, key=_as_numbers))}); "
        f"install it, or pack the bundle with {SERVER_PYTHON}"
    )


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

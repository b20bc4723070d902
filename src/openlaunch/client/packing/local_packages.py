"""Packages that were installed from a folder of this machine, as with `pip install -e .`: no index has them."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

_SENT: Final = ("METADATA", "entry_points.txt", "top_level.txt")
"""What packages look up about themselves, such as their version."""


@dataclass(frozen=True, slots=True)
class LocalPackage:
    """An installed package: what pip noted about it, and the names that it is imported by."""

    about: Path
    modules: frozenset[str]


def local_packages(folders: Iterable[Path]) -> Iterator[LocalPackage]:
    """Find the packages in `site-packages` folders that were installed from a folder."""
    for folder in folders:
        try:
            changed = folder.stat().st_mtime_ns
        except OSError:
            continue
        yield from _in(folder, changed)


@lru_cache(maxsize=64)
def _in(folder: Path, _changed: int) -> tuple[LocalPackage, ...]:
    found = folder.glob("*.dist-info/direct_url.json")
    return tuple(LocalPackage(one.parent, _modules_of(one.parent)) for one in found if _is_local(one))


def _is_local(direct_url: Path) -> bool:
    try:
        document = json.loads(direct_url.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return "dir_info" in document and str(document.get("url", "")).startswith("file:")


def _modules_of(about: Path) -> frozenset[str]:
    names = {re.sub(r"[-_.]+", "_", about.name.split("-")[0])}
    for name, wanted in (("top_level.txt", None), ("RECORD", "/")):
        try:
            lines = (about / name).read_text("utf-8").splitlines()
        except OSError:
            continue
        parts = (line.split(",")[0] if wanted else line for line in lines)
        names |= {part.split("/")[0].removesuffix(".py") for part in parts}
    return frozenset(name for name in names if name.isidentifier())


def notes_about(names: Iterable[str], folders: Iterable[Path]) -> dict[str, Path]:
    """Return the files about local packages that have one of these modules, by their path below `sys.path`."""
    tops = {name.partition(".")[0] for name in names}
    packages = [one for one in local_packages(folders) if one.modules & tops]
    files = [package.about / name for package in packages for name in _SENT]
    return {f"{file.parent.name}/{file.name}": file for file in files if file.is_file()}

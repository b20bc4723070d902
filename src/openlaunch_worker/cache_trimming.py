"""The process that keeps an owner's cache within its bound.

Its arguments are the cache, the bound in bytes, and a file with the URLs that running workers have prefetched, as
`prefetch` has it: those stay. Of the rest, what was used least recently goes first.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from openlaunch_worker.prefetch import READY, marker_of, say
from openlaunch_worker.prefetch_urls import Source, source_of


@dataclass
class _Unit:
    """Files that go together, and when one of them was used last."""

    used_at: float
    files: list[Path] = field(default_factory=list)
    size: int = 0


def trim(cache: Path, max_bytes: int, kept: Iterable[Source]) -> int:
    """Delete what was used least recently until the rest fits, and return how many bytes went."""
    places = {source.place: source for source in kept}
    for source in places.values():
        with suppress(OSError):
            os.utime(marker_of(cache, source))
    units = list(_units(cache))
    stay = {Path(os.path.realpath(cache / place)) for place in places}
    left, gone = sum(unit.size for unit in units), 0
    for unit in sorted(units, key=lambda unit: unit.used_at):
        if left <= max_bytes:
            break
        if any(each in stay or not stay.isdisjoint(each.parents) for each in unit.files):
            continue
        for file in unit.files:
            with suppress(OSError):
                file.unlink()
        left, gone = left - unit.size, gone + unit.size
    _remove_empty(cache)
    return gone


def _units(cache: Path) -> Iterator[_Unit]:
    """Yield what was prefetched, each URL's files together with the file that says they are there, and all else."""
    root = Path(os.path.realpath(cache))
    found = {path: path.lstat() for path in _files(root)}
    markers = [path for path in found if path.parent == root / READY and path.suffix != ".lock"]
    for marker in markers:
        with suppress(OSError, ValueError):
            place = Path(os.path.realpath(root / source_of(marker.read_text()).place))
            files = [path for path in found if path == place or place in path.parents]
            size = sum(found.pop(path).st_blocks * 512 for path in files)
            yield _Unit(found.pop(marker).st_mtime, [marker, *files], size)
    for path, status in found.items():
        if READY not in path.parts:
            yield _Unit(max(status.st_atime, status.st_mtime), [path], status.st_blocks * 512)


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        yield from (Path(folder, name) for name in names)


def _remove_empty(cache: Path) -> None:
    for folder, _, _ in os.walk(cache, topdown=False):
        if folder != str(cache):
            with suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106 -- as os.walk gives it


def main() -> int:
    """Trim, and say what went."""
    kept = json.loads(Path(sys.argv[3]).read_text())
    gone = trim(Path(sys.argv[1]), int(sys.argv[2]), map(source_of, kept))
    if gone:
        say(f"{gone} bytes that were used least recently were deleted from the cache")
    return 0


if __name__ == "__main__":
    sys.exit(main())

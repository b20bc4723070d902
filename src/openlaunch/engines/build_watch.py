"""What a build may use of the machine, looked at while it runs: the memory of all its processes, and the disk."""

import asyncio
import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from openlaunch.engines import process_tree
from openlaunch.wire.quantities import size_text

GIB = 1024**3

LOOK_SECONDS = 1.0
LOOKS_PER_COUNT = 10
"""Looks for each count of the bytes of all files, which takes longer than a look."""
COUNT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bytes that a build may use: memory of all its processes, and disk.

    `free` bytes of the disk stay free, and so does a share of the files that it can have.
    """

    memory: int = field(
        default_factory=lambda: os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 3 // 4
    )
    disk: int = 64 * GIB
    free: int = GIB
    free_files: float = 0.02


class BuildWatch:
    """Watches one program of a build, which writes to `folders` alone. Called with its process id."""

    def __init__(self, folders: tuple[Path, ...], bounds: Bounds) -> None:
        self._folders = folders
        self._bounds = bounds

    async def __call__(self, pid: int) -> str:
        """Return what it has used too much of, once it has."""
        looks = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            looks += 1
            if (reason := await asyncio.to_thread(self._look, pid)) is not None:
                return reason
            if looks % LOOKS_PER_COUNT == 0 and await bytes_of(*self._folders) > self._bounds.disk:
                return f"it wrote more than {size_text(self._bounds.disk)} to the disk"

    def _look(self, pid: int) -> str | None:
        bounds = self._bounds
        if memory_of_tree(pid) > bounds.memory:
            return f"it used more than {size_text(bounds.memory)} of memory"
        for disk in map(os.statvfs, self._folders):
            if disk.f_bavail * disk.f_frsize < bounds.free:
                return f"it left less than {size_text(bounds.free)} of the disk free"
            if disk.f_favail < disk.f_files * bounds.free_files:  # both are 0 where files are not counted
                return f"it left less than {bounds.free_files:.0%} of the disk's files free"
        return None


def memory_of_tree(pid: int) -> int:
    """Return the bytes of memory, shared memory among it, that a process and those below it use. Linux only."""
    return sum(map(process_tree.memory, process_tree.tree(pid)))


async def bytes_of(*folders: Path) -> int:
    """Return what folders take on the disk, however deep they are; 0 where that can't be counted in time.

    A program of its own counts, and no thread waits for it, because nobody's folders may delay what else this
    process does.
    """
    return sum(int(line.split()[0]) * 1024 for line in await _counted(folders))


async def sizes_of(folders: Collection[Path]) -> dict[Path, int]:
    """Return the same for each folder; nothing where that can't be counted in time."""
    lines = [line.partition(b"\t") for line in (await _counted(folders) if folders else [])]
    return {Path(os.fsdecode(path)): int(size) * 1024 for size, _, path in lines}


async def _counted(folders: Collection[Path]) -> list[bytes]:
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(COUNT_SECONDS):
            return (await _output("du", "-skx", "--", *map(str, folders))).splitlines()
    return []


async def _output(*command: str) -> bytes:
    """Return what a program writes, which is killed when this is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # a line for each folder that is closed to it, however many there are
    )
    try:
        return (await process.communicate())[0]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

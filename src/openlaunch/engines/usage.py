"""What the processes of each worker use together, seen from outside of its sandbox; workers that use too much end."""

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from openlaunch.engines import process_tree
from openlaunch.engines.groups import Child
from openlaunch.engines.log_writer import LogPipe
from openlaunch.engines.nursery import Nursery

log = logging.getLogger(__name__)

DISK_SECONDS = 5.0
MAX_FILES = 1_000_000
"""Files and folders that a worker may have in its folder."""
MIB = 1024 * 1024
NURSERY_MEMORY = 512 * MIB
"""What a nursery may use beside its workers: what files of an owner's requirements import when its Python starts."""
SHM = "/dev/shm"  # noqa: S108 -- to be looked at


@dataclass(slots=True, eq=False)
class Watched:
    """A worker: `folder` is its own, and the first of its processes works in `place`. `memory` bounds its bytes."""

    process: Child
    folder: Path
    place: Path
    memory: int
    log: LogPipe
    first: int | None = None
    """The first of its processes, once that has been found."""
    over_memory: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class WatchedNursery:
    """A nursery in which an owner's own code runs, and what it prints to."""

    nursery: Nursery
    log: LogPipe


class UsageWatch:
    """Ends workers that use too much, with a line in their log. `disk` bounds the bytes of a folder; 0 sets none."""

    def __init__(self, disk: int = 0) -> None:
        self._disk = disk
        self._workers: set[Watched] = set()
        self._nurseries: set[WatchedNursery] = set()
        self._disk_looked = time.monotonic()
        # A thread of its own, because a walk through large folders takes long.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="usage")

    def add(self, worker: Watched) -> None:
        self._workers.add(worker)

    def remove(self, worker: Watched) -> None:
        self._workers.discard(worker)

    @property
    def has_nurseries(self) -> bool:
        return any(each.nursery.alive for each in self._nurseries)

    def add_nursery(self, nursery: WatchedNursery) -> None:
        """Watch a nursery with all of its workers, until it ends."""
        self._nurseries.add(nursery)

    async def look(self) -> None:
        """Look at all workers; call it every second."""
        bounded = [worker for worker in self._workers if worker.memory]
        for worker, used in await asyncio.to_thread(_over_memory, bounded):
            worker.over_memory = True
            self._end(worker, f"{used // MIB} MiB of memory", f"{worker.memory // MIB} MiB", "`memory`")
        self._nurseries = {each for each in self._nurseries if each.nursery.alive}
        for each, most in [(each, self._memory_of(each)) for each in self._nurseries]:
            if most and (used := await asyncio.to_thread(_nursery_memory, each.nursery.pid, most)) > most:
                self._end_nursery(each, f"{used // MIB} MiB of memory", f"{most // MIB} MiB")
        if self._disk and time.monotonic() - self._disk_looked > DISK_SECONDS:
            loop, workers = asyncio.get_running_loop(), list(self._workers)
            for worker in await loop.run_in_executor(self._thread, _over_disk, workers, self._disk):
                allowed = f"{self._disk // MIB} MiB, or {MAX_FILES:,} files"
                self._end(worker, "more of the disk than is allowed", allowed, "OPENLAUNCH_WORKER_DISK_BYTES")
            for each in self._nurseries:
                most = self._disk * (len(self._workers_of(each)) + 1)
                if await loop.run_in_executor(self._thread, _is_larger, each.nursery.folder, most):
                    self._end_nursery(each, "more of the disk than is allowed", f"{most // MIB} MiB")
            self._disk_looked = time.monotonic()

    def _workers_of(self, watched: WatchedNursery) -> list[Watched]:
        return [each for each in self._workers if each.process.ancestor == watched.nursery.pid]

    def _memory_of(self, watched: WatchedNursery) -> int:
        """Return what a nursery may use with all of its workers; 0 where one of these has no bound."""
        bounds = [each.memory for each in self._workers_of(watched)]
        return NURSERY_MEMORY + sum(bounds) if all(bounds) else 0

    def _end_nursery(self, watched: WatchedNursery, used: str, allowed: str) -> None:
        if watched.nursery.alive:
            watched.log.note(
                f"the environment's Python is ended with all its workers: together they use {used}, and "
                f"{allowed} are allowed; a requirement may run code when Python starts"
            )
            watched.nursery.end()

    def _end(self, worker: Watched, used: str, allowed: str, setting: str) -> None:
        """Say in the worker's log what was too much, and kill it, unless it has ended in between."""
        if worker in self._workers and worker.process.returncode is None:
            worker.log.note(f"the worker is killed: its processes use {used}; {setting} allows {allowed}")
            worker.process.kill()


def _over_memory(workers: Iterable[Watched]) -> list[tuple[Watched, int]]:
    """Return the workers whose processes use more memory than they may, and how much."""
    used = [(worker, _memory(worker)) for worker in workers]
    return [(worker, each) for worker, each in used if each > worker.memory]


def _memory(worker: Watched) -> int:
    """Return the memory of a worker's processes: exactly, which takes longer, only where it may be too much."""
    if worker.first is None:
        below = process_tree.tree(worker.process.ancestor)
        worker.first = next((pid for pid in below if _works_in(pid, worker.place)), None)
    if worker.first is None:
        return 0
    pids = process_tree.tree(worker.first)
    return _used(pids, _files_in_memory(worker.first, pids), worker.memory)


def _nursery_memory(pid: int, allowed: int) -> int:
    pids = process_tree.tree(pid)
    return _used(pids, sum(process_tree.files_in_memory(pids).values()), allowed)


def _used(pids: list[int], files: int, allowed: int) -> int:
    """Return the memory of processes with that of their files: exactly only where it may be too much."""
    most = sum(map(process_tree.memory, pids)) + files
    if most <= allowed:
        return most
    # Memory that processes share was counted in each of them, and once more as a file that they have mapped.
    shared = sum(map(process_tree.shared_memory, pids))
    return sum(map(process_tree.own_memory, pids)) + max(shared, files)


def _files_in_memory(first: int, pids: Iterable[int]) -> int:
    """Return the bytes of the files in memory of a worker: all in its own /dev/shm, and those that it has open."""
    files = process_tree.files_in_memory(pids)
    try:
        shm = os.statvfs(f"/proc/{first}/root{SHM}")
        own, ours = (Path(path).stat().st_dev for path in (f"/proc/{first}/root{SHM}", SHM))
    except OSError:
        return sum(files.values())
    if own == ours:  # it is the machine's
        return sum(files.values())
    used = (shm.f_blocks - shm.f_bfree) * shm.f_frsize
    return used + sum(size for (device, _), size in files.items() if device != own)


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == folder
    except OSError:
        return False


def _over_disk(workers: Iterable[Watched], most: int) -> list[Watched]:
    return [worker for worker in workers if _is_larger(worker.folder, most)]


def _is_larger(folder: Path, most: int) -> bool:
    """Return whether a folder takes more of the disk than this, has too many files, or can't be looked through."""
    used = files = 0
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    if used > most or files > MAX_FILES:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # it has gone in between
        except OSError:
            return True  # made unreadable, or too deep
    return False

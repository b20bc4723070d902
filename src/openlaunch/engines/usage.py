"""What the processes of each worker use together, seen from outside of its sandbox; workers that use too much end."""

import asyncio
import logging
import os
import time
from collections.abc import Container, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
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
    """A nursery in which an owner's own code runs, and what it prints to. 0 sets no bound of its `memory`."""

    nursery: Nursery
    log: LogPipe
    memory: int


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
        """Watch a nursery beside its workers, until it ends."""
        self._nurseries.add(nursery)

    async def look(self) -> None:
        """Look at all workers; call it every second."""
        for worker, used in await asyncio.to_thread(_over_memory, list(self._workers)):
            worker.over_memory = True
            self._end(worker, f"{used // MIB} MiB of memory", f"{worker.memory // MIB} MiB", "`memory`")
        self._nurseries = {each for each in self._nurseries if each.nursery.alive}
        for each in list(self._nurseries):
            firsts = {worker.first for worker in self._workers if worker.first is not None}
            used = await asyncio.to_thread(_own_memory_of, each, firsts)
            if each.memory and used > each.memory:
                self._end_nursery(each, f"{used // MIB} MiB of memory", f"{each.memory // MIB} MiB")
        if self._disk and time.monotonic() - self._disk_looked > DISK_SECONDS:
            loop, workers = asyncio.get_running_loop(), list(self._workers)
            allowed = f"{self._disk // MIB} MiB, or {MAX_FILES:,} files"
            for worker in await loop.run_in_executor(self._thread, _over_disk, workers, self._disk):
                self._end(worker, "more of the disk than is allowed", allowed, "OPENLAUNCH_WORKER_DISK_BYTES")
            for each in list(self._nurseries):
                theirs = {str(worker.folder) for worker in self._workers}
                look = partial(_is_larger, each.nursery.folder, self._disk, theirs)
                if await loop.run_in_executor(self._thread, look):
                    self._end_nursery(each, "more of the disk than is allowed", allowed)
            self._disk_looked = time.monotonic()

    def _end_nursery(self, watched: WatchedNursery, used: str, allowed: str) -> None:
        if watched.nursery.alive:
            watched.log.note(
                f"the environment's Python is ended with all its workers: beside them it uses {used}, and "
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
    shared = process_tree.machines_shared_memory()
    used = [(worker, _memory(worker, shared)) for worker in workers]
    return [(worker, each) for worker, each in used if worker.memory and each > worker.memory]


def _memory(worker: Watched, shared: int) -> int:
    """Return the memory of a worker's processes: exactly, which takes longer, only where it may be too much.

    `shared` is all that the machine has in files, which are not looked at where so much more would be allowed.
    """
    if worker.first is None:
        below = process_tree.tree(worker.process.ancestor)
        worker.first = next((pid for pid in below if _works_in(pid, worker.place)), None)
    if worker.first is None or not worker.memory:
        return 0
    pids = process_tree.tree(worker.first)
    most = sum(map(process_tree.memory, pids))
    if most + shared <= worker.memory:
        return most
    return _exactly(pids, most, _files_in_memory(worker.first, pids), worker.memory)


def _own_memory_of(watched: WatchedNursery, workers: Container[int]) -> int:
    """Return the memory of a nursery's processes but those of its workers."""
    pids = process_tree.tree(watched.nursery.pid, workers)
    most = sum(map(process_tree.memory, pids))
    return _exactly(pids, most, sum(process_tree.files_in_memory(pids).values()), watched.memory)


def _exactly(pids: list[int], most: int, files: int, allowed: int) -> int:
    """Return the memory of processes with that of their files, exactly where it may be too much."""
    if most + files <= allowed:
        return most + files
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


def _is_larger(folder: Path, most: int, without: Container[str] = ()) -> bool:
    """Return whether a folder takes more of the disk than this, has too many files, or can't be looked through.

    Folders of `without` are left out.
    """
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
                    if entry.is_dir(follow_symlinks=False) and entry.path not in without:
                        waiting.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # it has gone in between
        except OSError:
            return True  # made unreadable, or too deep
    return False

"""A process and all below it, as Linux's /proc shows them; elsewhere a process alone, whose memory is unknown (0).

What is read grows with the processes that are asked about, not with all those of the machine.
"""

import os
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from itertools import islice

ROOM = 1 << 16
MAX_DESCRIPTORS = 10_000
_IN_MEMORY = ("/memfd:", "/dev/shm/")  # noqa: S108 -- to be looked at


def tree(pid: int, without: Container[int] = ()) -> list[int]:
    """Return a process and all below it, parents first; none of `without`, nor what is below those.

    One that begins or ends meanwhile may be missed.
    """
    found = [pid]
    for each in found:
        found += (child for child in _children(each) if child not in without)
    return found


def machines_shared_memory() -> int:
    """Return the bytes of shared memory and of files in memory that the machine has in all."""
    lines = _read("/proc/meminfo").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Shmem:"))


def memory(pid: int) -> int:
    """Return the bytes that a process has in memory of its own, or shares with others."""
    return _sum(pid, "status", (b"RssAnon:", b"RssShmem:"))


def own_memory(pid: int) -> int:
    """Return the bytes of a process's own memory, with pages of several divided among them; this takes longer."""
    return _sum(pid, "smaps_rollup", (b"Pss_Anon:",))


def shared_memory(pid: int) -> int:
    """Return the bytes of shared memory, divided among the processes that have mapped it; this takes longer."""
    return _sum(pid, "smaps_rollup", (b"Pss_Shmem:",))


def files_in_memory(pids: Iterable[int]) -> dict[tuple[int, int], int]:
    """Return the bytes of files in memory that these processes have open, mapped or not, by device and number.

    Of a process with very many descriptors, some are looked at.
    """
    found = {}
    for pid in pids:
        for descriptor in _descriptors(pid):
            with suppress(OSError):
                if os.readlink(descriptor).startswith(_IN_MEMORY):  # noqa: PTH115 -- faster
                    stat = os.stat(descriptor)  # noqa: PTH116 -- faster
                    found[stat.st_dev, stat.st_ino] = stat.st_blocks * 512
    return found


def _descriptors(pid: int) -> list[str]:
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return [entry.path for entry in islice(entries, MAX_DESCRIPTORS)]
    except OSError:
        return []


def _children(pid: int) -> Iterator[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 -- faster
    except OSError:
        return
    for thread in threads:
        yield from map(int, _read(f"/proc/{pid}/task/{thread}/children").split())


def _sum(pid: int, file: str, names: tuple[bytes, ...]) -> int:
    """Return the sum of these lines, which are in KiB, in bytes."""
    lines = _read(f"/proc/{pid}/{file}").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(names))


def _read(path: str) -> bytes:
    """Return a file of /proc, or nothing where it is not there; faster than Path, for a look every second."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(file, ROOM), b""))
    except OSError:  # it ended in between
        return b""
    finally:
        os.close(file)

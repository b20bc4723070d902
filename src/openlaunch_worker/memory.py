"""The bound of the worker's memory: a request that meets it fails alone; a worker that stays at it is replaced."""

import gc
import mmap
import resource
from contextlib import suppress
from typing import Final

from openlaunch_worker.frames import Kind

RESERVE_BYTES: Final = 4 << 20
"""Memory that is held back until a MemoryError, so that there is some to report it with."""
LOOK_AFTER: Final = 64
"""Requests between two looks at how much memory is in use."""
LOOK_DELAY: Final = 0.05
"""Seconds in which what a request has used is freed."""
FULL: Final = 15 / 16
IN_A_ROW: Final = 3
"""Requests that end with a MemoryError, none in between without, before a worker is worth replacing."""
_MIB: Final = 1 << 20
_M_MMAP_THRESHOLD: Final = -3


class Memory:
    """The memory of this process; `bound` is 0 where the kernel sets none."""

    def __init__(self) -> None:
        self.bound = 0
        self.look_at = LOOK_AFTER
        """The number of requests that have ended at which to look again."""
        self._reserve: mmap.mmap | None = None
        self._loaded = 0
        self._failed = 0
        self._in_a_row = 0
        self._seen = 0

    def set_up(self) -> None:
        """Take what is in use now as what the model needs, and take the reserve."""
        most = resource.getrlimit(resource.RLIMIT_DATA)[0]
        self.bound = 0 if most == resource.RLIM_INFINITY else most
        self._loaded = _used()
        self._take_reserve()

    def failed(self) -> None:
        """Make room at a MemoryError. Called from any thread."""
        self._failed += 1
        self.look_at = 0
        if (reserve := self._reserve) is not None:
            self._reserve = None
            reserve.close()

    def state(self) -> str:
        """Say how much memory there is, and how much is in use."""
        if not self.bound:
            return "the machine has no memory left for the worker"
        return f"the worker may use {self.bound // _MIB} MiB, of which {_used() // _MIB} MiB were in use"

    def look(self, ended: int, *, idle: bool) -> tuple[Kind, str] | None:
        """Look after `ended` requests how much is in use. Return what to ask the server for, if anything, and why.

        What is in use while other requests run tells nothing.
        """
        failed, self._failed = self._failed, 0
        all_failed = failed >= ended - self._seen
        self._in_a_row = self._in_a_row + failed if all_failed else min(failed, 1)
        self._seen, self.look_at = ended, ended + LOOK_AFTER
        if failed:
            _give_back()
        self._take_reserve()
        if self.bound and idle and self._is_full(0.0 if failed else FULL):
            return Kind.LEAVING, f"its memory stays in use when its requests have ended: {self.state()}"
        if self._in_a_row >= IN_A_ROW:
            return Kind.RENEW, f"{self._in_a_row} requests in a row ended with a MemoryError"
        return None

    def _is_full(self, part: float) -> bool:
        """Return whether over this part of the bound, and over half of what the model had left free, is in use."""
        used = _used()
        return used > self.bound * part and used - self._loaded > (self.bound - self._loaded) / 2

    def _take_reserve(self) -> None:
        if self.bound and self._reserve is None:
            with suppress(OSError):  # something large may run; the next look tries again
                self._reserve = mmap.mmap(-1, min(RESERVE_BYTES, self.bound // 16), mmap.MAP_PRIVATE)


def _give_back() -> None:
    gc.collect()
    with suppress(ImportError, OSError, AttributeError):  # only glibc has it
        import ctypes

        libc = ctypes.CDLL(None)
        # From now on large blocks go back to the system when they are freed: else each thread keeps its own.
        libc.mallopt(_M_MMAP_THRESHOLD, _MIB)
        libc.malloc_trim(0)


def _used() -> int:
    """Return what counts against the bound, in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 -- the quickest way
            return int(file.read().split()[5]) * mmap.PAGESIZE
    except (OSError, IndexError):
        return 0


MEMORY: Final = Memory()

"""Whether the kernel has killed a process because memory had run out."""

import re
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

FRESH_SECONDS = 5.0
"""A process that is found ended was killed no longer ago; what was counted before has to do with others."""


def oom_kills(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Count the processes that the kernel has killed for want of memory; None where it does not say.

    Those of this process's own control group where it has one, and those of the machine otherwise.
    """
    for path, name in (*_counters(proc, cgroups), (proc / "vmstat", "oom_kill")):
        try:
            found = re.search(rf"^{name} (\d+)$", path.read_text(), re.MULTILINE)
        except OSError:
            continue
        if found is not None:
            return int(found[1])
    return None


def _counters(proc: Path, cgroups: Path) -> list[tuple[Path, str]]:
    """Return the files of the control group's counters, of version 2 and 1."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            found.append((cgroups / "memory" / path.lstrip("/") / "memory.oom_control", "oom_kill"))
        elif not controllers:
            found.append((cgroups / path.lstrip("/") / "memory.events", "oom_kill"))
    return found


class OomWatch:
    """Says whether a process was probably killed for want of memory. Call `look` every second while any run."""

    def __init__(
        self, count: Callable[[], int | None] = oom_kills, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._count = count
        self._clock = clock
        self._looks: deque[tuple[float, int]] = deque()
        self._explained: deque[float] = deque()

    def look(self) -> None:
        """Remember how many there were until now."""
        if (count := self._count()) is not None:
            self._looks.append((self._clock(), count))
        self._drop_old()

    def explains_a_kill(self) -> bool:
        """Return whether there was a recent kill that this has not explained."""
        self._drop_old()
        count = self._count()
        if count is None or not self._looks or count - self._looks[0][1] <= len(self._explained):
            return False
        self._explained.append(self._clock())
        return True

    def _drop_old(self) -> None:
        since = self._clock() - FRESH_SECONDS
        while self._looks and self._looks[0][0] < since:
            self._looks.popleft()
        while self._explained and (not self._looks or self._explained[0] < self._looks[0][0]):
            self._explained.popleft()

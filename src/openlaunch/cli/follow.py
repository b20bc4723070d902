"""What is new in logs that are asked for again and again.

The server gives the end of the logs, so lines fall off at their head. Lines of several workers are not in the
order in which they were written: each worker's are compared with its own.
"""

from collections.abc import Iterator

MAX_WORKERS = 1000
"""Workers whose lines are remembered; beyond, the first seen are forgotten."""


class Follower:
    """Feeds on the logs as they are now, and gives the lines that are new since the last time."""

    def __init__(self, *, by_worker: bool) -> None:
        """`by_worker`: each line begins with the id of the worker that wrote it."""
        self._by_worker = by_worker
        self._seen: dict[str, list[str]] = {}

    def feed(self, text: str) -> Iterator[str]:
        """The new lines, without their line breaks."""
        for worker, lines in self._grouped(text).items():
            yield from new_lines(self._seen.get(worker, []), lines)
            self._seen[worker] = lines
        while len(self._seen) > MAX_WORKERS:
            del self._seen[next(iter(self._seen))]

    def _grouped(self, text: str) -> dict[str, list[str]]:
        groups: dict[str, list[str]] = {}
        for line in text.splitlines():
            groups.setdefault(line.partition(" ")[0] if self._by_worker else "", []).append(line)
        return groups


def new_lines(before: list[str], now: list[str]) -> list[str]:
    """What `now` has beyond the end of `before`; a last line that has grown since is given again."""
    for start in range(len(before)):
        shared = len(before) - start
        if shared > len(now) or before[start:-1] != now[: shared - 1]:
            continue
        if before[-1] == now[shared - 1]:
            return now[shared:]
        if now[shared - 1].startswith(before[-1]):
            return now[shared - 1 :]
    return now

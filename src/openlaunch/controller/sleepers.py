"""Workers that sleep: their GPUs are others', and their weights stay in the machine's memory, which is limited."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sleeper:
    """A worker that sleeps: the bytes of memory that it may hold, and since when it sleeps."""

    memory: int
    since: float


def surplus(sleepers: Mapping[str, Sleeper], room: int) -> list[str]:
    """Return who has to end for the others to fit this room: those that have slept longest. Pure."""
    over = sum(sleeper.memory for sleeper in sleepers.values()) - room
    ending = []
    for worker_id in sorted(sleepers, key=lambda each: (sleepers[each].since, each)):
        if over <= 0:
            break
        ending.append(worker_id)
        over -= sleepers[worker_id].memory
    return ending


class Sleepers:
    """The workers of all endpoints that sleep."""

    def __init__(self) -> None:
        self._sleepers: dict[str, Sleeper] = {}
        self._end: dict[str, Callable[[str], None]] = {}

    def __len__(self) -> int:
        return len(self._sleepers)

    def add(self, worker_id: str, sleeper: Sleeper, end: Callable[[str], None]) -> None:
        """Note a worker that sleeps; `end` ends it."""
        self._sleepers[worker_id], self._end[worker_id] = sleeper, end

    def forget(self, worker_id: str) -> None:
        """Note that a worker sleeps no longer, if it did."""
        self._sleepers.pop(worker_id, None)
        self._end.pop(worker_id, None)

    def keep_within(self, room: int) -> None:
        """End those that have slept longest, until the others fit."""
        for worker_id in surplus(self._sleepers, room):
            self._end[worker_id](worker_id)

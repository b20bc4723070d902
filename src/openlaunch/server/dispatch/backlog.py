"""How many of an endpoint's tasks wait, counted by owner."""

from collections import Counter
from collections.abc import Mapping


class Backlog:
    """Counts of tasks. What is taken out beyond what is known of is passed over: the store knows better."""

    def __init__(self) -> None:
        self._by_owner: Counter[str] = Counter()
        self.size = 0
        """The tasks of all owners."""

    def add(self, owner: str, count: int = 1) -> None:
        """So many more of this owner's."""
        if count:
            self._by_owner[owner] += count
            self.size += count

    def take(self, owner: str, count: int = 1) -> None:
        """So many fewer of this owner's."""
        left = self._by_owner.pop(owner, 0)
        taken = min(count, left)
        self.size -= taken
        if left > taken:
            self._by_owner[owner] = left - taken

    def reset(self, counts: Mapping[str, int]) -> None:
        """These are the counts, by owner."""
        self._by_owner = Counter(counts)
        self.size = self._by_owner.total()

    def of(self, owner: str) -> int:
        """The tasks of this owner."""
        return self._by_owner[owner]

    def ahead_of(self, owner: str) -> int:
        """How many tasks run before one that this owner adds now: owners take turns."""
        mine = self._by_owner[owner]
        return mine + sum(min(n, mine + 1) for other, n in self._by_owner.items() if other != owner)

"""How many of an endpoint's tasks wait, by owner: what a lane asks about the durable queue."""

from collections import Counter
from collections.abc import Iterable, Mapping


class OwnerCounts:
    """Counts of tasks by owner. Taking more than there are leaves zero."""

    def __init__(self) -> None:
        self._by_owner: Counter[str] = Counter()
        self.size = 0
        """The tasks of all owners."""

    def add(self, owner: str, count: int = 1) -> None:
        if count:
            self._by_owner[owner] += count
            self.size += count

    def take(self, owner: str, count: int = 1) -> None:
        left = self._by_owner.pop(owner, 0)
        taken = min(count, left)
        self.size -= taken
        if left > taken:
            self._by_owner[owner] = left - taken

    def reset(self, counts: Mapping[str, int]) -> None:
        self._by_owner = Counter(counts)
        self.size = self._by_owner.total()

    def of(self, owner: str) -> int:
        return self._by_owner[owner]

    def ahead_of(self, owner: str) -> int:
        """Return how many tasks run before one that this owner adds now: owners take turns."""
        mine = self._by_owner[owner]
        return mine + sum(min(n, mine + 1) for other, n in self._by_owner.items() if other != owner)


class Backlog(OwnerCounts):
    """The tasks of one endpoint that the queue holds and nobody has claimed, as far as this server knows.

    A view that may lag: the store is right, and the queue sets the counts from it now and then. Only the queue
    (`server/queue`) writes here, on the event loop's thread; a lane only reads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.arriving = OwnerCounts()
        """Tasks on their way to the store, for which the queue has to have room."""
        self.claiming = 0
        """Tasks that are being claimed, for which the lane has to keep slots free."""
        self.last_owner = ""
        """The owner of the task that was claimed last: the next claim begins with the owner behind."""

    def expect(self, owner: str, count: int, claiming: int) -> None:
        """Count tasks that are sent to the store, and how many are claimed in the same transaction."""
        self.arriving.add(owner, count)
        self.claiming += claiming

    def arrived(self, owner: str, count: int, claiming: int) -> None:
        """End what `expect` began, whether the tasks were stored or not."""
        self.arriving.take(owner, count)
        self.claiming -= claiming

    def claimed(self, owners: Iterable[str]) -> None:
        """Take out claimed tasks, of these owners in the order of their turns."""
        for owner in owners:
            self.take(owner)
            self.last_owner = owner

"""A queue in which owners take turns, so that nobody waits for all that another has sent."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First in, first out for each owner; the owners take turns. With one owner a plain queue.

    Taking and adding are in constant time.
    """

    def __init__(self) -> None:
        self._by_owner: dict[str, deque[T]] = {}
        self._order: deque[str] = deque()
        self.size = 0
        """How many items there are; read on every request, where a call would cost more."""

    def __iter__(self) -> Iterator[T]:
        for items in self._by_owner.values():
            yield from items

    def append(self, owner: str, item: T) -> None:
        """Add an item behind its owner's others; a new owner's turn is after that of all who wait."""
        items = self._by_owner.get(owner)
        if items is None:
            items = self._by_owner[owner] = deque()
            self._order.append(owner)
        items.append(item)
        self.size += 1

    def popleft(self) -> T:
        """Take the next item, or raise IndexError."""
        owner = self._order.popleft()
        items = self._by_owner[owner]
        item = items.popleft()
        self.size -= 1
        if items:
            self._order.append(owner)
        else:
            del self._by_owner[owner]
        return item

    def ahead_of(self, owner: str) -> int:
        """Return how many items would be taken before one that this owner adds now."""
        mine = len(self._by_owner.get(owner, ()))
        return mine + sum(
            min(len(items), mine + 1) for other, items in self._by_owner.items() if other != owner
        )

    def make_room_for(self, owner: str) -> T | None:
        """Take out the newest item of the owner who has most, for one with less; None: it is this owner."""
        most = max(self._by_owner, key=lambda name: len(self._by_owner[name]), default=owner)
        if len(self._by_owner.get(most, ())) <= len(self._by_owner.get(owner, ())) + 1:
            return None
        self.size -= 1
        return self._by_owner[most].pop()

    def keep(self, wanted: Callable[[T], bool]) -> None:
        for owner, items in list(self._by_owner.items()):
            kept = deque(item for item in items if wanted(item))
            self.size -= len(items) - len(kept)
            self._by_owner[owner] = kept
            if not kept:
                del self._by_owner[owner]
                self._order.remove(owner)

    def clear(self) -> list[T]:
        items = list(self)
        self._by_owner.clear()
        self._order.clear()
        self.size = 0
        return items

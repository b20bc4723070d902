"""The memory that requests may take, and what they have sent in, of which each owner has a share."""

from collections import Counter

from openlaunch.errors import Unavailable

FREE_BYTES = 4096
"""Bytes that each holder may hold without being counted: most requests are smaller, and cost nothing here."""


class BodyBudget:
    """Counts the bytes of requests that are held at a time, and refuses what is over the limit.

    An owner may hold as many as are free then, so one who holds all that they may leaves half for others. What is
    larger than all there may be is taken where it is alone.
    """

    def __init__(self, limit: int, what: str = "requests under way") -> None:
        """Take the limit, and what is counted, for messages."""
        self.limit = limit
        self._what = what
        self.held = 0
        self._by_owner: Counter[str] = Counter()

    def change(self, owner: str, size: int) -> None:
        """Count more or less for an owner.

        Raises:
            Unavailable: there is no room for that much more.
        """
        mine = self._by_owner[owner] + size
        if size > 0 and self.held and mine > self.limit - self.held - size:
            raise Unavailable(
                f"the {self._what} have {self.held} bytes already, {mine - size} of them yours; the limit is "
                f"{self.limit}, and nobody may have more than is free",
                code="bodies_full",
                retry_after=1,
            )
        self.held += size
        if mine:
            self._by_owner[owner] = mine
        else:
            del self._by_owner[owner]


class Held:
    """What one request or connection holds of a budget."""

    __slots__ = ("_budget", "_counted", "_owner")

    def __init__(self, budget: BodyBudget, owner: str) -> None:
        self._budget = budget
        self._owner = owner
        self._counted = 0

    def resize(self, size: int) -> None:
        """Count this many bytes from now on; raise Unavailable, and count as before, if there is no room."""
        counted = size if size > FREE_BYTES else 0
        if counted != self._counted:
            self._budget.change(self._owner, counted - self._counted)
            self._counted = counted


class UnreadBytes:
    """The bytes of a connection that belong to no request yet: a part of a head, or what came behind a request."""

    __slots__ = ("_budget", "_held", "data")

    def __init__(self, budget: BodyBudget) -> None:
        self.data = bytearray()
        self._budget = budget
        self._held: Held | None = None

    def add(self, data: bytes, owner: str) -> None:
        """Keep further bytes; raise Unavailable if there is no room for them."""
        self.data += data
        self._count(owner)

    def put_back(self, data: bytes | bytearray, owner: str) -> None:
        """Keep these in place of all; raise Unavailable if there is no room for them."""
        self.data = data if isinstance(data, bytearray) else bytearray(data)
        self._count(owner)

    def _count(self, owner: str) -> None:
        size = len(self.data)
        if self._held is None and size > FREE_BYTES:
            self._held = Held(self._budget, owner)
        if self._held is not None:
            self._held.resize(size)

    def take(self) -> bytearray:
        """Give all, which are held here no longer."""
        data, self.data = self.data, bytearray()
        if self._held is not None:
            self._held.resize(0)
            self._held = None
        return data

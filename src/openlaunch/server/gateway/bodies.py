"""The memory that the parts of requests may take."""

from openlaunch.errors import Unavailable

FREE_BYTES = 4096
"""What each holder may hold without being counted: most requests are smaller, and cost nothing here."""


class BodyBudget:
    """Counts the bytes of requests that are held at a time, and refuses what is over the limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def hold(self, counted: int, size: int) -> int:
        """Count a holder that has `size` bytes now, and was counted with `counted`; returns its new count.

        Raises:
            Unavailable: its bytes would be over the limit; its count stays.
        """
        new = size if size > FREE_BYTES else 0
        if new > counted and self.held + new - counted > self.limit:
            raise Unavailable(
                f"the requests under way have {self.held} bytes already; the limit is {self.limit}",
                code="bodies_full",
                retry_after=1,
            )
        self.held += new - counted
        return new

    def give_back(self, counted: int) -> None:
        """Count a holder no longer."""
        self.held -= counted


class UnreadBytes:
    """The bytes of a connection that belong to no request yet: a part of a head, or what came behind a request."""

    __slots__ = ("_budget", "_counted", "data")

    def __init__(self, budget: BodyBudget) -> None:
        self.data = bytearray()
        self._budget = budget
        self._counted = 0

    def add(self, data: bytes) -> None:
        """Keep further bytes; raise Unavailable if there is no room for them."""
        self.data += data
        self._counted = self._budget.hold(self._counted, len(self.data))

    def put_back(self, data: bytes | bytearray) -> None:
        """Keep these in place of all; raise Unavailable if there is no room for them."""
        self.data = data if isinstance(data, bytearray) else bytearray(data)
        self._counted = self._budget.hold(self._counted, len(self.data))

    def take(self) -> bytearray:
        """Give all, which are held here no longer."""
        data, self.data = self.data, bytearray()
        self._budget.give_back(self._counted)
        self._counted = 0
        return data

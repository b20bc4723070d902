"""The memory that the bodies of requests may take."""

from openlaunch.errors import Unavailable


class BodyBudget:
    """Counts the bytes of all large request bodies that are held at a time, and refuses what is over the limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0

    def take(self, size: int) -> None:
        """Count `size` bytes more.

        Raises:
            Unavailable: they would be over the limit; nothing is counted.
        """
        if self.held + size > self.limit:
            raise Unavailable(
                f"the bodies of the requests under way have {self.held} bytes already; the limit is {self.limit}",
                code="bodies_full",
                retry_after=1,
            )
        self.held += size

    def give_back(self, size: int) -> None:
        """Count `size` bytes less."""
        self.held -= size

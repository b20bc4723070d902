"""A bound on what may be written to a log in a time."""


class Allowance:
    """Allows `burst` things at once, and one more after every `seconds`; counts those that it refuses."""

    __slots__ = ("_burst", "_full_at", "_refused", "_seconds")

    def __init__(self, burst: int, seconds: float) -> None:
        self._burst = burst
        self._seconds = seconds
        self._full_at = 0.0
        """When there is room for a whole burst again."""
        self._refused = 0

    def take(self, now: float) -> bool:
        """Return whether there is room for one more thing, which then has it."""
        full_at = max(self._full_at, now) + self._seconds
        if full_at - now > self._burst * self._seconds:
            self._refused += 1
            return False
        self._full_at = full_at
        return True

    def take_refused(self) -> int:
        """Return how many were refused since the last call."""
        refused, self._refused = self._refused, 0
        return refused

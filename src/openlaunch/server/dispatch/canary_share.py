"""Whose turn it is where a canary gets a share of the predictions: pure counting."""

MAX_OWED = 1600
"""Limit on the percent owed to a canary without a free slot, which it catches up with later."""


class CanaryShare:
    """Gives a canary `percent` of the predictions, evenly: at 25, every fourth one.

    What the canary could not take is owed to it, and what it took beyond its share is taken off.
    """

    __slots__ = ("_owed", "percent")

    def __init__(self, percent: int) -> None:
        self.percent = percent
        self._owed = 0

    def is_canarys_turn(self) -> bool:
        """Whether the next prediction is for the canary."""
        return self._owed + self.percent >= 100

    def given(self, *, to_canary: bool) -> None:
        """The next prediction has been given to one of the two sides."""
        owed = self._owed + self.percent - (100 if to_canary else 0)
        self._owed = max(-100, min(owed, MAX_OWED))

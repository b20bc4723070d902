"""A node agent obeys the newest leader only."""


class Epochs:
    """The highest epoch that an agent has seen of a leader.

    An agent stores a raised epoch before it obeys, and starts again with the stored one. A leader that slept while
    another took over is then refused by an agent that was started anew, too.
    """

    def __init__(self, highest: int = 0) -> None:
        self.highest = highest

    def obeys(self, epoch: int) -> bool:
        """Return whether to obey a leader with this epoch, and remember it."""
        self.highest = max(self.highest, epoch)
        return epoch == self.highest

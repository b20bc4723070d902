"""Leases of the leader and of gateways: rows by the database's clock, whose holders go by their own monotonic clock.

No two clocks are compared. The database alone decides whether a row has run out. A holder counts from the moment
*before* it sent the statement that was answered, so its own idea of the end is always the earlier one.
"""

import math
from dataclasses import dataclass

SECONDS = 2.0
"""How long a row is held after each renewal."""
BEAT_SECONDS = 0.5
"""Time from one renewal to the next."""
ANSWER_SECONDS = 0.5
"""How long a holder waits for the answer of a renewal before it asks again."""
RETRY_SECONDS = 0.25
"""Time from a renewal that failed or was not answered to the next."""
STEADY_SECONDS = 1.0
"""Within this time after an outage of the database, all that live have renewed their leases."""
MARGIN_SECONDS = 0.5
"""How long before the end a holder stops acting, for what is on its way and for clocks that run at other rates."""


@dataclass(frozen=True, slots=True)
class Row:
    """A lease as the database stores it."""

    holder: str = ""
    """The process; each start of a process has an identifier of its own."""
    epoch: int = 0
    """Raised each time that the lease is taken from another."""
    until: float = -math.inf
    """When it runs out, by the database's clock."""


def beat(row: Row, holder: str, now: float) -> Row:
    """Return the row after `holder` asked for it: renewed, taken, or as it was.

    The holder keeps its epoch, whatever answers were lost: a renewal that was given up can still be done after later
    ones, and must not take the epoch from under the holder.
    """
    if row.holder == holder:
        return Row(holder, row.epoch, now + SECONDS)
    if has_run_out(row, now):
        return Row(holder, row.epoch + 1, now + SECONDS)
    return row


def handed_over(row: Row, holder: str, now: float) -> Row:
    """Return the row after `holder` gave it up: the next one who asks has it at once."""
    return Row(holder, row.epoch, now) if row.holder == holder else row


def has_run_out(row: Row, now: float) -> bool:
    """Return whether anybody may take the lease, at `now` by the database's clock."""
    return row.until <= now


class Lease:
    """What one process knows of a lease: whether it holds it, and when to ask again.

    All times are of its own monotonic clock.
    """

    def __init__(self) -> None:
        self.epoch = 0
        """The epoch to act under; 0: another holds the lease, or nobody does."""
        self.due = -math.inf
        """When to ask the database again."""
        self._until = -math.inf
        self._since = math.inf

    def holds(self, now: float) -> bool:
        """Return whether to act as the holder. Ask right before each act."""
        return self.epoch > 0 and now < self._until

    def is_steady(self, now: float) -> bool:
        """Return whether the lease was held for some time without a gap.

        Only then may its holder judge that others have run out. After an outage of the database all have, and by
        then each has had the time to renew its own.
        """
        return self.holds(now) and now >= self._since + STEADY_SECONDS

    def renewed(self, sent: float, epoch: int) -> None:
        """Note that the statement sent at `sent` was answered: this process holds the lease under `epoch`."""
        if not self.holds(sent):
            self._since = sent
        self.epoch = epoch
        self._until = sent + SECONDS - MARGIN_SECONDS
        self.due = sent + BEAT_SECONDS

    def refused(self, now: float, left: float = 0.0) -> None:
        """Note that another has the lease, for `left` more seconds by the database's clock, or that the row is gone.

        A gateway whose row is gone starts anew under another identifier, because its tasks are others' by now.
        """
        self.epoch = 0
        self._until = -math.inf
        self.due = now + min(max(left, 0.0), SECONDS)

    def unanswered(self, now: float) -> None:
        """Note that the database did not answer; what is held stays held until its time."""
        self.due = now + RETRY_SECONDS

    def give_up(self) -> None:
        """Stop acting at once, and never ask again. Call it before the row is handed over."""
        self.epoch = 0
        self._until = -math.inf
        self.due = math.inf

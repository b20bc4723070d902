"""When an endpoint's predictions fail in a burst: its beginning and its end, each seen once."""

from collections import deque
from collections.abc import Sequence

from openlaunch.server.dispatch.tally import SAMPLE_SECONDS
from openlaunch.server.metrics.counts import FAILED
from openlaunch.wire.events import EventKind

WINDOW_SECONDS = 60.0
LEAST_FAILURES = 5
LEAST_SHARE = 0.1


class Burst:
    """Knows whether a burst lasts, by what was counted in the last `WINDOW_SECONDS`.

    One begins where at least `LEAST_FAILURES` predictions have failed, and at least `LEAST_SHARE` of those that
    ended. It ends where none has failed, or less than half of that share.
    """

    __slots__ = ("_counted", "_lasts")

    def __init__(self) -> None:
        self._lasts = False
        self._counted = deque([(0, 0)], maxlen=round(WINDOW_SECONDS / SAMPLE_SECONDS) + 1)

    def look(self, ended: Sequence[int], error: str) -> tuple[EventKind, str] | None:
        """Return the event of a change, its kind and its detail; to be called every `SAMPLE_SECONDS`.

        `ended` has how many predictions have ended in each way; `error` is the type of the model's last one.
        """
        self._counted.append((sum(ended), sum(ended[outcome] for outcome in FAILED)))
        predictions, failures = (
            now - before for now, before in zip(self._counted[-1], self._counted[0], strict=True)
        )
        if self._lasts:
            if failures and failures >= predictions * LEAST_SHARE / 2:
                return None
            self._lasts = False
            return EventKind.FAILURES_ENDED, "in the last minute none has failed, or few have"
        if failures < LEAST_FAILURES or failures < predictions * LEAST_SHARE:
            return None
        self._lasts = True
        detail = f"in a minute at least {LEAST_FAILURES}, and {LEAST_SHARE:.0%} of all"
        return (
            EventKind.FAILURES_BEGAN,
            f"{detail}; the last error of the model is {error}" if error else detail,
        )

"""When predictions fail, wait for long or are refused in a burst: its beginning and its end, each seen once."""

from collections import deque
from collections.abc import Iterator

from openlaunch.server.dispatch.recent_outcomes import SAMPLE_SECONDS
from openlaunch.server.metrics.counts import FAILED, LONG_WAIT_SECONDS, Ended, EndpointCounts
from openlaunch.wire.events import EventKind

WINDOW_SECONDS = 60.0
LEAST = 5
LEAST_SHARE = 0.1
LEAST_IF_ALL = 3
_WHERE = f"in a minute at least {LEAST} and {LEAST_SHARE:.0%} of all, or all of {LEAST_IF_ALL} or more"

Event = tuple[EventKind, str]
"""The kind of an event, and its detail."""


class Burst:
    """Knows whether a burst lasts, by what was counted in the last `WINDOW_SECONDS`.

    One begins where at least `LEAST` predictions have gone wrong, and at least `LEAST_SHARE` of those that ended, or
    all of at least `LEAST_IF_ALL`. It ends where none has, or less than half of that share.
    """

    __slots__ = ("_counted", "_lasts")

    def __init__(self) -> None:
        self._lasts = False
        self._counted = deque([(0, 0)], maxlen=round(WINDOW_SECONDS / SAMPLE_SECONDS) + 1)

    def changes(self, predictions: int, wrong: int) -> bool | None:
        """Return True where a burst begins and False where it ends; to be called every `SAMPLE_SECONDS`.

        `predictions` have ended since the server started, of which `wrong` have gone wrong.
        """
        self._counted.append((predictions, wrong))
        among, found = (now - before for now, before in zip(self._counted[-1], self._counted[0], strict=True))
        if self._lasts:
            lasts = found > 0 and found >= among * LEAST_SHARE / 2
        else:
            least = LEAST_IF_ALL if found == among else LEAST
            lasts = found >= least and found >= among * LEAST_SHARE
        changed, self._lasts = lasts != self._lasts, lasts
        return lasts if changed else None


class Bursts:
    """The bursts of one endpoint: of failures, of long waits for a slot, and of refusals."""

    __slots__ = ("_failures", "_model_errors", "_refusals", "_waits")

    def __init__(self) -> None:
        self._model_errors = 0
        self._failures, self._waits, self._refusals = Burst(), Burst(), Burst()

    def look(self, numbers: EndpointCounts, error: str) -> Iterator[Event]:
        """Yield the events of what begins or ends; to be called every `SAMPLE_SECONDS`.

        `error` is the type of the model's last error; where models raise nothing, the code of the last error counts.
        Equal details are counted together, so nothing that differs each time is in them.
        """
        ended = numbers.ended
        if ended[Ended.MODEL_ERROR] == self._model_errors or not error:
            error = numbers.last_code(Ended.SERVER_ERROR, Ended.DEADLINE)
        self._model_errors = ended[Ended.MODEL_ERROR]
        match self._failures.changes(sum(ended), sum(ended[outcome] for outcome in FAILED)):
            case True:
                yield EventKind.FAILURES_BEGAN, f"{error}; {_WHERE}" if error else _WHERE
            case False:
                yield EventKind.FAILURES_ENDED, "in the last minute none has failed, or few have"
        match self._waits.changes(sum(ended), numbers.waited_long):
            case True:
                yield EventKind.WAITS_BEGAN, f"over {LONG_WAIT_SECONDS:g} s for a slot; {_WHERE}"
            case False:
                yield EventKind.WAITS_ENDED, "in the last minute none has, or few have"
        match self._refusals.changes(sum(ended), ended[Ended.TOO_MANY]):
            case True:
                yield EventKind.REFUSALS_BEGAN, f"{numbers.last_code(Ended.TOO_MANY)}; {_WHERE}"
            case False:
                yield EventKind.REFUSALS_ENDED, "in the last minute none was, or few were"

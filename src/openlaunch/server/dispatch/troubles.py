"""What is wrong with an endpoint now, and since when: the events that tell of a beginning, until that of the end."""

from typing import NamedTuple

from openlaunch.wire.endpoints import CanaryStatus
from openlaunch.wire.events import EventKind

_BEGINS = (
    EventKind.UPDATE_FAILED,
    EventKind.FAILURES_BEGAN,
    EventKind.CANARY,
    EventKind.WAITS_BEGAN,
    EventKind.REFUSALS_BEGAN,
    EventKind.QUEUE_OLD,
    EventKind.CALLBACKS_FAIL,
)
_ENDS = {
    EventKind.UPDATED: (EventKind.UPDATE_FAILED, EventKind.CANARY),
    EventKind.ROLLED_OUT: (EventKind.UPDATE_FAILED, EventKind.CANARY),
    EventKind.CANARY: (EventKind.CANARY,),
    EventKind.RECOVERED: (EventKind.UPDATE_FAILED,),
    EventKind.FAILURES_ENDED: (EventKind.FAILURES_BEGAN,),
    EventKind.WAITS_ENDED: (EventKind.WAITS_BEGAN,),
    EventKind.REFUSALS_ENDED: (EventKind.REFUSALS_BEGAN,),
    EventKind.QUEUE_CAUGHT_UP: (EventKind.QUEUE_OLD,),
    EventKind.CALLBACKS_TAKEN: (EventKind.CALLBACKS_FAIL,),
}


class Trouble(NamedTuple):
    """Something that is wrong since a time, in seconds since 1970, with the event of its beginning."""

    kind: EventKind
    detail: str
    since: float


class Troubles:
    """The troubles of one endpoint, since this server started. An event that repeats keeps its time."""

    __slots__ = ("_now",)

    def __init__(self) -> None:
        self._now: dict[EventKind, Trouble] = {}

    def happened(self, kind: EventKind, detail: str, at: float) -> None:
        """Note what an event tells of."""
        for ended in _ENDS.get(kind, ()):
            self._now.pop(ended, None)
        if kind in _BEGINS and (kind is not EventKind.CANARY or detail.startswith(CanaryStatus.FAILED)):
            since = self._now[kind].since if kind in self._now else at
            self._now[kind] = Trouble(kind, detail, since)

    def now(self) -> tuple[Trouble, ...]:
        """Return what is wrong now, what does not serve or fails first."""
        return tuple(self._now[kind] for kind in _BEGINS if kind in self._now)

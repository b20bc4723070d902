"""Calls that a worker makes for a request that it runs: they are bounded by it, and must not wait for each other."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import MutableMapping
from typing import Any

from openlaunch.errors import Conflict
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.work import Work

PARENT = "openlaunch.parent"
"""Where the scope of a request that a worker makes has the work for which it makes it."""

LOOK_SECONDS = 0.5
SOON_SECONDS = 0.02
"""How often calls are looked at, and how soon one that waits is: not at once, because hundreds come at a time."""


class Nesting:
    """The calls under way that workers make, and who waits for whom. Used in the event loop's thread."""

    def __init__(self) -> None:
        self._children: dict[Work, dict[Work, Lane]] = {}
        """By the work that makes the calls: those that have not ended, with the lanes in which they run or wait."""
        self._made: dict[Work, Counter[bytes]] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def key_of(self, parent: Work, path: bytes, body: bytes) -> bytes | None:
        """Return the Idempotency-Key of a call: the same for the same call when the work that makes it runs again.

        None where that would not run again with the same key.
        """
        if (key := parent.idempotency) is None:
            return None
        made = self._made.setdefault(parent, Counter())
        same = hashlib.sha256(path + b"\n" + body).digest()
        made[same] += 1
        digest = hashlib.sha256(b"%b\n%b\n%d" % (key.encode(), same, made[same]))
        self._look_later()
        return b"call-" + digest.hexdigest().encode()

    def begin(self, parent: Work, child: Work, lane: Lane) -> None:
        """Note that a work makes a call, which is refused where all that it waits for waits for it."""
        if child.cancelled:
            return
        self._children.setdefault(parent, {})[child] = lane
        self._look_later(LOOK_SECONDS if child.running else SOON_SECONDS)

    def seconds_left(self, parent: Work) -> float:
        """Return how long a call may take."""
        return max(parent.deadline - self._loop.time(), 0.001)

    def _look_later(self, seconds: float = LOOK_SECONDS) -> None:
        at = self._loop.time() + seconds
        if self._timer is None or at < self._timer.when():
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        self._made = {work: made for work, made in self._made.items() if not work.cancelled}
        refused = self._refuse_stuck()
        if self._children or self._made:
            self._look_later(SOON_SECONDS if refused else LOOK_SECONDS)

    def _refuse_stuck(self) -> bool:
        """Refuse the last call of those that stand still, if there is any; return whether so."""
        for parent, children in list(self._children.items()):
            if parent.cancelled:
                for child in children:
                    child.abandon()
            left = {child: lane for child, lane in children.items() if not child.cancelled}
            if left:
                self._children[parent] = left
            else:
                del self._children[parent]
        stuck = self._stuck()
        waiting = [
            (child, lane)
            for parent in self._children
            if parent in stuck
            for child, lane in self._children[parent].items()
            if not child.running
        ]
        if waiting:
            child, lane = waiting[-1]  # the last to come has closed the circle
            child.refused(
                Conflict(
                    f"the call of the endpoint {lane.endpoint.name!r} would wait for ever: requests that wait for it "
                    "have all of its slots. Give it more workers (max_workers) or slots (per_worker), or do not call "
                    "in a circle",
                    code="call_cycle",
                )
            )
        return bool(waiting)

    def _stuck(self) -> set[Work]:
        """Return the work that stands still: each call that it makes waits for a slot that other such work holds.

        What moves is found from its ends, each call once, because calls may be nested as deep as there are slots.
        """
        moved_by: dict[Work | Lane, list[Work | Lane]] = {}
        moving: list[Work | Lane] = []
        lanes: set[Lane] = set()
        for parent, children in self._children.items():
            for child, lane in children.items():
                moved_by.setdefault(child if child.running else lane, []).append(parent)
                if not child.running:
                    lanes.add(lane)
                elif child not in self._children:
                    moving.append(child)
        for lane in lanes:
            holders = lane.holders()
            if holders is None or not self._children.keys() >= set(holders):
                moving.append(lane)
            for holder in holders or ():
                moved_by.setdefault(holder, []).append(lane)
        moved: set[Work | Lane] = set()
        while moving:
            if (each := moving.pop()) not in moved:
                moved.add(each)
                moving += moved_by.get(each, ())
        return {work for work in self._children if work not in moved}


def parent_of(scope: MutableMapping[str, Any]) -> Work | None:
    """Return the work for which a worker makes a request; None for a request of a client."""
    parent: Work | None = scope.get(PARENT)
    return parent

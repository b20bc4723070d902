"""Calls that a worker makes for a request that it runs: they are bounded by it, and must not wait for each other."""

import asyncio
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, MutableMapping
from typing import Any

from openlaunch.errors import APIError, Conflict
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.waits import Standing, Wait, Waits, by_work
from openlaunch.server.dispatch.work import TASK_NAME, Work

PARENT = "openlaunch.parent"
"""Where the scope of a request that a worker makes has the work for which it makes it."""

LOOK_SECONDS = 0.5
SOON_SECONDS = 0.02
"""How often calls are looked at, and how soon one that waits is: not at once, because hundreds come at a time."""


class TaskWait:
    """A worker's wait for a task that it has submitted, beside the calls that it makes."""

    def __init__(
        self,
        task_id: str,
        waiting: asyncio.Task[Any],
        work_of: Callable[[], Work | None],
        is_held: Callable[[], bool],
    ) -> None:
        self.name = TASK_NAME + task_id
        self.error: APIError | None = None
        """Why the wait was ended."""
        self.is_doubtful = False
        """Whether it was found to wait for ever: its task may have ended a moment before."""
        self._waiting = waiting
        self._work_of = work_of
        self._is_held = is_held

    @property
    def cancelled(self) -> bool:
        return self._waiting.done()

    @property
    def running(self) -> bool:
        work = self._work_of()
        return work is not None and work.running

    def waits_for(self, lane: Lane) -> "Work | Lane | TaskWait":
        """Return the task's work where that runs, the lane where it waits for a slot, or this: it is on its way."""
        work = self._work_of()
        if work is not None:
            return work if work.running else lane
        return self if self._is_held() else lane

    def abandon(self) -> None:
        self._waiting.cancel()

    def refused(self, error: APIError) -> None:
        """End the wait with this error; the task stays."""
        self.error = error
        self._waiting.cancel()


Call = Work | TaskWait


def _circle(lane: Lane) -> Conflict:
    return Conflict(
        f"the call of the endpoint {lane.endpoint.name!r} would wait for ever: requests that wait for it "
        "have all of its slots. Give it more workers (max_workers) or slots (per_worker), or do not call "
        "in a circle",
        code="call_cycle",
    )


def _waited_for(child: Work | TaskWait, lane: Lane) -> Work | Lane | TaskWait:
    """Return what a call waits for: the work that runs for it, or a slot of the lane."""
    if isinstance(child, TaskWait):
        return child.waits_for(lane)
    return child if child.running else lane


class Nesting:
    """The calls under way that workers make, and who waits for whom. Used in the event loop's thread."""

    def __init__(self, elsewhere: Waits | None = None) -> None:
        """Take what hears of calls at other servers that use the same workers."""
        self._elsewhere = elsewhere
        self._looked_at = 0.0
        self._numbers: dict[Work, int] = {}
        """By work that makes calls or is one: what names it to other servers, for as long as it is under way."""
        self._count = itertools.count()
        self._children: dict[Work, dict[Work | TaskWait, Lane]] = {}
        """By the work that makes the calls: those that have not ended, with the lanes in which they run or wait."""
        self._made: dict[Work, Counter[bytes]] = {}
        self._tasks: dict[Work, dict[str, Lane]] = {}
        """By the work that has submitted them: the lanes of tasks, by their ids."""
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

    def submitted(self, parent: Work, task_id: str, lane: Lane) -> None:
        """Note that a work has submitted a task, which it may wait for."""
        self._tasks.setdefault(parent, {})[task_id] = lane
        self._look_later()

    def lane_of(self, parent: Work, task_id: str) -> Lane | None:
        """Return the lane of a task that a work has submitted."""
        return self._tasks.get(parent, {}).get(task_id)

    def begin(self, parent: Work, child: Work | TaskWait, lane: Lane) -> None:
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
        self._tasks = {work: tasks for work, tasks in self._tasks.items() if not work.cancelled}
        refused = self._refuse_stuck() or self._refuse_stuck_elsewhere()
        if self._children or self._made or self._tasks:
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
            if _waited_for(child, lane) is lane
        ]
        if waiting:
            child, lane = waiting[-1]  # the last to come has closed the circle
            if isinstance(child, TaskWait) and not child.is_doubtful:
                child.is_doubtful = True
                return False
            child.refused(_circle(lane))
        return bool(waiting)

    def _refuse_stuck_elsewhere(self) -> bool:
        """Refuse the call that stands still with others at several servers, if that is one of this server."""
        now = self._loop.time()
        if self._elsewhere is None or now < self._looked_at + LOOK_SECONDS:
            return False
        self._looked_at = now
        under_way = {*self._children, *itertools.chain(*self._children.values())}
        self._numbers = {work: number for work, number in self._numbers.items() if work in under_way}
        standing, calls = self._standing(self._elsewhere)
        found = self._elsewhere.look(standing)
        if found is None:
            return False
        child, lane = calls[found]
        child.refused(_circle(lane))
        return True

    def _standing(self, elsewhere: Waits) -> tuple[list[Standing], dict[tuple[str, Wait], tuple[Call, Lane]]]:
        """Return the work that may stand still, as other servers know it, and each of its calls."""
        endpoints = by_work(elsewhere.lanes) if self._children else {}
        found: list[Standing] = []
        calls: dict[tuple[str, Wait], tuple[Call, Lane]] = {}
        for parent, children in self._children.items():
            waits = [self._wait_of(child, lane) for child, lane in children.items()]
            name, endpoint_id = self._name_of(parent), endpoints.get(parent)
            sure = [wait for wait in waits if wait is not None]
            if endpoint_id is not None and len(sure) == len(waits):
                found.append(Standing(name, endpoint_id, tuple(sure)))
                calls |= zip(((name, wait) for wait in sure), children.items(), strict=True)
        return found, calls

    def _wait_of(self, child: Call, lane: Lane) -> Wait | None:
        """Return what a call waits for, as other servers know it; None for what moves."""
        waited_for = _waited_for(child, lane)
        if isinstance(waited_for, Work):
            return Wait(self._name_of(waited_for), "") if waited_for in self._children else None
        if waited_for is not lane:
            return None
        task = child.name if isinstance(child, TaskWait) else ""
        return Wait(task, lane.endpoint.id, 0 if isinstance(child, TaskWait) else self._number_of(child))

    def _name_of(self, work: Work) -> str:
        assert self._elsewhere is not None
        if (kept := work.kept) is not None:
            return kept.name
        return f"{self._elsewhere.gateway}-{self._number_of(work)}"

    def _number_of(self, work: Work) -> int:
        if work not in self._numbers:
            self._numbers[work] = next(self._count)
        return self._numbers[work]

    def _stuck(self) -> set[Work]:
        """Return the work that stands still: each call that it makes waits for a slot that other such work holds.

        What moves is found from its ends, each call once, because calls may be nested as deep as there are slots.
        """
        moved_by: dict[Work | Lane | TaskWait, list[Work | Lane]] = {}
        moving: list[Work | Lane | TaskWait] = []
        lanes: set[Lane] = set()
        for parent, children in self._children.items():
            for child, lane in children.items():
                work = _waited_for(child, lane)
                moved_by.setdefault(work, []).append(parent)
                if isinstance(work, Lane):
                    lanes.add(work)
                elif work not in self._children:
                    moving.append(work)
        for lane in lanes:
            holders = lane.holders()
            if holders is None or not self._children.keys() >= set(holders):
                moving.append(lane)
            for holder in holders or ():
                moved_by.setdefault(holder, []).append(lane)
        moved: set[Work | Lane | TaskWait] = set()
        while moving:
            if (each := moving.pop()) not in moved:
                moved.add(each)
                moving += moved_by.get(each, ())
        return {work for work in self._children if work not in moved}


def parent_of(scope: MutableMapping[str, Any]) -> Work | None:
    """Return the work for which a worker makes a request; None for a request of a client."""
    parent: Work | None = scope.get(PARENT)
    return parent

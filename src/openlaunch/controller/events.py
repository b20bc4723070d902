"""Events of endpoints: collected in memory, stored together, and read by those who wait for them."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from openlaunch.errors import Unavailable
from openlaunch.store import events as event_store
from openlaunch.store.base import Store
from openlaunch.store.events import EventRecord
from openlaunch.tasks import notifications
from openlaunch.wire.events import EventKind

log = logging.getLogger(__name__)

MAX_DETAIL = 500
MAX_PENDING = 1000
"""Events that wait for the store; beyond, the oldest are dropped."""

AGAIN_SECONDS = 1.0

COLLECT_SECONDS = 0.05
"""Events within this time are stored together, later than a worker's start, which needs the interpreter.

A request for an endpoint's events has them stored at once.
"""

_WORKERS = {
    EventKind.WORKER_STARTED: "started",
    EventKind.WORKER_ADOPTED: "taken over from another server",
    EventKind.WORKER_READY: "became ready",
    EventKind.WORKER_DRAINED: "finished what they ran, and ended",
    EventKind.WORKER_STOPPED: "stopped",
    EventKind.WORKER_ASLEEP: "fell asleep, because others need their GPUs",
    EventKind.WORKER_WOKEN: "had their GPUs again, and began to wake up",
    EventKind.WORKER_CRASHED: "crashed",
    EventKind.WORKER_FAILED: "could not load the bundle",
    EventKind.WORKER_REPLACED: "had to be replaced",
    EventKind.WORKER_UNHEALTHY: "had to be replaced, because health_fn said no",
}
_OTHERS = {
    EventKind.CREATED: "created",
    EventKind.UPDATED: "updated",
    EventKind.RESTARTED: "restarted: its workers are replaced",
    EventKind.PREFETCHING: "what its workers need is downloaded first",
    EventKind.ENVIRONMENT_BUILDING: "the environment is being built",
    EventKind.ENVIRONMENT_BUILT: "the environment is built",
    EventKind.ENVIRONMENT_FAILED: "the environment could not be built",
    EventKind.SCALED_UP: "scaled up",
    EventKind.SCALED_DOWN: "scaled down",
    EventKind.ROLLED_OUT: "rolled out",
    EventKind.UPDATE_FAILED: "the update failed",
    EventKind.CANARY: "the canary changed",
    EventKind.RECORDING_STOPPED: "recording has stopped",
    EventKind.FAILURES_BEGAN: "predictions began to fail",
    EventKind.FAILURES_ENDED: "predictions no longer fail",
    EventKind.WAITS_BEGAN: "requests began to wait for long",
    EventKind.WAITS_ENDED: "requests no longer wait for long",
    EventKind.REFUSALS_BEGAN: "requests began to be refused with 429",
    EventKind.REFUSALS_ENDED: "requests are no longer refused with 429",
    EventKind.CALLBACKS_FAIL: "callbacks began to fail",
    EventKind.CALLBACKS_TAKEN: "callbacks are taken again",
    EventKind.RECOVERED: "serves again after a failure",
    EventKind.QUEUE_OLD: "tasks began to wait for long",
    EventKind.QUEUE_CAUGHT_UP: "tasks no longer wait for long",
}


def message_of(kind: EventKind, detail: str, count: int) -> str:
    """Return a sentence such as "3 workers crashed: killed by signal 9, probably out of memory"."""
    if kind in _WORKERS:
        said = _WORKERS[kind] if count > 1 else _WORKERS[kind].replace("they", "it")
        text = f"{count} workers {said}" if count > 1 else f"1 worker {said}"
    else:
        text = _OTHERS[kind] if count == 1 else f"{_OTHERS[kind]}, {count} times"
    return f"{text}: {detail}" if detail else text


@dataclass(frozen=True, slots=True)
class Scale:
    """How many workers there should be, and what that was computed from."""

    wanted: int
    in_flight: int
    queued: int
    lowest: int
    highest: int
    gives: bool = False
    """Whether workers are given up, because others wait for their GPUs."""


def scaling_event(before: Scale | None, now: Scale) -> tuple[EventKind, str] | None:
    """Return the event of a change of scale, its kind and its detail; None where nothing changed."""
    if before is None or before.wanted == now.wanted:
        return None
    kind = EventKind.SCALED_UP if now.wanted > before.wanted else EventKind.SCALED_DOWN
    change = f"from {before.wanted} to {now.wanted} workers"
    if (before.lowest, before.highest) != (now.lowest, now.highest):
        return kind, f"{change}, because min_workers and max_workers are now {now.lowest} and {now.highest}"
    if kind is EventKind.SCALED_UP:
        return kind, f"{change}, with {now.in_flight} requests in workers and {now.queued} waiting"
    if now.gives:
        return kind, f"{change}, because another endpoint waits for GPUs"
    return kind, f"{change}, because there was less to do for a while"


def _add(conn: Connection, events: Sequence[EventRecord], now: float) -> None:
    event_store.add(conn, events)
    notifications.of_events(conn, events, now)


class EventLog:
    """All endpoints' events. Used in the event loop's thread.

    `add` never waits and never fails: what can't be stored now is stored later, in its order.
    """

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._pending: deque[EventRecord] = deque(maxlen=MAX_PENDING)
        self._batch: list[EventRecord] = []
        self._storing: asyncio.Task[None] | None = None
        self._asked_for = asyncio.Event()
        self._changed: dict[str, asyncio.Event] = {}
        self.closed = False
        self.on_event: Callable[[str, EventKind, str], None] = lambda endpoint_id, kind, detail: None

    def add(self, endpoint_id: str, kind: EventKind, detail: str = "") -> None:
        """Add an event that happens now. Equal details are counted together, so nothing unique belongs there."""
        now = self._clock()
        text = " ".join(detail.split())[:MAX_DETAIL]
        self.on_event(endpoint_id, kind, text)
        self._pending.append(EventRecord(endpoint_id, kind.value, text, now, now))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store_all())

    async def _store_all(self) -> None:
        while self._pending:
            with suppress(TimeoutError):
                async with asyncio.timeout(COLLECT_SECONDS):
                    await self._asked_for.wait()
            self._asked_for.clear()
            self._batch = batch = list(self._pending)
            self._pending.clear()
            try:
                await self._store.write(partial(_add, events=batch, now=self._clock()))
            except Unavailable:
                if self.closed:
                    return
                room = MAX_PENDING - len(self._pending)
                self._pending.extendleft(reversed(batch[max(0, len(batch) - room) :]))
                await asyncio.sleep(AGAIN_SECONDS)
            except Exception:
                log.exception("%d events could not be stored, and are dropped", len(batch))
            finally:
                self._batch = []
                for endpoint_id in {event.endpoint_id for event in batch}:
                    if (changed := self._changed.pop(endpoint_id, None)) is not None:
                        changed.set()

    async def read(
        self, endpoint_id: str, after: int, wait: float, limit: int, owner: str = ""
    ) -> list[EventRecord]:
        """Return the events after that one, once there are some or `wait` seconds have passed.

        What has happened before is in it, also where it was not stored yet.
        """
        deadline = asyncio.get_running_loop().time() + wait
        await self._stored(endpoint_id)

        def load(conn: Connection) -> list[EventRecord]:
            return event_store.list_after(conn, endpoint_id, after, limit)

        while True:
            changed = self._changed.setdefault(endpoint_id, asyncio.Event())
            found = await self._store.read(load, owner)
            left = deadline - asyncio.get_running_loop().time()
            if found or left <= 0 or self.closed:
                return found
            try:
                async with asyncio.timeout(left):
                    await changed.wait()
            except TimeoutError:
                return []

    async def _stored(self, endpoint_id: str) -> None:
        """Have this endpoint's events stored now, or wait a second where the store can't be written."""
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_SECONDS):
                while any(event.endpoint_id == endpoint_id for event in (*self._batch, *self._pending)):
                    self._asked_for.set()
                    await self._changed.setdefault(endpoint_id, asyncio.Event()).wait()

    async def forget(self, endpoint_id: str) -> None:
        self._pending = deque((e for e in self._pending if e.endpoint_id != endpoint_id), maxlen=MAX_PENDING)
        await self._store.write(lambda conn: event_store.delete_all(conn, endpoint_id))
        if (changed := self._changed.pop(endpoint_id, None)) is not None:
            changed.set()

    def close(self) -> None:
        """Release those who wait, because the server stops."""
        self.closed = True
        for changed in self._changed.values():
            changed.set()
        self._changed.clear()

    async def stop(self) -> None:
        """Store the events that are still in memory."""
        self.close()
        self._asked_for.set()
        if self._storing is not None:
            await asyncio.gather(self._storing, return_exceptions=True)

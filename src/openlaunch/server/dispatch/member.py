"""One worker of the fleet: the one place that decides whether the worker takes requests."""

import asyncio
from collections.abc import Iterable
from time import monotonic
from typing import Protocol

from openlaunch.errors import WorkerDied
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers
from openlaunch.server.dispatch.links import Expected, WorkerLink
from openlaunch.server.dispatch.recent_outcomes import Tally
from openlaunch.server.dispatch.work import Work
from openlaunch.server.metrics.counts import EndpointCounts
from openlaunch_worker.frames import Kind

LOST_GRACE_SECONDS = 0.5
"""How long work of a broken connection waits for the exit status of its worker, which is the better reason."""


REST_SECONDS = 0.02
"""How often is looked whether what runs in a worker has ended that is to sleep."""


class Closable(Protocol):
    """A connection that can be closed."""

    def close_now(self) -> None:
        """Close it at once."""
        ...


class MemberEvents(Protocol):
    """What hears of a worker: the controller, as `FleetEvents`, or who says it to the leader."""

    def worker_ready(self, worker_id: str) -> None: ...
    def worker_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None: ...
    def worker_stuck(self, worker_id: str, reason: str) -> None: ...
    def worker_leaving(self, worker_id: str, reason: str) -> None: ...
    def worker_worn(self, worker_id: str, reason: str) -> None: ...
    def worker_unhealthy(self, worker_id: str, reason: str) -> None: ...
    def worker_rested(self, worker_id: str, problem: str) -> None: ...
    def worker_lost(self, worker_id: str, reason: str = "") -> None: ...


class Place(Protocol):
    """Where a worker's slots are used: its endpoint's lane."""

    tally: Tally
    numbers: EndpointCounts

    def add_worker(self, worker: WorkerLink) -> None: ...
    def remove_worker(self, worker: WorkerLink) -> None: ...
    def freed(self, worker: WorkerLink) -> None: ...
    def heard(self, worker: WorkerLink) -> None: ...
    def wait_again(self, work: Work) -> None: ...
    def serves(self, worker: WorkerLink) -> bool: ...


class Member:
    """A worker that has connected or may: it passes on what its link reports, to its lane and to the controller.

    It takes requests from its READY on, until it is drained for whatever reason, or its connection ends. One that is
    drained before it is ready never takes any.
    """

    _link_type: type[WorkerLink] = WorkerLink

    def __init__(
        self, expected: Expected, token: str, lane: "Place", arriving: ArrivingAnswers, events: MemberEvents
    ) -> None:
        self.arriving = arriving
        self.expected = expected
        self.token = token
        self.link: WorkerLink | None = None
        self.calls: set[Closable] = set()
        """The connections over which it calls other endpoints."""
        self.owner = ""
        """The owner as which it calls them."""
        self._lane = lane
        self._events = events
        self._serves = False
        self._drained = False
        self.freed = lane.freed
        self._expected_at = monotonic()
        self._connected_at: float | None = None
        self.tally = lane.tally
        self.numbers = lane.numbers.of(expected.generation)

    def connect(self, transport: asyncio.Transport) -> None:
        """Make this connection, which has said HELLO, the worker's link."""
        self._connected_at = monotonic()
        self._lane.numbers.process_seconds.observe(self._connected_at - self._expected_at)
        self.link = self._link_type(self)
        self.link.connection_made(transport)
        transport.set_protocol(self.link)

    def drain(self) -> None:
        """Send the worker no further requests; it exits when it has finished what runs."""
        self._drained = True
        if self.link is not None and self._serves:
            self.link.drain()
            self._lane.remove_worker(self.link)

    def rest(self) -> None:
        """Send the worker no further requests, and have its server sleep once it has finished what runs."""
        if self.link is not None and self._serves:
            self._lane.remove_worker(self.link)
            self._rest_once_idle(self.link)

    def _rest_once_idle(self, link: WorkerLink) -> None:
        if self._drained:
            return
        if link.running:
            asyncio.get_running_loop().call_later(REST_SECONDS, self._rest_once_idle, link)
        else:
            link.rest(Kind.SLEEP)

    def wake(self) -> None:
        """Wake the worker's server up; it takes requests once it is awake."""
        if self.link is not None:
            self.link.rest(Kind.WAKE)

    def rested(self, problem: str, *, asleep: bool) -> None:
        if asleep or problem or self._drained or self.link is None:
            self._events.worker_rested(self.expected.worker_id, problem)
        else:
            self._lane.add_worker(self.link)
            self._events.worker_ready(self.expected.worker_id)

    def forget(self, reason: str, *, with_node: bool = False) -> None:
        """Close the connection, and end what runs: the worker has ended, or its whole node is away."""
        if self.link is not None:
            self._lane.remove_worker(self.link)
            self.link.close()
            _lose(self.link, reason, with_node=with_node)

    @property
    def running(self) -> list[Work]:
        """What runs in the worker and somebody still waits for."""
        link = self.link
        return [] if link is None else [work for work in link.running.values() if not work.cancelled]

    @property
    def is_excused(self) -> bool:
        """Whether its end tells nothing against its bundle."""
        link = self.link
        return link is not None and (link.excused or link.answered or self._lane.serves(link))

    def ready(self, link: WorkerLink) -> None:
        self._serves = True
        if self._connected_at is not None:
            self._lane.numbers.load_seconds.observe(monotonic() - self._connected_at)
        if self._drained:
            link.drain()
            return
        self._lane.add_worker(link)
        self._events.worker_ready(link.worker_id)

    def load_failed(self, reason: str, traceback: str | None) -> None:
        self._events.worker_load_failed(self.expected.worker_id, reason, traceback)

    def leaving(self, reason: str) -> None:
        self.drain()
        self._events.worker_leaving(self.expected.worker_id, reason)

    def worn(self, reason: str) -> None:
        self._events.worker_worn(self.expected.worker_id, reason)

    def unhealthy(self, reason: str) -> None:
        self.drain()
        self._events.worker_unhealthy(self.expected.worker_id, reason)

    def unserved(self, link: WorkerLink, work: Work) -> None:
        self._lane.remove_worker(link)
        if not work.cancelled:
            work.unserved(self._lane.wait_again)

    def heard(self, link: WorkerLink) -> None:
        self._lane.heard(link)

    def stuck(self) -> None:
        seconds = self.expected.grace
        self._events.worker_stuck(
            self.expected.worker_id,
            f"a request did not stop within {seconds:g} s of its cancellation or deadline",
        )

    def closed(self, link: WorkerLink) -> None:
        self._lane.remove_worker(link)
        if not link.draining or link.running:
            self._events.worker_lost(link.worker_id, link.broke)
        if link.running:
            reason = link.broke or "closed its connection"
            asyncio.get_running_loop().call_later(LOST_GRACE_SECONDS, _lose, link, reason)


def _lose(link: WorkerLink, reason: str, *, with_node: bool = False) -> None:
    running, link.running = link.running, {}
    if link.counts is not None and not with_node:
        _count_death(link, running.values(), reason)
    for work in running.values():
        link.ended_without_answer(work, reason)
        if link.is_stuck:
            # What did not stop has ended for its client already: this ran beside it, and is not to blame.
            work.refused(WorkerDied(f"the worker that ran this {reason}; whether the model ran is not known"))
        else:
            work.lost(reason, with_node=with_node)


def _count_death(link: WorkerLink, running: Iterable[Work], reason: str) -> None:
    """Count a worker's death as a failure of each prediction that it ran, or as one where it ran none."""
    counts, link.counts = link.counts, None
    lost = sum(not work.cancelled for work in running)
    if counts is not None and not link.draining:
        for _ in range(max(1, lost)):
            counts.failed(lambda: f"the worker {reason}")

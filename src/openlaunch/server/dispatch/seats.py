"""The workers on nodes, as each server uses them that keeps the same records: with a token for each request.

One server leads: it has a channel of its own to each worker, over which that is started and ended (`LedMember`).
Requests go over seats, the leader's too, so that another server can lead without a request noticing.
"""

import asyncio
import math
import secrets
from typing import Protocol

from openlaunch.controller.fleet import FleetEvents
from openlaunch.engines.documents import SharedWorker, Standing
from openlaunch.nodes.agent_link import WorkerChannel
from openlaunch.nodes.calls import Keep, WorkerNews
from openlaunch.nodes.slots import GatewaySlots, Want
from openlaunch.server.dispatch.arriving_answers import ArrivingAnswers
from openlaunch.server.dispatch.callers import Callers
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.lane_stand_in import Beside, expected_of
from openlaunch.server.dispatch.lanes import Lanes
from openlaunch.server.dispatch.left_work import LeftWork
from openlaunch.server.dispatch.links import Expected, WorkerLink
from openlaunch.server.dispatch.member import Member
from openlaunch.server.dispatch.shared_lane import SharedLane
from openlaunch.server.dispatch.work import Work
from openlaunch.server.settings import WorkerSettings
from openlaunch_worker.frames import SEAT_IDS, Kind


class LedLink(WorkerLink):
    """The leader's link to a worker: it gets its bundle over this, and no request."""

    _transport: WorkerChannel

    def adopt(self, transport: WorkerChannel, standing: Standing) -> None:
        """Lead a worker that another server has led."""
        self._transport, self._sending = transport, None
        if standing.ready:
            self._on_ready(Kind.READY, 0, b"")
        if standing.worn:
            self._owner.worn("it was to be replaced when another server led it")

    def drain(self) -> None:
        if not self.draining:
            self.draining = True
            self._transport.drain()

    def leave(self) -> None:
        """Lead the worker no longer, and say nothing of that: it stays."""
        self._transport.drop()


class LedMember(Member):
    """A worker on a node that this server leads."""

    _link_type = LedLink
    is_unwanted = False
    """Whether it drains, and nobody wants what still runs there, at any server."""

    def adopt(self, transport: WorkerChannel, standing: Standing) -> None:
        """Make this channel the worker's link, which another server has led."""
        self.link = link = LedLink(self)
        transport.set_protocol(link)
        link.adopt(transport, standing)

    def heard_news(self, news: WorkerNews, events: FleetEvents) -> None:
        if news.kind == "worn":
            events.worker_worn(news.worker_id, news.reason)
        elif news.kind == "stuck":
            events.worker_stuck(news.worker_id, news.reason)
        elif news.kind == "broke":
            events.worker_lost(news.worker_id, news.reason)
        else:
            self.is_unwanted = True


class SeatLink(WorkerLink):
    """A worker's link over which this server sends requests, as many at a time as it holds tokens."""

    _transport: WorkerChannel

    def begin(self, transport: WorkerChannel, worker: SharedWorker, tokens: int) -> None:
        """Use this channel from now on."""
        self._transport, self._sending = transport, None
        self.slots = tokens
        self._first_id = self._last_id = worker.first_id
        self._wants_context = worker.wants_context
        self._on_ready(Kind.READY, 0, b"")

    def send_work(self, work: Work) -> None:
        last = self._last_id
        while last == self._first_id + SEAT_IDS - 1 or last + 1 in self.running:
            last = self._first_id if last == self._first_id + SEAT_IDS - 1 else last + 1
        self._last_id = last
        if (kept := work.kept) is not None:
            self._transport.keep(Keep(last + 1, *kept))
        if self._wants_context:
            self._send_with_context(work)
        else:
            super().send_work(work)


class SeatMember(Member):
    """A worker on a node that this server sends requests to."""

    def sit(self, transport: WorkerChannel, worker: SharedWorker, tokens: int) -> None:
        self.link = link = SeatLink(self)
        transport.set_protocol(link)
        link.begin(transport, worker, tokens)


class Seat(asyncio.Protocol):
    """A place at a worker: it reads the channel until its endpoint's lane is known here."""

    def __init__(self, seats: "Seats", worker: SharedWorker, transport: WorkerChannel) -> None:
        self.worker, self.transport = worker, transport
        self.member: SeatMember | None = None
        self.lane: SharedLane | None = None
        self._seats = seats

    @property
    def link(self) -> SeatLink | None:
        link = None if self.member is None else self.member.link
        return link if isinstance(link, SeatLink) else None

    def connection_lost(self, exc: Exception | None) -> None:
        self._seats.closed(self)

    def worker_ready(self, worker_id: str) -> None:
        """Tell nobody: the leader knows."""

    def worker_load_failed(self, worker_id: str, reason: str, traceback: str | None) -> None:
        """Tell nobody: the worker says that to the leader."""

    def worker_leaving(self, worker_id: str, reason: str) -> None:
        """Tell nobody: the worker says that to the leader."""

    def worker_worn(self, worker_id: str, reason: str) -> None:
        """Tell nobody: the worker says that to the leader."""

    def worker_unhealthy(self, worker_id: str, reason: str) -> None:
        """Tell nobody: the worker says that to the leader."""

    def worker_rested(self, worker_id: str, problem: str) -> None:
        """Tell nobody: workers on nodes do not sleep."""

    def worker_stuck(self, worker_id: str, reason: str) -> None:
        self.transport.report(WorkerNews(worker_id, "stuck", reason))

    def worker_lost(self, worker_id: str, reason: str = "") -> None:
        if reason:
            self.transport.report(WorkerNews(worker_id, "broke", reason))
        self._seats.closed(self)


class Leader(Protocol):
    """What the leader does with the workers that it has started."""

    arriving: ArrivingAnswers
    callers: Callers

    def connect(
        self, token: str, transport: WorkerChannel, standing: Standing | None
    ) -> asyncio.Protocol | None: ...
    def call(self, worker_id: str, transport: WorkerChannel) -> asyncio.Protocol | None: ...
    def heard(self, news: WorkerNews) -> None: ...


class Seats:
    """Holds this server's places at workers on nodes, and its tokens for them."""

    def __init__(self, settings: WorkerSettings, lanes: Lanes, leader: Leader) -> None:
        self.connect, self.heard = leader.connect, leader.heard
        self.call, self.serve, self._end_calls = leader.call, leader.callers.serve, leader.callers.end
        self._settings, self._lanes, self._arriving = settings, lanes, leader.arriving
        self.left_work = LeftWork(settings, leader.arriving)
        self.left, self.taken_up = self.left_work.heard, self.left_work.opened
        self._tokens = GatewaySlots()
        self._seats: dict[str, Seat] = {}
        self._of_agent: dict[str, WorkerChannel] = {}
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def share(self, worker: SharedWorker, transport: WorkerChannel) -> asyncio.Protocol:
        seat = self._seats[worker.worker_id] = Seat(self, worker, transport)
        self._of_agent[transport.agent] = transport
        self._want(self._tokens.worker_ready(transport.agent, worker.worker_id, worker.endpoint_id))
        if isinstance(lane := self._lanes.get(worker.endpoint_id), SharedLane):
            self._place(seat, lane)
        return seat if seat.link is None else seat.link

    def place(self, lane: Lane) -> None:
        """Use the workers of an endpoint that is known here from now on."""
        assert isinstance(lane, SharedLane)
        for seat in list(self._seats.values()):
            if seat.lane is None and seat.worker.endpoint_id == lane.endpoint.id:
                self._place(seat, lane)

    def _place(self, seat: Seat, lane: SharedLane) -> None:
        worker = seat.worker
        expected = expected_of(worker.worker_id, worker.generation, self._settings)
        seat.lane = lane
        seat.member = SeatMember(expected, secrets.token_hex(8), lane, self._arriving, seat)
        seat.member.owner = lane.endpoint.owner
        seat.member.sit(seat.transport, worker, self._tokens.held[worker.worker_id])

    def granted(self, worker_id: str, tokens: int) -> None:
        self._tokens.granted(worker_id, tokens)
        seat = self._seats.get(worker_id)
        if seat is not None and seat.link is not None and seat.lane is not None:
            seat.link.slots = self._tokens.held.get(worker_id, 0)
            seat.lane.granted(seat.link)

    def taken(self, worker_id: str) -> None:
        self._tokens.taken(worker_id)
        self._set_slots(worker_id)

    def recalled(self, worker_id: str, tokens: int) -> None:
        if (seat := self._seats.get(worker_id)) is None:
            return
        running = 0 if seat.link is None else len(seat.link.running)
        for answer in self._tokens.recalled(worker_id, tokens, running):
            seat.transport.give(answer.tokens)
        self._set_slots(worker_id)

    def _set_slots(self, worker_id: str) -> None:
        seat = self._seats.get(worker_id)
        if seat is not None and seat.link is not None:
            seat.link.slots = self._tokens.held.get(worker_id, 0)

    def waiting(self, lane: SharedLane) -> None:
        """Say to nodes how many requests wait in a lane, none of which finds a slot."""
        self._want(self._tokens.waiting(lane.endpoint.id, lane.waiting, self._loop.time()))
        self._watch()

    def _watch(self) -> None:
        if self._timer is None and self._tokens.due < math.inf:
            self._timer = self._loop.call_at(self._tokens.due, self._widen)

    def _widen(self) -> None:
        self._timer = None
        self._want(self._tokens.widen(self._loop.time()))
        self._watch()

    def _want(self, wants: list[Want]) -> None:
        for want in wants:
            if (channel := self._of_agent.get(want.agent)) is not None:
                channel.want(want.endpoint, want.waiting)

    def closed(self, seat: Seat) -> None:
        """Note that a seat's channel is closed. What it ran waits for a moment for how the worker has ended."""
        worker_id = seat.worker.worker_id
        if self._seats.get(worker_id) is seat and worker_id in self._tokens.held:
            self._want(self._tokens.worker_gone(worker_id))
        if seat.link is None or not seat.link.running:
            self._forget(seat)

    def member_of(self, worker_id: str) -> SeatMember | None:
        """Return a worker that this server sends requests to."""
        seat = self._seats.get(worker_id)
        return None if seat is None else seat.member

    def _forget(self, seat: Seat) -> None:
        if seat.member is not None:
            self._end_calls(seat.member)
        if self._seats.get(seat.worker.worker_id) is seat:
            del self._seats[seat.worker.worker_id]

    def ended(self, worker_id: str, reason: str, *, with_node: bool) -> None:
        self.left_work.ended(worker_id, reason, with_node=with_node)
        if (seat := self._seats.get(worker_id)) is None:
            return
        self.closed(seat)
        self._forget(seat)
        if seat.member is not None and seat.link is not None:
            seat.member.forget(seat.link.broke or reason, with_node=with_node)

    def running(self) -> list[Work]:
        """Return what runs in workers and somebody still waits for."""
        seated = [work for seat in self._seats.values() if seat.member for work in seat.member.running]
        return seated + self.left_work.running()

    def running_in(self, worker_id: str) -> int:
        seat = self._seats.get(worker_id)
        seated = 0 if seat is None or seat.member is None else len(seat.member.running)
        return seated + self.left_work.running_in(worker_id)

    def is_excused(self, worker_id: str) -> bool:
        """Return whether the end of a worker tells nothing against its bundle, as far as this server knows."""
        seat = self._seats.get(worker_id)
        return seat is not None and seat.member is not None and seat.member.is_excused

    def led(self, expected: Expected, token: str, lane: Lane, events: FleetEvents) -> LedMember:
        """Return a worker that this server leads, and starts or adopts."""
        return LedMember(expected, token, Beside(lane), self._arriving, events)

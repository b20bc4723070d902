"""A worker's connection on its node, to which each server that uses the worker has a channel of its own."""

import asyncio
from abc import ABC, abstractmethod
from typing import Any, Protocol

from openlaunch.agent.frame_cutter import FrameCutter, Piece
from openlaunch.agent.kept_work import KeptWork, KeptWorks
from openlaunch.agent.running_requests import RunningRequests
from openlaunch.agent.server_link import ServerLink
from openlaunch.agent.to_worker import ToWorker
from openlaunch.engines.base import EngineError
from openlaunch.engines.documents import SharedWorker, Standing, WorkerSpec
from openlaunch.nodes.calls import NEWS, SHARED, STANDING, TAKEN_UP, Keep, TakenUp, WorkerNews
from openlaunch.nodes.link import Kind
from openlaunch_worker.frames import CREDIT_BODY, HEADER, SEAT_IDS, FrameError, encode
from openlaunch_worker.frames import Kind as WorkerKind

_FROM_LEADER = (WorkerKind.START, WorkerKind.BUNDLE)
_FROM_SEAT = (WorkerKind.CONTEXT, WorkerKind.REQUEST, WorkerKind.CANCEL, WorkerKind.CREDIT)
_ANSWERS = (WorkerKind.RESULT, WorkerKind.END)
_NOTES = (WorkerKind.PROGRESS, WorkerKind.PARTIAL)
_TO_SEAT = (*_ANSWERS, *_NOTES, WorkerKind.CHUNK, WorkerKind.HEAD, WorkerKind.HEARD)


class Slots(Protocol):
    """Decides which servers may send a worker requests."""

    kept: KeptWorks

    def ready(self, relay: "WorkerRelay") -> None:
        """Let servers send the worker requests."""

    def started(self, seat: "Seat", request_id: int) -> bool:
        """Note that a request has come; return False where its server holds no token for it."""

    def ended(self, relay: "WorkerRelay", request_id: int) -> None:
        """Note that a request has its answer. It is passed on after this."""

    def given(self, seat: "Seat", tokens: int) -> None:
        """Take back tokens that were recalled; raise `FrameError` where that many were not."""

    def drain(self, relay: "WorkerRelay") -> None:
        """Take the worker's tokens back, each once it is not used."""

    def is_drained(self, relay: "WorkerRelay") -> bool:
        """Return whether nothing runs in a worker that drains, and nothing can come."""

    def gone(self, relay: "WorkerRelay") -> None:
        """Forget the worker."""


class Channel(ABC):
    """One server's channel to a worker."""

    def __init__(self, relay: "WorkerRelay", link: ServerLink) -> None:
        self.link = link
        self.cutter = FrameCutter()
        self.waits: list[bytes] = []
        """Bytes that have come while a frame of another server was not whole."""
        self._relay = relay
        self._number = 0
        self._pauses = 0
        """How many reasons there are not to read the worker: the link is full, and the server wants it."""

    def open(self, document: dict[str, Any]) -> None:
        self._number = self.link.open_channel(self, document)

    def say(self, kind: Kind, payload: bytes = b"") -> None:
        self.link.send(kind, self._number, payload)

    def send(self, data: bytes) -> None:
        """Pass on what the worker says."""
        self.link.send_data(self._number, data)

    def close(self) -> None:
        """Close it at this end."""
        self.link.close_channel(self._number)

    def drop(self) -> None:
        """Have it read by nobody, and say nothing of that: the server has given the worker up."""
        self.link.channels.pop(self._number, None)

    def receive(self, data: bytes) -> None:
        self._relay.to_worker.receive(self, data)

    @abstractmethod
    def closed(self) -> None: ...

    def lost(self) -> None:  # noqa: B027 -- the agent has the worker looked after
        """Do nothing."""

    @abstractmethod
    def check(self, piece: Piece) -> None:
        """Raise `FrameError` unless this frame, which begins, may come over this channel."""

    def pause(self) -> None:
        self._pauses += 1
        self._relay.set_paused(self, paused=True)

    def resume(self) -> None:
        self._pauses -= 1
        self._relay.set_paused(self, paused=self._pauses > 0)

    def drain(self) -> None:
        raise FrameError("a DRAIN from a server that does not have the worker")

    def given(self, tokens: int) -> None:
        raise FrameError("tokens that were not recalled")

    def keep(self, keep: Keep) -> None:
        raise FrameError("a KEEP over a channel without requests")


class LeaderChannel(Channel):
    """The channel of the server that has started the worker, or has adopted it."""

    def check(self, piece: Piece) -> None:
        if piece.kind not in _FROM_LEADER:
            raise FrameError(f"a frame of the kind {piece.kind} for a worker, over the leader's channel")
        if piece.kind == WorkerKind.BUNDLE and piece.ends and len(piece.data) == HEADER.size:
            self._relay.has_bundle = True

    def closed(self) -> None:
        self._relay.abort()

    def drain(self) -> None:
        self._relay.drain()


class Seat(Channel):
    """The channel over which a server sends the worker requests, for each of which it holds a token."""

    @property
    def relay(self) -> "WorkerRelay":
        return self._relay

    def check(self, piece: Piece) -> None:
        if piece.kind not in _FROM_SEAT:
            raise FrameError(f"a frame of the kind {piece.kind} for a worker, which does not belong there")
        if not 0 < piece.request_id - self.link.first_id < SEAT_IDS:
            raise FrameError(f"the id {piece.request_id} of a request, which is not this server's")
        if piece.kind == WorkerKind.REQUEST:
            self._relay.begin(self, piece.request_id)
        else:
            self._relay.said_of(piece)

    def closed(self) -> None:
        self._relay.leave(self, keeps=False)

    def keep(self, keep: Keep) -> None:
        relay, number = self._relay, keep.number
        is_own = 0 < number - self.link.first_id < SEAT_IDS
        if not is_own or number in relay.requests or number in relay.kept:
            raise FrameError(f"a KEEP of the request {number}, which can't come")
        if len(relay.kept) >= relay.spec.slots:  # one of them has no token, and will not come
            if (left_out := next((work for work in relay.kept.values() if not work.runs), None)) is None:
                raise FrameError("a KEEP of more requests than the worker has slots")
            relay.slots.kept.forget(left_out)
        relay.kept[number] = relay.slots.kept.add(keep, self.link, relay)

    def given(self, tokens: int) -> None:
        self._relay.slots.given(self, tokens)


class TakenUpChannel(Channel):
    """The channel over which a server gets a request of another one that is gone."""

    def __init__(self, relay: "WorkerRelay", link: ServerLink, work: KeptWork) -> None:
        super().__init__(relay, link)
        self._work = work

    def check(self, piece: Piece) -> None:
        if piece.request_id != self._work.number or piece.kind not in (WorkerKind.CANCEL, WorkerKind.CREDIT):
            raise FrameError(f"a frame of the kind {piece.kind} about a request that was taken up")
        self._relay.said_of(piece)

    def closed(self) -> None:
        self._relay.put_down(self, self._work)

    def lost(self) -> None:
        self._relay.lose(self)


class WorkerRelay(asyncio.Protocol):
    """Passes frames between a worker and the servers that use it, of which it reads the heads alone.

    A server's frame goes to the worker whole, before one of another server does. What comes back goes to the server
    whose request it is about, or to the leader.
    """

    def __init__(self, spec: WorkerSpec, link: ServerLink, slots: Slots) -> None:
        self.spec, self.slots = spec, slots
        self.seats: dict[int, Seat] = {}
        """The seat of each server, by the number above which the ids of its requests are."""
        self.has_bundle = self.is_ready = self.served = self._wants_context = False
        self._first: ServerLink | None = link
        """The server that has started it, until it has connected."""
        self._leader: LeaderChannel | None = None
        self.requests = RunningRequests(spec, self.tell)
        self.to_worker = ToWorker()
        self._ends = self._drains = self._has_drain = self._is_unwanted = False
        self._paused: set[Channel] = set()
        self._is_full = False
        """Whether the worker does not read as fast as it is written to."""
        self._back = FrameCutter()
        self._to: Channel | None = None
        """The channel that gets the frame that comes from the worker."""
        self.kept: dict[int, KeptWork] = {}
        """What may outlive its server, by the request's id, until it is answered."""
        self._taken_up: dict[int, TakenUpChannel] = {}

    @property
    def may_be_kept(self) -> bool:
        """Whether another server can adopt the worker: it has its bundle, and is not about to end."""
        return self._is_open and self.has_bundle and not self._ends and not self._drains

    @property
    def ends_well(self) -> bool:
        """Whether it ends without further orders once it has done what it runs."""
        return self._is_open and self.is_ready and self._drains

    @property
    def _is_open(self) -> bool:
        return self.to_worker.transport is not None and not self.to_worker.transport.is_closing()

    def connect(self, transport: asyncio.Transport) -> None:
        """Take over a worker's connection, which has said HELLO."""
        link, self._first = self._first, None
        if link is None:
            transport.abort()
            return
        self.to_worker.transport = transport
        transport.set_protocol(self)
        self._lead(link, None)

    def attach(self, link: ServerLink, token: str) -> None:
        """Have this server adopt the worker, which it knows by the token."""
        self.detach()
        self._lead(link, Standing(self.is_ready, bool(self.requests.worn)), token)
        if self.requests.stuck:
            self.tell("stuck", self.requests.stuck)

    def _lead(self, link: ServerLink, standing: Standing | None, token: str = "") -> None:
        leader = self._leader = LeaderChannel(self, link)
        shown = None if standing is None else STANDING.dump(standing)
        leader.open({"token": token or self.spec.token, "standing": shown})
        if self._is_full:
            leader.say(Kind.PAUSE)

    def server_of(self, first_id: int) -> ServerLink | None:
        """Return the server whose requests have ids above this; with 0, any that uses the worker, or leads it."""
        if first_id:
            return None if (seat := self.seats.get(first_id)) is None else seat.link
        channel: Channel | None = next(iter(self.seats.values()), None) or self._leader
        return None if channel is None else channel.link

    def detach(self) -> None:
        """Have no leader: the one that there was is gone, or leads no longer."""
        self._first = None
        if self._leader is not None:
            self._leader.drop()
            self._forget(self._leader)
            self._leader = None

    def sit(self, link: ServerLink) -> None:
        """Let a server send requests, once it holds a token."""
        seat = self.seats[link.first_id] = Seat(self, link)
        spec, identity = self.spec, self.spec.identity
        generation = 0 if identity is None else identity.generation
        shared = SharedWorker(
            spec.worker_id, spec.endpoint_id, generation, link.first_id, self._wants_context
        )
        seat.open({"worker": SHARED.dump(shared)})
        if self._is_full:
            seat.say(Kind.PAUSE)

    def leave(self, seat: Seat, *, keeps: bool) -> None:
        """Take a server's seat away, and cancel what it has running; with `keeps`, unless that may outlive it."""
        if self.seats.pop(seat.link.first_id, None) is None:
            return
        for number, work in list(self.kept.items()):
            whole = number in self.requests and number != seat.cutter.unfinished
            if work.link is seat.link and number not in self._taken_up and not (keeps and whole):
                self.slots.kept.forget(work)
        self._forget(seat)
        if self._is_open:
            assert self.to_worker.transport is not None
            self.to_worker.complete(seat)
            self._cancel(self.requests.cancel_all(seat.link.first_id, self.kept))
            self.to_worker.pass_on()
        self.look()

    def _cancel(self, numbers: list[int]) -> None:
        assert self.to_worker.transport is not None
        for number in numbers:
            self.to_worker.transport.write(encode(WorkerKind.CANCEL, number))

    def said_of(self, piece: Piece) -> None:
        """Note a CANCEL or a CREDIT of a server."""
        number = piece.request_id
        if piece.kind == WorkerKind.CANCEL:
            self.requests.cancel(number)
            self.look()
        if (work := self.kept.get(number)) is None:
            return
        if piece.kind == WorkerKind.CREDIT:
            if len(piece.data) != HEADER.size + CREDIT_BODY.size:
                raise FrameError("a CREDIT of another size")
            work.ahead -= CREDIT_BODY.unpack_from(piece.data, HEADER.size)[0]
        elif piece.kind == WorkerKind.CANCEL:
            self.slots.kept.forget(work)

    def take_up(self, work: KeptWork, link: ServerLink) -> None:
        is_coming = work.runs and self._back.unfinished == work.number
        if is_coming and not work.part:
            self.slots.kept.forget(work)
            raise EngineError("the server that is gone had the beginning of its answer")
        channel = TakenUpChannel(self, link, work)
        identity = self.spec.identity
        taken_up = TakenUp(
            work.name,
            self.spec.worker_id,
            0 if identity is None else identity.generation,
            work.number,
            work.chunk_bytes(),
            work.dropped,
            work.ahead,
        )
        channel.open({"taken_up": TAKEN_UP.dump(taken_up)})
        for frame in work.frames:
            channel.send(frame)
        if is_coming:
            channel.send(bytes(work.part))
            self._to = channel
        if work.runs:
            self._taken_up[work.number] = channel
        work.take_up(link)

    def put_down(self, channel: TakenUpChannel, work: KeptWork) -> None:
        """Cancel what a server has taken up and does not want."""
        self.lose(channel)
        if not work.ended:
            work.link = None
            self.slots.kept.forget(work)

    def lose(self, channel: TakenUpChannel) -> None:
        """Have nobody get what comes over this channel."""
        self._taken_up = {number: each for number, each in self._taken_up.items() if each is not channel}
        self._forget(channel)

    def give_up(self, work: KeptWork) -> None:
        self.kept.pop(work.number, None)
        if work.link is None and self._is_open and work.number in self.requests:
            self._cancel(self.requests.end_soon([work.number]))
            self.look()

    def _forget(self, channel: Channel) -> None:
        self.to_worker.forget(channel)
        self.set_paused(channel, paused=False)
        if self._to is channel:
            self._to = None

    def tell(self, kind: Any, reason: str = "") -> None:
        """Tell the leader what it should know of the worker."""
        if self._leader is not None:
            self._leader.link.tell(NEWS, WorkerNews(self.spec.worker_id, kind, reason))

    def begin(self, seat: Seat, number: int) -> None:
        """Note a request that comes; raise `FrameError` where its server may not send it."""
        if number in self.requests:
            raise FrameError(f"a request with the id {number}, which is not free")
        if not self.slots.started(seat, number):
            raise FrameError("a request without a token")
        self.requests.begin(number)
        if number in self.kept:
            self.kept[number].runs = True

    def data_received(self, data: bytes) -> None:
        to = self._to
        parts: list[bytes] = []
        for piece in self._back.cut(data):
            if piece.begins:
                self._to = self._reader_of(piece)
            if self.kept and (work := self.kept.get(piece.request_id)) is not None:
                work.add(piece)
            if piece.ends:
                self._note(piece)
            if self._to is not to:
                _flush(to, parts)
                to = self._to
            parts.append(piece.data)
        _flush(to, parts)

    def _reader_of(self, piece: Piece) -> Channel | None:
        if piece.kind in _TO_SEAT:
            seat = self.seats.get(piece.request_id & -SEAT_IDS)
            return self._taken_up.get(piece.request_id) if seat is None else seat
        return self._leader

    def _note(self, piece: Piece) -> None:
        """Note what a frame of the worker's says that is about to be passed on."""
        kind = piece.kind
        if kind in _ANSWERS:
            if self.requests.end(piece.request_id):
                self.served = True
                self.slots.ended(self, piece.request_id)
                if (work := self.kept.pop(piece.request_id, None)) is not None:
                    self.slots.kept.end(work)
                self._taken_up.pop(piece.request_id, None)
                self.look()
        elif kind == WorkerKind.READY:
            self.is_ready = True
            if not self._drains:
                asyncio.get_running_loop().call_soon(self._let_sit)
            self.look()
        elif kind == WorkerKind.WANTS_CONTEXT:
            self._wants_context = True
        elif kind == WorkerKind.RENEW:
            self.requests.worn = self.requests.worn or "it asked for that"
        elif kind == WorkerKind.LOAD_FAILED:
            self._ends = True
        elif kind in (WorkerKind.LEAVING, WorkerKind.UNHEALTHY):
            self.drain()

    def _let_sit(self) -> None:
        if self._is_open and not self._drains:
            self.slots.ready(self)

    def drain(self) -> None:
        """Have the worker end once nothing runs there, and send it nothing more."""
        if not self._drains:
            self._drains = True
            self.slots.drain(self)
            self.look()

    def look(self) -> None:
        """Send the DRAIN that is due, or say that nobody wants what still runs."""
        if not self._drains or not self.is_ready or not self._is_open or self._has_drain:
            return
        if self.slots.is_drained(self):
            assert self.to_worker.transport is not None
            self._has_drain = True
            self.to_worker.transport.write(encode(WorkerKind.DRAIN, 0))
        elif not self._is_unwanted and not self.requests.is_wanted():
            self._is_unwanted = True
            self.tell("unwanted")

    def connection_lost(self, exc: Exception | None) -> None:
        self.slots.gone(self)
        channels: list[Channel] = [*self.seats.values(), *self._taken_up.values()]
        for work in list(self.kept.values()):
            self.slots.kept.forget(work)
        self._taken_up.clear()
        if self._leader is not None:
            channels.append(self._leader)
        self.seats, self._leader = {}, None
        for channel in channels:
            channel.close()

    def abort(self) -> None:
        if self.to_worker.transport is not None:
            self.to_worker.transport.abort()

    def pause_writing(self) -> None:
        self._is_full = True
        self._say_to_all(Kind.PAUSE)

    def resume_writing(self) -> None:
        self._is_full = False
        self._say_to_all(Kind.RESUME)

    def _say_to_all(self, kind: Kind) -> None:
        for channel in self.seats.values():
            channel.say(kind)
        if self._leader is not None:
            self._leader.say(kind)

    def set_paused(self, channel: Channel, *, paused: bool) -> None:
        """Do not read the worker while one of the servers can't take what it says."""
        before = bool(self._paused)
        (self._paused.add if paused else self._paused.discard)(channel)
        if (
            self.to_worker.transport is None
            or self.to_worker.transport.is_closing()
            or before == bool(self._paused)
        ):
            return
        if self._paused:
            self.to_worker.transport.pause_reading()
        else:
            self.to_worker.transport.resume_reading()


def _flush(to: Channel | None, parts: list[bytes]) -> None:
    if parts and to is not None:
        to.send(parts[0] if len(parts) == 1 else b"".join(parts))
    parts.clear()

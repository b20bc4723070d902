"""Streaming predictions: a worker's chunks become the events of one answer, as fast as the client takes them.

Streams whose clients asked for it keep their last events, so that a client that lost its connection can resume.
Others pay nothing for that.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlencode

from openlaunch.background import BackgroundTasks
from openlaunch.errors import APIError, BadRequest, NotFound, Unavailable
from openlaunch.server.asgi import STREAM_HEADERS, header, headers_of
from openlaunch.server.dispatch.lane import Lane
from openlaunch.server.dispatch.work import Kept, Sender, StreamCall
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.heartbeats import (
    BEAT_TICKS,
    BEATING,
    HEAD_TICKS,
    HEARTBEAT,
    SILENT_TICKS,
    Heartbeats,
)
from openlaunch.server.gateway.resumable import Replay, Resumables
from openlaunch.server.gateway.streams_elsewhere import StreamsElsewhere
from openlaunch.server.gateway.sync_calls import submit
from openlaunch.server.prediction.deadlines import Deadlines
from openlaunch.server.prediction.inputs import PredictInput
from openlaunch.server.prediction.results import with_request_id
from openlaunch.server.settings import StreamSettings
from openlaunch.tasks.states import failure
from openlaunch.wire.sse import END_COMMENT, END_EVENT, RESUME
from openlaunch_worker import answers
from openlaunch_worker.documents import About
from openlaunch_worker.frames import LARGE_BYTES, Body, Outcome

if TYPE_CHECKING:
    from openlaunch.nodes.calls import TakenUp
    from openlaunch.server.dispatch.left_work import LeftWork

log = logging.getLogger(__name__)

CONTINUE_SECONDS = 1.5
"""How long a stream whose node is lost waits for a way to continue: a node finds a server lost at the same time."""

LOOK_SECONDS = 0.3
"""How often another server is asked for it meanwhile."""

RESUMED = b": resumed\n\n"
"""A comment, with which the head of the answer is sent before there is a further event."""

_NOTHING = PredictInput(b"")
_RESUME = RESUME.encode()
_END_LENGTH = len(answers.END_EVENT)


class Resumed(Protocol):
    """A stream to which its client may come back."""

    cancelled: bool

    def resume(self, exchange: Exchange, number: int) -> None:
        """Send what comes after this event on another connection, and close the one there was."""
        ...

    def give_up(self) -> None:
        """Stop the work: no client will come back for it."""
        ...


class Streams:
    """What all streams share: their deadlines, one write for each turn of the loop, and those that can be resumed."""

    def __init__(
        self, settings: StreamSettings, deadlines: Deadlines, left_work: "LeftWork | None" = None
    ) -> None:
        self.deadlines = deadlines
        self.left_work = left_work
        """Where nodes have requests of servers that are gone, or that they have lost."""
        self.resumables: Resumables[Resumed] = Resumables(settings, asyncio.get_running_loop())
        self.elsewhere: StreamsElsewhere | None = None
        """Where other servers of the cluster can be reached."""
        self.heartbeats = Heartbeats(asyncio.get_running_loop())
        self._loop = asyncio.get_running_loop()
        self._flushes: list[Callable[[], None]] = []
        self._continuing = BackgroundTasks("a stream whose node was lost could not be continued")

    def start(
        self, exchange: Exchange, lane: Lane, owner: str, predict_input: PredictInput, deadline: float
    ) -> StreamCall:
        """Give a request to a worker, resumable if the request asks for that and the server allows it."""
        asked, replay = header(exchange.scope, _RESUME), None
        if asked is not None and (stream_id := self.new_id(asked)) is not None:
            replay = Replay(stream_id, owner, lane.endpoint.id)
        end = END_COMMENT if asked is None else END_EVENT
        stream = Stream(self, exchange, owner, predict_input, deadline, end, replay, lane)
        submit(stream, exchange, lane, owner, self.deadlines)
        self.heartbeats.add(stream)
        return stream

    def new_id(self, asked: bytes) -> str | None:
        """Return an id for a stream that is asked to be resumable by this value; None: the server allows none."""
        if not self.resumables.seconds:
            return None
        if asked != b"true":
            given = repr(asked[:80].decode("latin-1"))
            raise BadRequest(f"{RESUME} is {given}: send 'true', or leave the header out")
        name = "" if self.elsewhere is None else self.elsewhere.name
        return name + secrets.token_hex(8)

    async def take_up(
        self,
        left_work: "LeftWork",
        lane: Lane,
        owner: str,
        stream_id: str,
        deadline: float,
        begin: Callable[[], bool] = lambda: True,
    ) -> "Stream | None":
        """Continue a stream that its server has lost, and whose client is about to resume it. None: no node has it.

        `begin` is called before its events come, and says whether it is still wanted.
        """
        made: list[Stream] = []

        def make(taken_up: "TakenUp") -> Stream | None:
            if not begin():
                return None
            replay = Replay(stream_id, owner, lane.endpoint.id, taken_up.dropped)
            replay.attached = False
            stream = Stream(self, None, owner, _NOTHING, deadline, replay=replay, lane=lane)
            stream.begin_behind(taken_up.held - taken_up.ahead)
            made.append(stream)
            return stream

        try:
            await left_work.take_up(stream_name(owner, lane.endpoint.id, stream_id), lane, make)
        finally:  # also where its client has left again, who may come back
            for stream in made:
                self._await_client(stream)
        return made[0] if made else None

    def continue_later(self, stream: "Stream", reason: str) -> None:
        """Continue a stream whose node was lost, if that still runs it; end it for this reason otherwise."""
        self._continuing.spawn(self._continue(stream, reason))

    async def _continue(self, stream: "Stream", reason: str) -> None:
        until = self._loop.time() + CONTINUE_SECONDS
        while not stream.cancelled and self._loop.time() < until:
            if await self._continued_here(stream) or await self._continued_elsewhere(stream):
                return
        stream.lost(reason)

    async def _continued_here(self, stream: "Stream") -> bool:
        left_work, lane, replay, deadline = self.left_work, stream.lane, stream.replay, stream.deadline
        if left_work is None or lane is None or replay is None:
            return False
        if not await left_work.wait_for(stream_name(replay.owner, lane.endpoint.id, replay.id), LOOK_SECONDS):
            return False
        exchange, number = None, 0

        def begin() -> bool:
            nonlocal exchange, number
            if stream.cancelled:
                return False
            number, exchange = replay.last, stream.hand_over()
            return True

        more = await self.take_up(left_work, lane, replay.owner, replay.id, deadline, begin)
        if more is not None and exchange is not None and not exchange.disconnected:
            try:
                more.resume(exchange, number)
            except NotFound:  # the node has dropped what the client lacks
                exchange.drop()
        return more is not None

    async def _continued_elsewhere(self, stream: "Stream") -> bool:
        exchange, replay = stream.exchange, stream.replay
        if self.elsewhere is None or replay is None or exchange is None:
            return False
        query = urlencode({"model_endpoint_id": replay.endpoint_id}).encode()
        after = f"{replay.id}-{replay.last}".encode()
        return await self.elsewhere.continued(exchange, query, after, stream.hand_over)

    def _await_client(self, stream: "Stream") -> None:
        """Have a stream that was taken up wait for its client."""
        if not stream.cancelled and stream.replay is not None:
            self.deadlines.add(stream)
            self.heartbeats.add(stream)
            self.resumables.await_client(stream.replay, stream.give_up)

    def flush_soon(self, flush: Callable[[], None]) -> None:
        """Have a stream's pieces written in the next turn of the loop, which is one call for all streams."""
        self._flushes.append(flush)
        if len(self._flushes) == 1:
            self._loop.call_soon(self._flush_all)

    def _flush_all(self) -> None:
        flushes, self._flushes = self._flushes, []
        for flush in flushes:
            try:
                flush()
            except Exception:
                log.exception("a stream could not be written")


class Stream(StreamCall):
    """A streaming request and its client's connection, which one with a replay may lose and get another.

    Until the head of the answer is sent there can still be an error status.
    """

    __slots__ = (
        *("_end", "_exchange", "_headers", "_owner", "_pieces"),
        *("_silent_ticks", "_streams", "_uncredited", "lane", "replay"),
    )

    def __init__(
        self,
        streams: Streams,
        exchange: Exchange | None,
        owner: str,
        predict_input: PredictInput,
        deadline: float,
        end: bytes = END_EVENT,
        replay: Replay | None = None,
        lane: Lane | None = None,
    ) -> None:
        super().__init__(predict_input.body, predict_input.flags, deadline, streams.deadlines)
        self.replay, self.lane = replay, lane
        self._owner = owner
        self._headers = STREAM_HEADERS if replay is None else {**replay.headers, **BEATING}
        self._streams = streams
        self._exchange = exchange
        self._end = end
        self._pieces: list[Body] = []
        self._silent_ticks = 0
        self._uncredited = 0
        if exchange is not None:
            exchange.on_writable = self._grant

    def begin_behind(self, size: int) -> None:
        """Give no credit for as many bytes, which come first: an earlier server has."""
        self._ahead = self._uncredited = -size

    @property
    def kept(self) -> Kept | None:
        replay, seconds = self.replay, self._streams.resumables.seconds
        if replay is None:
            return None
        name = stream_name(replay.owner, replay.endpoint_id, replay.id)
        return Kept(name, self._streams.resumables.stream_bytes, seconds, seconds)

    @property
    def name(self) -> str:
        return f"stream {self._id}"

    @property
    def owner(self) -> str:
        return self._owner

    @property
    def _id(self) -> str:
        """The request's id; where its client is away, the stream's, which its events begin with."""
        exchange = self._exchange
        if exchange is not None:
            return exchange.request_id
        return "without a client" if self.replay is None else self.replay.id

    def started(self, link: Sender, request_id: int) -> None:
        super().started(link, request_id)
        if self.replay is not None:
            # Not before: a request that is refused, or still waits, has no event after which to resume.
            self._streams.resumables.add(self.replay, self)

    def lost(self, reason: str, *, with_node: bool = False) -> None:
        """End, or wait for a way to continue: a node that was lost keeps a stream that can be resumed."""
        if with_node and self.replay is not None and self._streams.left_work is not None:
            self._link = None
            self._streams.continue_later(self, reason)
        else:
            super().lost(reason, with_node=with_node)

    @property
    def exchange(self) -> Exchange | None:
        """The client's connection; None while it is away."""
        return self._exchange

    def hand_over(self) -> Exchange | None:
        """End in favour of a stream that continues this one, and return the client's connection."""
        self._flush()
        self._forget()
        exchange, self._exchange, self.replay = self._exchange, None, None
        self.end()
        return exchange

    def about(self) -> About:
        exchange = self._exchange
        return About(self._id, self._owner, {} if exchange is None else headers_of(exchange.scope))

    def piece(self, data: Body) -> None:
        self._uncredited += len(data)
        is_large = type(data) is not bytes
        if self.replay is not None:
            data = self._streams.resumables.keep(self.replay, data)
        if is_large:
            self._write_large(data)
            return
        exchange = self._exchange
        if exchange is None:
            return
        # What comes in one turn of the loop goes out in one write.
        is_first = not self._pieces
        self._pieces.append(data)
        if is_first and exchange.started:
            self._streams.flush_soon(self._flush)
        elif is_first:
            self._flush()

    def _write_large(self, data: Body) -> None:
        if self._exchange is not None:
            self._exchange.write(self._take_pieces(), self._headers)
            self._exchange.write_large(data, self._headers)
            self._grant()

    def tick(self) -> bool:
        """Send the head, or a comment, if nothing was sent for too long; return False after the end."""
        exchange = self._exchange
        self._silent_ticks += 1
        if exchange is not None and not exchange.write_paused:
            if exchange.started:
                due = SILENT_TICKS if self.replay is None else BEAT_TICKS
            else:
                due = HEAD_TICKS if self.running else SILENT_TICKS
            if self._silent_ticks >= due:
                self._silent_ticks = 0
                exchange.write(HEARTBEAT, self._headers)
        return not self.cancelled

    def _flush(self) -> None:
        self._silent_ticks = 0
        if self._exchange is not None:
            self._exchange.write(self._take_pieces(), self._headers)
            self._grant()

    def _take_pieces(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def _grant(self) -> None:
        """Let the worker send as much more as the client's connection has taken."""
        if self._exchange is not None and not self._exchange.write_paused:
            size, self._uncredited = self._uncredited, 0
            self.passed_on(size)

    def answered(self, outcome: int, payload: Body) -> None:
        if outcome == Outcome.CANCELLED:
            self.failed(Unavailable("the worker stopped before the end of the stream", code="cancelled"))
        elif outcome == Outcome.FAILURE:
            self._send_last(with_request_id(bytes(payload), self._id))
        else:
            end = b""
            if payload[-_END_LENGTH:] == answers.END_EVENT:
                end = self._end
                if type(payload) is bytes:
                    payload = payload[:-_END_LENGTH]
                else:
                    assert isinstance(payload, bytearray)
                    del payload[-_END_LENGTH:]
            if type(payload) is not bytes:
                if self.replay is not None:
                    payload = self._streams.resumables.keep(self.replay, payload)
                self._write_large(payload)
                payload = b""
            self._send_last(payload + end)

    def failed(self, error: APIError) -> None:
        exchange = self._exchange
        if exchange is not None and not exchange.started:
            self._forget()
            exchange.fail(error)
        else:
            last = b"data: " + failure(str(error), error.status) + b"\n\n"
            self._send_last(with_request_id(last, self._id))

    def _send_last(self, last: bytes) -> None:
        self.body = b""  # the stream may be kept for its client, and the body is counted no longer
        if self.replay is not None:
            last = self._streams.resumables.end(self.replay, last)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.end(self._take_pieces() + last, self._headers)

    def gone(self) -> None:
        """Wait for the client's next connection after one was lost, or stop the work."""
        exchange, self._exchange = self._exchange, None
        self._pieces.clear()
        if self.replay is not None and exchange is not None and exchange.started:
            self._streams.resumables.await_client(self.replay, self.give_up)
        else:
            self.give_up()  # before the first event, a client does not know what it could resume

    def give_up(self) -> None:
        """Stop the work: no client will come back for it."""
        self._forget()
        self.abandon()
        if self._exchange is not None:
            self._exchange.drop()
            self._exchange = None

    def _forget(self) -> None:
        if self.replay is not None:
            self._streams.resumables.forget(self.replay)

    def resume(self, exchange: Exchange, number: int) -> None:
        """Send what comes after this event on another connection, and close the one there was."""
        assert self.replay is not None
        missed = self.replay.resume(number)
        self.numbers.resumes += 1
        self._headers = {**self.replay.headers, **BEATING}
        if self._exchange is not None:
            self._exchange.drop()
        self._pieces.clear()
        if len(missed) > LARGE_BYTES:
            exchange.write(RESUMED, self._headers)
            exchange.write_large(missed, self._headers)
        else:
            exchange.write(RESUMED + missed, self._headers)
        if self.replay.ended:
            exchange.end(b"", self._headers)
            return
        self._exchange = exchange
        exchange.on_gone = self.gone
        exchange.on_writable = self._grant
        self._grant()


def stream_name(owner: str, endpoint_id: str, stream_id: str) -> str:
    """Return the name of a stream at agents, by which nobody finds it but its owner."""
    digest = hashlib.sha256(f"{owner}\n{endpoint_id}\n{stream_id}".encode()).hexdigest()
    return f"stream-{digest}"

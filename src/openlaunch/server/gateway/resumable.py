"""Streams that their clients may come back to, when they asked for that with `Openlaunch-Resume: true`.

Each event has an id, `<stream>-<number>`, and the last ones are held. When the connection is lost, the generator goes
on until it is a window ahead, and waits there for a bounded time; a request with `Last-Event-ID` goes on after that
event. Streams that do not ask pay nothing for this: they are `gateway`'s own.
"""

import asyncio
import secrets
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from openlaunch.errors import APIError, NotFound, Unavailable
from openlaunch.server.asgi import STREAM_HEADERS
from openlaunch.server.dispatch.work import Sender, StreamCall
from openlaunch.server.gateway.front import as_told
from openlaunch.server.gateway.protocol import Exchange
from openlaunch.server.prediction.inputs import PredictInput
from openlaunch.server.prediction.results import failure_body
from openlaunch.server.settings import StreamSettings
from openlaunch.wire.sse import LAST_EVENT_ID
from openlaunch_worker.frames import Outcome

if TYPE_CHECKING:
    from openlaunch.server.gateway.sync_routes import Gateway

RESUMED = b": resumed\n\n"
"""A comment: it makes the head of the answer go out before there is a further event."""

_EVENT_END = b"\n\n"


class Replay:
    """The last events of one stream, numbered from 1."""

    __slots__ = ("_events", "_prefix", "last", "size")

    def __init__(self, stream_id: str) -> None:
        self.last = 0
        """The number of the newest event."""
        self.size = 0
        """Bytes that are held."""
        self._prefix = f"id: {stream_id}-".encode()
        self._events: deque[bytes] = deque()

    def add(self, data: bytes) -> bytes:
        """Number the events of a piece, which are whole, and hold them; gives them as they go out."""
        # The data of an event is JSON, which has no line break in it.
        bodies = data.split(_EVENT_END)[:-1]
        events = [
            b"%b%d\n%b\n\n" % (self._prefix, number, body)
            for number, body in enumerate(bodies, self.last + 1)
        ]
        self._events += events
        self.last += len(events)
        numbered = b"".join(events)
        self.size += len(numbered)
        return numbered

    def after(self, number: int) -> bytes | None:
        """The events after this one; None where the first of them is not held, or there was no such event."""
        skipped = number - (self.last - len(self._events))
        if not 0 <= skipped <= len(self._events):
            return None
        return b"".join(islice(self._events, skipped, None))

    def drop_oldest(self) -> int:
        """Hold the oldest event no more; gives its size."""
        size = len(self._events.popleft())
        self.size -= size
        return size


class Resumables:
    """The streams that can be resumed, by id. Used in the event loop's thread only.

    What is held is bounded: for each stream, and for all together. Past the second, the streams that ended first go
    first, and then a stream drops what is oldest of its own.
    """

    def __init__(self, settings: StreamSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds = settings.stream_resume_seconds
        self._stream_bytes = settings.stream_replay_bytes
        self._max_bytes = settings.max_replay_bytes
        self._loop = loop
        self._streams: dict[str, ResumableStream] = {}
        self._ended: dict[str, ResumableStream] = {}
        self._held = 0

    def add(self, stream: "ResumableStream") -> None:
        """The stream begins."""
        self._streams[stream.id] = stream

    def find(self, owner: str, endpoint_id: str, last_event_id: bytes) -> tuple["ResumableStream", int]:
        """The stream of an event, and the event's number.

        Raises:
            NotFound: it is not held, or is somebody else's, or another endpoint's.
        """
        stream_id, _, number = last_event_id.decode("latin-1").rpartition("-")
        stream = self._streams.get(stream_id)
        wrong = stream is None or (stream.owner, stream.endpoint_id) != (owner, endpoint_id)
        if stream is None or wrong or not number.isdecimal():
            raise NotFound(
                f"no stream can go on after the event {last_event_id[:80].decode('latin-1')!r}: its client left, or "
                f"it ended, more than {self.seconds:g} s ago, or the server has been restarted since; "
                "without Last-Event-ID the request begins anew",
                code="stream_not_found",
            )
        return stream, int(number[:20])

    def grown(self, stream: "ResumableStream", size: int) -> None:
        """The stream holds so many bytes more: keep to the bounds."""
        self._held += size
        while self._held > self._max_bytes and self._ended:
            self.forget(next(iter(self._ended.values())))
        # A stream whose client is lost keeps all: it is held up before it is a window ahead.
        while stream.attached and stream.replay.size and self._is_over(stream):
            self._held -= stream.replay.drop_oldest()

    def _is_over(self, stream: "ResumableStream") -> bool:
        return stream.replay.size > self._stream_bytes or self._held > self._max_bytes

    def ended(self, stream: "ResumableStream") -> None:
        """The stream has come to its end, which its client may not have seen."""
        self._ended[stream.id] = stream
        self._loop.call_later(self.seconds, self.forget, stream)

    def forget(self, stream: "ResumableStream") -> None:
        """The stream can't be resumed any more; harmless when called twice."""
        if self._streams.pop(stream.id, None) is not None:
            self._ended.pop(stream.id, None)
            self._held -= stream.replay.size


class ResumableStream(StreamCall):
    """A streaming request whose client may lose its connection and come back on another."""

    __slots__ = (
        *("_exchange", "_gateway", "_leaving", "_over", "_pieces", "_since", "_uncredited"),
        *("endpoint_id", "id", "owner", "replay"),
    )

    def __init__(
        self,
        gateway: "Gateway",
        exchange: Exchange,
        wanted: PredictInput,
        deadline: float,
        owner: str,
        endpoint_id: str,
    ) -> None:
        super().__init__(exchange.body, wanted.flags, deadline)
        self.id = secrets.token_hex(8)
        self.owner = owner
        self.endpoint_id = endpoint_id
        self.replay = Replay(self.id)
        self._gateway = gateway
        self._exchange: Exchange | None = exchange
        self._since = 0
        self._pieces: list[bytes] = []
        self._uncredited = 0
        self._over = False
        self._leaving: asyncio.TimerHandle | None = None
        exchange.on_writable = self._grant

    @property
    def attached(self) -> bool:
        """Whether there is a connection to the client."""
        return self._exchange is not None

    def started(self, link: Sender, request_id: int) -> None:
        super().started(link, request_id)
        # Not before: one that is refused, or waits still, has no event after which to go on.
        self._gateway.resumables.add(self)

    def piece(self, data: bytes) -> None:
        self._uncredited += len(data)
        self._keep(data)
        if self._exchange is None:
            return
        if not self._exchange.started:
            self._flush()
        elif len(self._pieces) == 1:
            self._gateway.flush_soon(self._flush)

    def _keep(self, data: bytes) -> None:
        events = self.replay.add(data)
        if self._exchange is not None:
            self._pieces.append(events)
        self._gateway.resumables.grown(self, len(events))

    def _flush(self) -> None:
        if self._exchange is not None:
            self._exchange.write(self._taken_pieces(), self._headers())
            self._grant()

    def _taken_pieces(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)

    def _headers(self) -> dict[str, str]:
        return {**STREAM_HEADERS, LAST_EVENT_ID: f"{self.id}-{self._since}"}

    def _grant(self) -> None:
        """The worker may go on by as much as the client's connection has taken."""
        if self._exchange is not None and not self._exchange.write_paused:
            size, self._uncredited = self._uncredited, 0
            self.passed_on(size)

    # How it ends.

    def answered(self, outcome: int, payload: bytes) -> None:
        if outcome == Outcome.CANCELLED:
            self.failed(Unavailable("the worker stopped before the end of the stream", code="cancelled"))
        else:
            self._end(payload)

    def failed(self, error: APIError) -> None:
        exchange = self._exchange
        if exchange is not None and not exchange.started:
            self._gateway.deadlines.discard(self)
            self._gateway.resumables.forget(self)
            exchange.fail(as_told(error, self.flags))
        else:
            self._end(b"data: " + failure_body(str(error), error.status) + _EVENT_END)

    def _end(self, last: bytes) -> None:
        self._gateway.deadlines.discard(self)
        self._keep(last)
        self._over = True
        self._stay()
        exchange, headers = self._exchange, self._headers()
        self._exchange = None
        self._gateway.resumables.ended(self)
        if exchange is not None:
            exchange.end(self._taken_pieces(), headers)

    # How its client leaves and comes back.

    def gone(self) -> None:
        """The connection to the client is lost."""
        exchange, self._exchange = self._exchange, None
        self._pieces.clear()
        if exchange is not None and exchange.started:
            self._stay()
            self._leaving = self._gateway.loop.call_later(self._gateway.resumables.seconds, self.give_up)
        else:
            self.give_up()  # the client does not know yet what it could come back to

    def _stay(self) -> None:
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    def give_up(self) -> None:
        """Nobody will come back: stop the work."""
        self._stay()
        self._gateway.deadlines.discard(self)
        self._gateway.resumables.forget(self)
        self.abandon(None)
        if self._exchange is not None:
            self._exchange.drop()
            self._exchange = None

    def resume(self, exchange: Exchange, number: int) -> None:
        """Go on after this event on another connection; the one there was is closed.

        Raises:
            NotFound: the events after it are not held any more.
        """
        missed = self.replay.after(number)
        if missed is None:
            raise NotFound(
                f"the stream is at event {self.replay.last}, and what came after event {number} is not held any "
                "more (stream_replay_bytes, max_replay_bytes): without Last-Event-ID the request begins anew",
                code="event_not_held",
            )
        self._stay()
        if self._exchange is not None:
            self._exchange.drop()
        self._pieces.clear()
        self._since = number
        if self._over:
            exchange.end(RESUMED + missed, self._headers())
            return
        self._exchange = exchange
        exchange.on_gone = self.gone
        exchange.on_writable = self._grant
        exchange.write(RESUMED + missed, self._headers())
        self._grant()

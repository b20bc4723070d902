"""Events of streams that clients may resume, because they asked for that with `Openlaunch-Resume: true`.

Each event has an id, `<stream>-<number>`, and the last ones are kept. When the connection is lost, the generator runs
until it is a window ahead, and waits there for a bounded time. A request with `Last-Event-ID` gets what comes after
that event.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Generic, TypeVar

from openlaunch.errors import NotFound
from openlaunch.server.asgi import STREAM_HEADERS
from openlaunch.server.prediction.values import events_in
from openlaunch.server.settings import StreamSettings
from openlaunch.wire.sse import LAST_EVENT_ID
from openlaunch_worker.frames import Body

Stream = TypeVar("Stream")

MAX_ENDED = 10_000
"""Streams that are kept after their end: what one takes beside its events is not counted."""


class Replay:
    """The last events of one stream, numbered from 1, and whether its client is there."""

    __slots__ = (
        *("_events", "_prefix", "attached", "endpoint_id", "ended", "give_up"),
        *("_split", "headers", "id", "last", "owner", "size", "timer"),
    )

    def __init__(
        self,
        stream_id: str,
        owner: str,
        endpoint_id: str,
        last: int = 0,
        split: Callable[[Body], Iterator[Body | memoryview]] = events_in,
    ) -> None:
        """Begin behind the event `last`; `split` gives the events of a piece, without their ends."""
        self.id = stream_id
        self.owner = owner
        self.endpoint_id = endpoint_id
        self.attached = True
        """Whether there is a connection to the client."""
        self.ended = False
        self.last = last
        """The number of the newest event."""
        self.size = 0
        """Bytes that are held."""
        self.timer: asyncio.Handle | None = None
        """Ends the wait for a client that is not there."""
        self.give_up: Callable[[], None]
        """What that does, where there is such a wait."""
        self._prefix = f"id: {stream_id}-".encode()
        self._split = split
        self._events: deque[bytes] = deque()
        self._answer_after(0)

    def _answer_after(self, number: int) -> None:
        self.headers = {**STREAM_HEADERS, LAST_EVENT_ID: f"{self.id}-{number}"}

    def add(self, data: Body) -> bytes:
        """Number and hold the events of a piece, which are whole, and return them as they are sent."""
        events = [
            b"".join((self._prefix, b"%d\n" % number, event, b"\n\n"))
            for number, event in enumerate(self._split(data), self.last + 1)
        ]
        self._events += events
        self.last += len(events)
        numbered = events[0] if len(events) == 1 else b"".join(events)
        self.size += len(numbered)
        return numbered

    def resume(self, number: int) -> bytes:
        """Attach the client again, and return the events after this one; raise NotFound if they are not held."""
        skipped = number - (self.last - len(self._events))
        if not 0 <= skipped <= len(self._events):
            raise NotFound(
                f"the stream is at event {self.last}, and what came after event {number} is no longer held "
                "(stream_replay_bytes, max_replay_bytes): without Last-Event-ID the request begins anew",
                code="event_not_held",
            )
        self.stop_waiting()
        self.attached = not self.ended
        self._answer_after(number)
        return b"".join(islice(self._events, skipped, None))

    def stop_waiting(self) -> None:
        """Stop the timer that runs while the client is away."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def drop_oldest(self) -> int:
        """Drop the oldest event, and return its size."""
        size = len(self._events.popleft())
        self.size -= size
        return size


class Resumables(Generic[Stream]):
    """The streams that can be resumed, by id. Used in the event loop's thread only.

    What is held is limited, for each stream and for all together. An owner may hold as much of the latter as is free
    then. Past it, the owner's streams that have ended are dropped, the first to end first; after them, each of the
    owner's streams drops its own oldest events.
    """

    def __init__(self, settings: StreamSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.seconds = settings.stream_resume_seconds
        self.stream_bytes = settings.stream_replay_bytes
        self._max_bytes = settings.max_replay_bytes
        self._loop = loop
        self._streams: dict[str, tuple[Replay, Stream]] = {}
        self._ended: dict[str, dict[str, Replay]] = {}
        """Streams that have ended, by owner and id."""
        self._number_ended = 0
        self._held = 0
        self._held_of: Counter[str] = Counter()

    def add(self, replay: Replay, stream: Stream) -> None:
        """Make the stream findable."""
        self._streams[replay.id] = replay, stream

    def find(self, owner: str, endpoint_id: str, last_event_id: bytes) -> tuple[Stream, int]:
        """Find the stream of an event of this owner and endpoint, and the event's number; or raise NotFound."""
        stream_id, _, number = last_event_id.decode("latin-1").rpartition("-")
        replay, stream = self._streams.get(stream_id, (None, None))
        wrong = replay is None or (replay.owner, replay.endpoint_id) != (owner, endpoint_id)
        if stream is None or wrong or not number.isdecimal():
            raise NotFound(
                f"no stream can be resumed after the event {last_event_id[:80].decode('latin-1')!r}: its client "
                f"left, or it ended, more than {self.seconds:g} s ago, or the server has been restarted since; "
                "without Last-Event-ID the request begins anew",
                code="stream_not_found",
            )
        return stream, int(number[:20])

    def keep(self, replay: Replay, data: Body) -> bytes:
        """Number and hold the events of a piece, within the limits, and return them as they are sent."""
        events = replay.add(data)
        self._count(replay, len(events))
        ended = self._ended.get(replay.owner)
        while ended and self._is_over(replay.owner):
            self.forget(next(iter(ended.values())))
        # A stream whose client is lost keeps all: it is held up before it is a window ahead. Very many are given up.
        while replay.attached and replay.size:
            if replay.size <= self.stream_bytes and not self._is_over(replay.owner):
                break
            self._count(replay, -replay.drop_oldest())
        if replay.timer is not None and self._held_of[replay.owner] > self._max_bytes:
            replay.timer.cancel()
            replay.timer = self._loop.call_soon(replay.give_up)
        return events

    def _count(self, replay: Replay, size: int) -> None:
        self._held += size
        self._held_of[replay.owner] += size
        if not self._held_of[replay.owner]:
            del self._held_of[replay.owner]

    def _is_over(self, owner: str) -> bool:
        """Return whether an owner holds more than is free."""
        return self._held_of[owner] > self._max_bytes - self._held

    def await_client(self, replay: Replay, give_up: Callable[[], None]) -> None:
        """Keep a stream whose connection was lost for a while; then call `give_up`."""
        replay.attached, replay.give_up = False, give_up
        replay.timer = self._loop.call_later(self.seconds, give_up)

    def end(self, replay: Replay, last: bytes) -> bytes:
        """Keep the stream's last events for a while, because its client may not have seen them; return them."""
        events = self.keep(replay, last)
        replay.stop_waiting()
        replay.ended, replay.attached = True, False
        self._ended.setdefault(replay.owner, {})[replay.id] = replay
        self._number_ended += 1
        if self._number_ended > MAX_ENDED:
            most = max(self._ended.values(), key=len)
            self.forget(next(iter(most.values())))
        self._loop.call_later(self.seconds, self.forget, replay)
        return events

    def forget(self, replay: Replay) -> None:
        """Drop the stream, which then can't be resumed; harmless when called twice."""
        replay.stop_waiting()
        if self._streams.pop(replay.id, None) is None:
            return
        self._count(replay, -replay.size)
        ended = self._ended.get(replay.owner, {})
        if ended.pop(replay.id, None) is not None:
            self._number_ended -= 1
            if not ended:
                del self._ended[replay.owner]

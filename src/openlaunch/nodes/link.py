"""The connection between a server and an agent: frames over TLS, with beats, calls and channels.

A frame is as in `openlaunch_worker.frames`. Its id names a call or a channel::

    server → agent                                    agent → server
    HELLO    JSON {"version", "oldest", "proof",      WELCOME  JSON {"version", "node", "capacity"}: the newest
                   "records", "server"}                        version that both speak
    CALL     JSON {"method", …}                       REFUSED  JSON {"reason"}: no such version, or no proof
                                                      RETURN   JSON, what a call returns
                                                      FAILED   JSON {"type", "message"}, how a call ended
                                                      EVENT    JSON {"event", …}
                                                      OPEN     JSON {"token", "standing"}: a worker has said HELLO
                                                               to the leader, or is adopted by it;
                                                               or {"worker"}: a server may send it requests;
                                                               or {"caller"}: it calls endpoints, by HTTP;
                                                               or {"client"}: another server passes on what this
                                                               client has asked, by HTTP; that one gets {"other"}
                                                               or {"taken_up"}: a request of a server that is gone
    DRAIN    the leader's worker ends once it is      GRANT    u32: hold this number of tokens more
             idle, and gets nothing more              TAKE     a token is another server's from the next answer on
    WANT     this number of requests waits for the   RECALL   u32: give as many tokens back as are not used
             endpoint whose id this has
    GIVE     u32: tokens, the answer to RECALL
    KEEP     JSON: the request that comes next may
             outlive this server

    both: DATA    frames of a worker's connection
          CLOSE   the channel is closed
          PAUSE, RESUME  send nothing, or again, over the channel
          BEAT    twice a second

A server that leads has a channel for each of its workers, over which START, BUNDLE, READY, LOAD_FAILED, LEAVING,
RENEW, BATCH and UNHEALTHY go. Each server that keeps the same records has one for each worker that is ready, for
everything else. Tokens are those of `openlaunch.nodes.slots`.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import Any, Final, Protocol, cast

from openlaunch_worker.frames import Body, FrameError, FrameParser, encode

VERSION: Final = 3
OLDEST: Final = 3
"""The oldest version that is spoken, too: while servers and agents are replaced one by one, two versions meet.

Without raising either, a field or a call may be added that the other end can do without.
"""
BEAT_SECONDS: Final = 0.5
DEAD_SECONDS: Final = 2.0
"""A peer that was not heard of for this long is dead, or cut off."""

PIECE_BYTES: Final = 64 * 1024
"""Limit on one DATA frame: a large body does not hold up what comes behind it on other channels."""

TOKENS: Final = Struct("<I")
MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
MAX_HELLO_BYTES: Final = 4096
"""Limit on what is kept of those who have not proved yet that they are servers."""

MAX_KEEP_BYTES: Final = 4096
"""Limit on a KEEP: an agent has thousands of them."""

MAX_CHANNELS: Final = 100_000

log = logging.getLogger(__name__)


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    BEAT = 4
    CALL = 5
    RETURN = 6
    FAILED = 7
    EVENT = 8
    OPEN = 9
    DATA = 10
    CLOSE = 11
    PAUSE = 12
    RESUME = 13
    DRAIN = 14
    WANT = 15
    GRANT = 16
    TAKE = 17
    RECALL = 18
    GIVE = 19
    KEEP = 20


_LIMITS: Final[dict[int, int]] = {
    Kind.DATA: 2 * PIECE_BYTES,
    Kind.HELLO: MAX_HELLO_BYTES,
    Kind.KEEP: MAX_KEEP_BYTES,
    Kind.BEAT: 0,
}


class ChannelEnd(Protocol):
    """One end of a worker's connection that goes over the link."""

    def receive(self, data: bytes) -> None:
        """Take bytes that have come."""

    def closed(self) -> None:
        """Note that the channel is closed, by the other end, or because the link is lost."""

    def pause(self) -> None:
        """Send nothing until `resume`: the other end does not read as fast."""

    def resume(self) -> None:
        """Send again."""


class NodeLink(asyncio.Protocol):
    """One end of the connection. A subclass handles what only its side is sent."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        """Names the other end, for messages."""
        self.lost_because = ""
        self.version = VERSION
        """The version that both ends speak."""
        self.channels: dict[int, ChannelEnd] = {}
        self._parser = FrameParser(self._check_head)
        self._loop = asyncio.get_running_loop()
        self._handlers: dict[int, Callable[[int, Body], None]] = {}
        self._heard_at = self._beat_at = self._loop.time()
        self._is_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has another base class
        self._beating = self._loop.call_later(BEAT_SECONDS, self._beat)
        self._heard_at = self._beat_at = self._loop.time()

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            for kind, number, payload in self._parser.feed(data):
                if kind == Kind.DATA:
                    if (channel := self.channels.get(number)) is not None:  # else it was closed here
                        channel.receive(cast("bytes", payload))
                elif kind in self._handlers:
                    self._handlers[kind](number, payload)
                elif kind != Kind.BEAT:
                    raise _unknown(kind)
        except FrameError as error:
            self.lose(f"broke the protocol: {error}")

    def _check_head(self, kind: int, number: int, length: int) -> None:
        """Refuse a frame by its head, before the rest of it is kept."""
        if kind not in self._handlers and kind not in (Kind.DATA, Kind.BEAT):
            raise _unknown(kind)
        limit = _LIMITS.get(kind, MAX_DOCUMENT_BYTES)
        if length > limit:
            raise FrameError(f"a frame {Kind(kind).name} of {length} bytes, over the limit of {limit} bytes")

    def handle(self, kind: Kind, handler: Callable[[int, Body], None]) -> None:
        """Take frames of this kind from now on."""
        self._handlers[kind] = handler

    def handle_channels(self) -> None:
        """Take what channels need from now on."""
        self.handle(Kind.CLOSE, self._on_close)
        self.handle(Kind.PAUSE, lambda number, _: self._tell(number, lambda channel: channel.pause()))
        self.handle(Kind.RESUME, lambda number, _: self._tell(number, lambda channel: channel.resume()))

    def _tell(self, number: int, call: Callable[[ChannelEnd], None]) -> None:
        if (channel := self.channels.get(number)) is not None:
            call(channel)

    def _on_close(self, number: int, payload: Body) -> None:
        if (channel := self.channels.pop(number, None)) is not None:
            channel.closed()

    def send(self, kind: Kind, number: int = 0, payload: bytes = b"") -> None:
        if not self._transport.is_closing():
            self._transport.write(encode(kind, number, payload))

    def send_document(self, kind: Kind, number: int, document: dict[str, Any]) -> None:
        self.send(kind, number, json.dumps(document).encode())

    def send_data(self, number: int, data: bytes | bytearray | memoryview) -> None:
        """Send bytes over a channel."""
        if len(data) <= PIECE_BYTES:
            self.send(Kind.DATA, number, bytes(data))
            return
        with memoryview(data) as view:
            for start in range(0, len(view), PIECE_BYTES):
                self.send(Kind.DATA, number, bytes(view[start : start + PIECE_BYTES]))

    def take_channels(self) -> dict[int, ChannelEnd]:
        """Return the channels, which are this link's no longer."""
        channels, self.channels = self.channels, {}
        return channels

    def close_channel(self, number: int) -> None:
        """Close a channel at this end; the other end hears of it."""
        if self.channels.pop(number, None) is not None:
            self.send(Kind.CLOSE, number)

    @property
    def unsent(self) -> int:
        """Bytes that are written and not sent."""
        return self._transport.get_write_buffer_size()

    def _beat(self) -> None:
        now = self._loop.time()
        was_held_up = now - self._beat_at > 2 * BEAT_SECONDS  # this process, so what has come is not read yet
        if was_held_up:
            self._heard_at = now
        elif now - self._heard_at > DEAD_SECONDS:
            self.lose(f"was not heard of for {now - self._heard_at:.1f} s")
            return
        self._beat_at = now
        self.send(Kind.BEAT)
        self._beating = self._loop.call_later(BEAT_SECONDS, self._beat)

    def lose(self, reason: str) -> None:
        """Close the connection at once; `reason` says why, as "was not heard of for 2 s"."""
        self.lost_because = self.lost_because or reason
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._beating.cancel()
        self.lost_because = self.lost_because or "closed the connection"
        for channel in self.take_channels().values():
            channel.closed()

    def pause_writing(self) -> None:
        self._is_full = True
        for channel in list(self.channels.values()):
            channel.pause()

    def resume_writing(self) -> None:
        self._is_full = False
        for channel in list(self.channels.values()):
            channel.resume()


def _unknown(kind: int) -> FrameError:
    return FrameError(f"a frame of the kind {kind}, which does not belong there")


def agreed(newest: object, oldest: object) -> int:
    """Return the newest version that this end and another one speak, which says of itself what it speaks.

    Raises:
        FrameError: there is none.
    """
    if isinstance(newest, int) and isinstance(oldest, int) and oldest <= VERSION and newest >= OLDEST:
        return min(newest, VERSION)
    raise FrameError(f"speaks {_versions(oldest, newest)} of the protocol")


def own_versions() -> str:
    """Return the versions that this end speaks, in words."""
    return _versions(OLDEST, VERSION)


def _versions(oldest: object, newest: object) -> str:
    return f"version {newest}" if oldest == newest else f"versions {oldest} to {newest}"


def read_tokens(payload: Body) -> int:
    """Return a number of tokens; raise `FrameError` for anything else."""
    if len(payload) != TOKENS.size:
        raise FrameError("a number of tokens that is not one")
    return int(TOKENS.unpack(payload)[0])


def read_document(payload: Body) -> dict[str, Any]:
    """Return a JSON object; raise `FrameError` for anything else."""
    try:
        document = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a document that is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise FrameError("a document that is not an object")
    return document

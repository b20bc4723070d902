"""Comments in streams that are silent, so that nothing on the way takes their connections for dead."""

import asyncio
from typing import Protocol

from openlaunch.wire.sse import BEAT

TICK_SECONDS = 0.1
HEAD_TICKS = 2
"""Ticks without an item after which a stream that runs in a worker sends the head of its answer."""

SILENT_TICKS = 100
"""Ticks without a byte after which a stream sends a comment, whether it runs or waits."""

BEAT_TICKS = 10
"""Ticks without a byte after which a stream that can be resumed sends a comment.

Without one, its client takes this server for one that stands still, and moves to another.
"""

BEATING = {BEAT: f"{BEAT_TICKS * TICK_SECONDS:g}"}
"""Says so in the answer's head."""

HEARTBEAT = b":\n\n"


class Beating(Protocol):
    """A stream that may be silent."""

    def tick(self) -> bool:
        """Count a tick, and send what is due; return False once the stream has ended."""
        ...


class Heartbeats:
    """One timer for all streams: most of them end, or have their first item, before it has looked at them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._streams: list[Beating] = []
        self._ticks = False

    def add(self, stream: Beating) -> None:
        """Look after a stream until its end."""
        self._streams.append(stream)
        if not self._ticks:
            self._ticks = True
            self._loop.call_later(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        streams, self._streams = self._streams, []
        self._streams += [stream for stream in streams if stream.tick()]
        self._ticks = bool(self._streams)
        if self._ticks:
            self._loop.call_later(TICK_SECONDS, self._tick)

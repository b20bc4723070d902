r"""Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), without I/O.

A stream's items are events without a name, `data: {"status": "SUCCESS", …}`, which is all that old clients
read. It ends with an item whose status is FAILURE, or with its end, by which a reader knows that nothing was cut off.
To a request with the header `Openlaunch-Resume` that is the event `end`. To others it is the comment `: end`: readers
take what each event has as an item, and none shows a comment.
"""

from collections.abc import Iterator
from dataclasses import dataclass

END_EVENT = b"event: end\ndata: {}\n\n"
END_COMMENT = b": end\n\n"
_END = END_COMMENT.decode().strip()
RESUME = "openlaunch-resume"
"""The header that asks for a stream that can be resumed: `true`."""

LAST_EVENT_ID = "last-event-id"
"""The header that names an event: a request is to be resumed after it, and an answer begins after it."""

BEAT = "openlaunch-beat"
"""The header of an answer that can be resumed which says after how many seconds without an event a comment comes.

A reader that has nothing for longer resumes the stream on another connection: the server stands still.
"""

MAX_EVENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `name` is "message" where the stream named none; one with a name may be without data."""

    data: str
    name: str = "message"
    id: str | None = None


class SSEParser:
    """Feeds on bytes as they come off the network, and gives whole events."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._data: list[str] = []
        self._size = 0
        self._name = ""
        self._id: str | None = None

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield every event that is complete with this chunk.

        Raises:
            ValueError: an event is larger than the bound.
        """
        self._buffer += chunk
        while (end := self._buffer.find(b"\n", self._scanned)) >= 0:
            self._check(end)
            line = self._buffer[:end].decode("utf-8", "replace").removesuffix("\r")
            del self._buffer[: end + 1]
            self._scanned = 0
            event = self._line(line)
            if event is not None:
                yield event
        self._scanned = len(self._buffer)
        self._check(len(self._buffer))

    def _check(self, more: int) -> None:
        if self._size + more > self._max:
            raise ValueError(f"an event of the stream is larger than {self._max} bytes")

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._dispatch()
        if line == _END and not self._data:
            self._name = "end"
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._size += len(value) + 1  # the line break counts: empty lines take memory too
            self._check(0)
            self._data.append(value)
        elif field == "event":
            self._name = value
        elif field == "id":
            self._id = value
        return None

    def _dispatch(self) -> Event | None:
        data, name = self._data, self._name
        self._data, self._name, self._size = [], "", 0
        if not data and not name:
            return None
        return Event("\n".join(data), name or "message", self._id)

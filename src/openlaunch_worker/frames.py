r"""The protocol between the server and a worker, without I/O.

One stream socket carries frames both ways, many requests at a time::

    u32 length of the payload | u32 request id | u8 kind | payload          (little-endian, 9 bytes of header)

A worker connects, says HELLO with its token, gets START and its bundle, loads it, says READY, and serves::

    worker → server                                server → worker
    HELLO        JSON {"token", "pid"}             START   JSON, `openlaunch_worker.documents.Start`
    READY        JSON {"python", "generator"}      BUNDLE  a piece of the bundle's bytes; an empty one ends it
    LOAD_FAILED  JSON {"reason", "traceback"}      REQUEST u16 flags, f64 seconds left (0: no bound), the JSON body
    RESULT       u8 outcome, finished bytes        CANCEL  nobody wants the request's answer
    CHUNK        finished bytes of a stream        CREDIT  u32: a number of bytes of CHUNKs that were passed on
    END          u8 outcome, last bytes            DRAIN   nothing more comes: finish what runs, exit 0
    HEAD         JSON {"status", "headers"}: of the answer of a bundle's HTTP server, before its CHUNKs
    HEARD        the request's CANCEL has come
    LEAVING      once: send a DRAIN; why, as text
    RENEW        replace this worker when another can serve; why, as text
    BATCH        u32: how many requests a batch had, which has ended
    UNHEALTHY    once: as LEAVING, because the bundle's health_fn says no
    ASLEEP       the bundle's server sleeps; if it does not, why, as text
                                                   SLEEP   put the bundle's server to sleep; nothing runs
    AWAKE        it is awake again, likewise       WAKE    wake it up
    WANTS_CONTEXT  before READY: each REQUEST is
                 to have a CONTEXT before it       CONTEXT  JSON, `documents.About`: about the next REQUEST
    PROGRESS     JSON {"fraction", "text"}: how far a request is, whose CONTEXT says that this is heard
    PARTIAL      a value in JSON, which the same kind of request has before its answer

Each REQUEST is answered by exactly one RESULT (without `STREAM` in its flags) or one END (with it), also after
a CANCEL: the answer is what frees the slot. Each CANCEL is answered by a HEARD at once, even if the request has
ended. Request id 0 is for frames that belong to no request.
A stream may have `STREAM_WINDOW` bytes of CHUNKs under way; past it the worker waits for CREDIT, which is how
a slow reader slows the generator down. With `RAW` in the flags, each CHUNK counts as `MIN_CHUNK_BYTES` at least.
"""

from collections.abc import Callable, Iterator
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final, TypeAlias

HEADER: Final = Struct("<IIB")
REQUEST_HEAD: Final = Struct("<Hd")
_WHOLE_HEAD: Final = Struct("<IIBHd")
CREDIT_BODY: Final = Struct("<I")
MAX_PAYLOAD: Final = 1 << 30
STREAM_WINDOW: Final = 256 * 1024
MIN_CHUNK_BYTES: Final = 64
"""What a CHUNK takes at least of its credit: each costs time, and no event of an item is that small."""
BUNDLE_PIECE: Final = 1 << 20
COPY_BYTES: Final = 64 * 1024
"""From this size on, a copy costs more than what spares it."""

LARGE_BYTES: Final = 256 * 1024
"""From this size on, what comes in parts is passed on in the buffer into which it came, without a copy."""

SEAT_IDS: Final = 1 << 24
"""How many ids of a worker's requests belong to one server, where several use the worker."""

Body: TypeAlias = bytes | bytearray
"""The bytes of an input or a result; large ones are in the buffer into which they came.

None is a memoryview: until Python 3.12.6, collecting a cycle of references crashes the process where something in C
still reads through a memoryview of the cycle, such as a write of uvloop's.
"""


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1
    READY = 2
    LOAD_FAILED = 3
    RESULT = 4
    CHUNK = 5
    END = 6
    HEAD = 7
    HEARD = 8
    LEAVING = 9
    RENEW = 10
    WANTS_CONTEXT = 11
    PROGRESS = 12
    PARTIAL = 13
    BATCH = 14
    UNHEALTHY = 15
    ASLEEP = 23
    AWAKE = 24
    START = 16
    BUNDLE = 17
    REQUEST = 18
    CANCEL = 19
    CREDIT = 20
    DRAIN = 21
    CONTEXT = 22
    SLEEP = 25
    WAKE = 26


class Flags(IntFlag):
    """How a request wants its answer.

    FOREIGN: the caller does not own the endpoint, and must not see where in the model an exception was raised.
    RAW: the args go to the bundle's HTTP server as they are, and its answer comes back as it is.
    PARTS: the body is bytes with a document behind them, as `with_parts` has it.
    BINARY: bytes, files and images may be answered as they are; NPY: arrays, too; ARROW: tables, too.
    MULTIPART: several values may be answered as parts.
    IN_PARTS: what is bytes in a value may stand in front of its JSON.
    """

    NONE = 0
    STREAM = 1
    PICKLED = 2
    FOREIGN = 4
    RAW = 8
    PARTS = 16
    BINARY = 32
    NPY = 64
    ARROW = 128
    MULTIPART = 256
    IN_PARTS = 512
    ACCEPTS = BINARY | NPY | ARROW | MULTIPART | IN_PARTS


class Outcome(IntEnum):
    """How a request ended.

    SUCCESS: the finished JSON body. FAILURE: the same, with status FAILURE. PICKLED: the pickled return value,
    for the gateway to store. CANCELLED: no bytes that matter. BINARY: bytes as they are, their media type, and a byte
    with the length of that. UNSERVED: nothing ran, because the bundle's own server is gone; another worker can.
    """

    SUCCESS = 0
    FAILURE = 1
    PICKLED = 2
    CANCELLED = 3
    BINARY = 4
    UNSERVED = 5


class FrameError(ValueError):
    """The peer sent bytes that are not a frame, which makes the connection useless."""


def encode(kind: int, request_id: int, payload: bytes = b"") -> bytes:
    """Return one frame as bytes. Raise `FrameError` if the payload is larger than `MAX_PAYLOAD`."""
    if len(payload) > MAX_PAYLOAD:
        raise FrameError(f"a payload of {len(payload)} bytes is over the limit of {MAX_PAYLOAD} bytes")
    return HEADER.pack(len(payload), request_id, kind) + payload


def request_head(request_id: int, flags: int, seconds: float, size: int) -> bytes:
    """Return what precedes a body of `size` bytes, which spares a copy. Raise `FrameError` if it is too large."""
    length = REQUEST_HEAD.size + size
    if length > MAX_PAYLOAD:
        raise FrameError(f"a payload of {length} bytes is over the limit of {MAX_PAYLOAD} bytes")
    return _WHOLE_HEAD.pack(length, request_id, Kind.REQUEST, flags, seconds)


def with_parts(body: Body, document: bytes) -> Body:
    """Return a body with a document behind it that says what is where in it; a large body is changed in its place."""
    if isinstance(body, bytearray):
        body += end_of_parts(document)
        return body
    return b"%b%b" % (body, end_of_parts(document))


def end_of_parts(document: bytes) -> bytes:
    """Return what `with_parts` puts behind a body."""
    return document + CREDIT_BODY.pack(len(document))


def document_behind(body: bytes | memoryview) -> bytes | memoryview:
    """Return the document that `with_parts` has put behind a body. Raise ValueError if there is none."""
    end = len(body) - CREDIT_BODY.size
    if end < 0 or (start := end - CREDIT_BODY.unpack(body[end:])[0]) < 0:
        raise ValueError("it is cut off")
    return body[start:end]


def check_size(kind: int, request_id: int, length: int) -> None:
    """Raise `FrameError` if the header announces more than `MAX_PAYLOAD`."""
    if length > MAX_PAYLOAD:
        raise FrameError(f"a frame of {length} bytes is over the limit of {MAX_PAYLOAD} bytes")


def _new_buffer(kind: int, request_id: int, length: int) -> bytearray:
    return bytearray()


class FrameParser:
    """Feeds on bytes as they come off the socket, and gives whole frames.

    `check_head` is called with a header's kind, request id and length before more of the frame is kept, and raises
    `FrameError` to refuse it. Frames that have come whole and are smaller than `COPY_BYTES` pass without it.
    `new_buffer` is called with the same where a frame of `LARGE_BYTES` or more has begun to come, for its payload.
    """

    def __init__(
        self,
        check_head: Callable[[int, int, int], None] = check_size,
        new_buffer: Callable[[int, int, int], bytearray] = _new_buffer,
    ) -> None:
        self._check_head = check_head
        self._new_buffer = new_buffer
        self._buffer = bytearray()
        self._large: LargeFrame | None = None

    def feed(self, data: bytes) -> Iterator[tuple[int, int, Body]]:
        """Yield each complete frame: kind, request id, payload. Raise `FrameError` if a header is refused."""
        buffer, large = self._buffer, self._large
        if large is not None:
            data = large.take(data)
        source: bytes | bytearray = data
        if buffer:
            buffer += data
            source = buffer
        position, size = 0, len(source)
        header = HEADER.size
        try:
            if large is not None:
                if large.missing:
                    return
                self._large = None
                yield large.frame()
                large = None  # this does not hold its memory while the rest is taken apart
            while size - position >= header:
                length, request_id, kind = HEADER.unpack_from(source, position)
                end = position + header + length
                if end > size or length >= COPY_BYTES:
                    self._check_head(kind, request_id, length)
                if end > size:
                    if length >= LARGE_BYTES:
                        payload = self._new_buffer(kind, request_id, length)
                        self._large = LargeFrame(kind, request_id, length, payload)
                        self._large.take(bytes(source[position + header :]))
                        position = size
                    break
                if length < COPY_BYTES:
                    whole = bytes(source[position + header : end])  # of bytes no copy
                else:
                    with memoryview(source) as view:
                        whole = bytes(view[position + header : end])
                position = end
                yield kind, request_id, whole
        finally:
            if source is buffer:
                del buffer[:position]
            else:
                buffer += source[position:]

    def replace_large(self, payload: bytes) -> None:
        """Give this in place of the large frame that is coming, whose bytes are not kept."""
        if self._large is not None:
            self._large.replace(payload)


class LargeFrame:
    """A large frame, of which a part has come."""

    def __init__(self, kind: int, request_id: int, length: int, payload: bytearray) -> None:
        self.missing = length
        """How many bytes have still to come."""
        self._kind = kind
        self._request_id = request_id
        self._payload: bytearray | None = payload
        self._replacement = b""

    def take(self, data: bytes) -> bytes:
        """Take what belongs to the frame, and return what is behind it."""
        part = data[: self.missing]
        if self._payload is not None:
            self._payload += part
        self.missing -= len(part)
        return data[len(part) :]

    def replace(self, payload: bytes) -> None:
        """Keep nothing of what has come, and of what will."""
        self._replacement, self._payload = payload, None

    def frame(self) -> tuple[int, int, Body]:
        """Return the kind, the request id and the payload of the frame, all of which has come."""
        payload = self._replacement if self._payload is None else self._payload
        return self._kind, self._request_id, payload

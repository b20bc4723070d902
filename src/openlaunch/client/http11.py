"""HTTP/1.1 without I/O: as much as a client of one server needs to send a request and to read its answer."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_LINE_BYTES = 1024
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REFUSED = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_OWN = ("connection", "content-length", "host", "transfer-encoding")


class HTTPError(ValueError):
    """The peer sent bytes that are not HTTP/1.1; close the connection."""


class UnusableAnswer(ValueError):
    """The answer is whole, and not one that an Openlaunch server gives to such a request."""


class Framing(Enum):
    """How the end of a body is known."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Head:
    """Status line and headers of an answer; names in lower case, repeated ones joined by a comma."""

    status: int
    headers: Mapping[str, str]
    framing: Framing
    length: int
    keep_alive: bool


def header_block(headers: Mapping[str, str]) -> bytes:
    """Encode headers; those that are the same for every request are encoded once.

    Raises what `check_value` does.
    """
    for name, value in headers.items():
        check_value(f"the header {name!r}", value)
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def check_value(what: str, value: object) -> None:
    """Check that a text can be the value of a header; errors call it `what`.

    Raises:
        TypeError: it is not text.
        ValueError: it has a character that no header can have.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is {type(value).__name__}, a str is needed")
    if refused := _REFUSED.search(value):
        raise ValueError(
            f"{what} has {refused[0]!r} at position {refused.start()}: a header can have no line breaks or control "
            "characters, and characters up to U+00FF; write others in ASCII, such as by urllib.parse.quote"
        )


def check_name(name: object) -> None:
    """Check that a caller's header may have this name.

    Raises:
        TypeError: it is not text.
        ValueError: it is not a header's name, or one of the client's own headers.
    """
    if not isinstance(name, str):
        raise TypeError(f"the header {name!r} has a name that is {type(name).__name__}, a str is needed")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"the header {name!r} has a name with other characters than letters, digits and !#$%&'*+-.^_`|~"
        )
    if name.lower() in _OWN:
        raise ValueError(f"the header {name!r} is the client's own: leave it out")


def request_head(method: str, path: str, block: bytes, length: int) -> bytes:
    """Encode request line and headers, to be followed by a body of `length` bytes."""
    return b"%s %s HTTP/1.1\r\n%scontent-length: %d\r\n\r\n" % (method.encode(), path.encode(), block, length)


def parse_head(data: bytes) -> Head:
    """Read the head of an answer, with or without the empty line that ends it.

    Raises HTTPError when it is not the head of an HTTP/1.1 or 1.0 answer.
    """
    first, *lines = data.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or len(code) != 3 or not code.isdigit():
        raise HTTPError(f"the answer begins with {first[:80]!r}, which is not HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise HTTPError(f"the answer has a header line without a colon: {name[:80]!r}")
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return _framed(int(code), headers, version)


def _framed(status: int, headers: dict[str, str], version: str) -> Head:
    connection = headers.get("connection", "").lower()
    keep_alive = "close" not in connection and (version == "HTTP/1.1" or "keep-alive" in connection)
    if status < 200 or status in (204, 304):
        return Head(status, headers, Framing.LENGTH, 0, keep_alive)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return Head(status, headers, Framing.CHUNKED, 0, keep_alive)
    length = headers.get("content-length")
    if length is None:
        return Head(status, headers, Framing.CLOSE, 0, keep_alive=False)
    if not length.isdecimal():
        raise HTTPError(f"the answer has a content-length of {length[:80]!r}")
    return Head(status, headers, Framing.LENGTH, int(length), keep_alive)


def chunk_size(line: bytes) -> int:
    """Read the size from the line before a chunk; 0 is the last chunk.

    Raises HTTPError when it is not a size, or the connection ended in it.
    """
    digits = line.split(b";", 1)[0].strip()
    if not line.endswith(b"\n") or not digits or digits.strip(b"0123456789abcdefABCDEF"):
        raise HTTPError(f"the answer has a chunk size of {line[:80]!r}")
    return int(digits, 16)


class Incoming:
    """One answer as it comes: `feed` it what was received.

    Attributes:
        head: None until all of it has come.
        ended: whether the whole body has come.
        reusable: whether the connection can take another request; known at the end.
    """

    __slots__ = ("_held", "_left", "_trailers", "ended", "head", "reusable")

    def __init__(self) -> None:
        self.head: Head | None = None
        self.ended = False
        self.reusable = False
        self._held = b""
        self._left = 0
        self._trailers = False

    def feed(self, data: bytes) -> bytes:
        """Take what was received, or nothing where the connection was closed; give the bytes of the body in it.

        Raises:
            HTTPError: it is not HTTP/1.1.
            ConnectionResetError: the connection was closed before the end of the answer.
        """
        if not data:
            return self._closed()
        if self._held:
            data, self._held = self._held + data, b""
        if self.head is None:
            data = self._after_head(data)
        if self.head is None:
            return b""
        if self.head.framing is Framing.LENGTH:
            return self._counted(data, self.head)
        return b"".join(self._chunks(data, self.head)) if self.head.framing is Framing.CHUNKED else data

    def _after_head(self, data: bytes) -> bytes:
        while self.head is None:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._hold(data, MAX_HEAD_BYTES, "headers are")
                return b""
            head = parse_head(data[:end])
            data = data[end + 4 :]
            if head.status >= 200:  # those below announce that the answer is still to come
                self.head = head
                self._left = head.length
        return data

    def _counted(self, data: bytes, head: Head) -> bytes:
        piece = data[: self._left]
        self._left -= len(piece)
        if not self._left:
            self._end(head, extra=len(data) > len(piece))
        return piece

    def _chunks(self, data: bytes, head: Head) -> Iterator[bytes]:
        at = 0
        while at < len(data) and not self.ended:
            if self._left:  # of a chunk and the line end after it
                end = at + self._left
                yield data[at : max(at, end - 2)]
                self._left = max(end - len(data), 0)
                at = min(end, len(data))
            elif end := data.find(b"\n", at) + 1:
                self._chunk_line(data[at:end], head, extra=end < len(data))
                at = end
            else:
                self._hold(data[at:], MAX_CHUNK_LINE_BYTES, "chunk line is")
                return

    def _chunk_line(self, line: bytes, head: Head, *, extra: bool) -> None:
        if self._trailers:
            if line in (b"\r\n", b"\n"):
                self._end(head, extra=extra)
        elif size := chunk_size(line):
            self._left = size + 2
        else:
            self._trailers = True

    def _hold(self, data: bytes, limit: int, what: str) -> None:
        if len(data) > limit:
            raise HTTPError(f"the answer's {what} larger than {limit} bytes")
        self._held = data

    def _end(self, head: Head, *, extra: bool) -> None:
        self.ended = True
        # Bytes that nobody asked for would be taken for the next answer.
        self.reusable = head.keep_alive and not extra

    def _closed(self) -> bytes:
        if self.head is None:
            where = "within an answer's headers" if self._held else "without an answer"
            raise ConnectionResetError(f"it was closed {where}")
        if self.head.framing is not Framing.CLOSE and not self._trailers:
            raise ConnectionResetError("it was closed before the end of the answer's body")
        self.ended = True
        return b""

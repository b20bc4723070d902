"""HTTP/1.1 without I/O: as much as a client of one server needs to send a request and to read its answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

MAX_HEAD_BYTES = 64 * 1024
MAX_CHUNK_LINE_BYTES = 1024
_FORBIDDEN = ("\r", "\n", "\0")


class HTTPError(ValueError):
    """The peer sent bytes that are no HTTP/1.1; the connection can't be used any more."""


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
    """Headers as bytes; what is the same for every request is made once.

    Raises:
        ValueError: a header has a line break in it.

    """
    for name, value in headers.items():
        if any(c in name or c in value for c in _FORBIDDEN):
            raise ValueError(f"the header {name!r} has a line break or a NUL in it")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")


def request_head(method: str, path: str, block: bytes, length: int) -> bytes:
    """Request line and headers, ready to be followed by a body of `length` bytes."""
    return b"%s %s HTTP/1.1\r\n%scontent-length: %d\r\n\r\n" % (method.encode(), path.encode(), block, length)


def parse_head(data: bytes) -> Head:
    """Read the head of an answer, with or without the empty line that ends it.

    Raises:
        HTTPError: it is no head of an HTTP/1.1 or 1.0 answer.

    """
    first, *lines = data.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or len(code) != 3 or not code.isdigit():
        raise HTTPError(f"the answer begins with {first[:80]!r}, which is no HTTP/1.1")
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
    """The size that the line before a chunk announces; 0 is the last chunk.

    Raises:
        HTTPError: it is no size, or the connection ended in it.

    """
    digits = line.split(b";", 1)[0].strip()
    if not line.endswith(b"\n") or not digits or digits.strip(b"0123456789abcdefABCDEF"):
        raise HTTPError(f"the answer has a chunk size of {line[:80]!r}")
    return int(digits, 16)

"""Takes the bytes of HTTP/1.1 requests apart, without I/O: heads, and the framing of bodies.

llhttp reads the head, and nothing but the head: each has a parser of its own, so that no body, trailer or upgrade of
one request can change how another is read. Where a body ends is decided here. Whatever two servers could read
differently is refused.
"""

import re
from collections.abc import Sequence

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from openlaunch.errors import BadRequest, HeadTooLarge, NotServed
from openlaunch_worker.files import PARTS

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 100
"""A request whose head has more bytes, or more headers, is refused with 431."""

MAX_CHUNK_LINE_BYTES = 4096
MAX_TRAILER_BYTES = 8192
"""Limits of the line before a chunk, and of all that follows the last chunk."""

FREE_FRAMING_BYTES = 16 * 1024
"""Framing that a chunked body may have beyond as much as it has data: tiny chunks cost far more than they bring."""

_PARTS = PARTS.encode()

END_OF_HEAD = b"\r\n\r\n"
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
"""The methods that some path takes, or may take; a request with another one is refused with 501."""

_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} ")
_VERSIONS = ("1.1", "1.0")
_CHUNK_LINE = re.compile(rb"([0-9a-fA-F]{1,16})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\Z")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\Z")
_ABSOLUTE = re.compile(rb"(?i:https?)://[^/?#]+")


class Head:
    """The head of a request. It is never changed, because a connection uses it again for one with the same bytes.

    Raises:
        BadRequest: it is not HTTP/1.1 (or 1.0), or can be read in two ways.
        HeadTooLarge: it has more than `MAX_HEADERS` headers.
        NotServed: no path takes its method.
    """

    __slots__ = (
        "_headers",
        "accept",
        "chunked",
        "data",
        "expects_continue",
        "headers",
        "is_1_1",
        "keep_alive",
        "length",
        "method",
        "origin",
        "path",
        "query",
        "reads_parts",
        "url",
    )

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = bytes(data)
        self.url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self.chunked = False
        self.length = 0
        """Bytes of the body, where it is not chunked."""
        self.expects_continue = False
        self.accept: bytes | None = None
        """The types that the client reads, as all of its Accept headers name them."""
        self.reads_parts = False
        """Whether they have the one of our client."""
        self.origin: bytes | None = None
        """The origin of the page that has a browser send this."""
        parser = HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # an upgrade may be ignored, and is: the request is answered as HTTP/1.1
        except HttpParserInvalidMethodError as error:
            if _METHOD.match(data):
                raise _unknown_method(data) from None
            raise _invalid(str(error)) from None
        except HttpParserError as error:
            raise _invalid(str(error)) from None
        if (version := parser.get_http_version()) not in _VERSIONS:
            raise _invalid(f"HTTP/{version} is not served, HTTP/1.1 is")
        self.method: bytes = parser.get_method()
        self.is_1_1 = version == "1.1"
        self.keep_alive = self.is_1_1
        self.headers: Sequence[tuple[bytes, bytes]] = tuple(self._headers)
        self._read_headers()
        self._split_url()
        if self.method not in METHODS:
            raise _unknown_method(data)

    def on_url(self, url: bytes) -> None:
        """Keep the target; called by the parser."""
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep one header; called by the parser."""
        self._headers.append((name.lower(), value))

    def _read_headers(self) -> None:
        if len(self.headers) > MAX_HEADERS:
            raise _too_large()
        hosts = lengths = codings = 0
        for name, value in self.headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                lengths += 1
                if not value.isdigit() or len(value) > 18:
                    raise _invalid("the Content-Length is not a number of bytes")
                self.length = int(value)
            elif name == b"transfer-encoding":
                codings += 1
                self.chunked = value.lower() == b"chunked"
            elif name == b"connection":
                if b"close" in [token.strip() for token in value.lower().split(b",")]:
                    self.keep_alive = False
            elif name == b"expect":
                self.expects_continue = value.lower() == b"100-continue"
            elif name == b"accept":
                self.accept = value if self.accept is None else self.accept + b"," + value
                self.reads_parts = _PARTS in self.accept
            elif name == b"origin":
                self.origin = value
        self._check_framing(hosts, lengths, codings)

    def _check_framing(self, hosts: int, lengths: int, codings: int) -> None:
        if hosts > 1 or (self.is_1_1 and not hosts):
            raise _invalid("exactly one Host header is needed")
        if codings and not (self.chunked and self.is_1_1 and codings == 1):
            raise _invalid("the only Transfer-Encoding that is served is chunked, in HTTP/1.1")
        if lengths + codings > 1:
            raise _invalid("the length of the body is given more than once")

    def _split_url(self) -> None:
        target = self.url
        if not target.startswith(b"/") and target != b"*":
            absolute = _ABSOLUTE.match(target)
            if absolute is None:
                raise _invalid("the target is neither a path nor an http:// URL")
            target = target[absolute.end() :]
            if not target.startswith(b"/"):
                target = b"/" + target
        if not target.isascii():
            raise _invalid("the target has characters that have to be escaped")
        self.path, _, self.query = target.partition(b"?")


class LengthDecoder:
    """Takes a body of a known length off what comes."""

    __slots__ = ("_left", "rest")

    def __init__(self, length: int) -> None:
        self._left = length
        self.rest = b""
        """What came behind the body."""

    @property
    def ended(self) -> bool:
        """Whether the body has come whole."""
        return not self._left

    def decode(self, data: bytes) -> bytes:
        """Return what belongs to the body."""
        piece = data[: self._left]
        self._left -= len(piece)
        self.rest = data[len(piece) :]
        return piece


class ChunkDecoder:
    """Takes the framing off a chunked body. Trailers are checked, counted and dropped: they never become headers."""

    __slots__ = ("_framing", "_in_trailer", "_left", "_size", "_trailer", "ended", "rest")

    def __init__(self) -> None:
        self.ended = False
        self.rest = bytearray()
        """What came behind the body; until it has ended, a part of its framing."""
        self._left = 0  # of the chunk that has begun, with the line break after it
        self._size = 0
        self._framing = 0
        self._in_trailer = False
        self._trailer = 0

    def decode(self, data: bytes) -> bytes:
        """Return the data of the body in what has come.

        Raises:
            BadRequest: the framing is wrong, or larger than it may be.
        """
        buffer = self.rest
        buffer += data
        pieces: list[bytes] = []
        while not self.ended:
            if self._left:
                if not self._take_data(buffer, pieces):
                    break
            elif not self._take_line(buffer):
                break
        return b"".join(pieces)

    def _take_data(self, buffer: bytearray, pieces: list[bytes]) -> bool:
        """Return whether the chunk has come whole, with the line break after it."""
        data = min(self._left - 2, len(buffer))
        if data > 0:
            pieces.append(bytes(buffer[:data]))
            del buffer[:data]
            self._left -= data
            self._size += data
        if self._left > 2 or len(buffer) < 2:
            return False
        if buffer[:2] != b"\r\n":
            raise _invalid("a chunk is longer than it says")
        del buffer[:2]
        self._left = 0
        return True

    def _take_line(self, buffer: bytearray) -> bool:
        """Return whether a line was there: the size of a chunk, or a trailer."""
        end = buffer.find(b"\r\n", 0, MAX_CHUNK_LINE_BYTES)
        if end < 0:
            if len(buffer) >= MAX_CHUNK_LINE_BYTES or (buffer.find(b"\n") >= 0):
                raise _invalid("a line of the chunked body is too long, or ends in a bare line feed")
            return False
        line = bytes(buffer[:end])
        del buffer[: end + 2]
        if self._in_trailer:
            self._end_or_trailer(line)
        else:
            self._begin_chunk(line)
        return True

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_LINE.match(line)
        if match is None:
            raise _invalid("the size of a chunk is not a hexadecimal number")
        self._framing += len(line) + 4
        if self._framing > FREE_FRAMING_BYTES + self._size:
            raise _invalid("the chunks are too small: their framing is larger than their data")
        size = int(match[1], 16)
        self._in_trailer = size == 0
        self._left = size + 2 if size else 0

    def _end_or_trailer(self, line: bytes) -> None:
        self._trailer += len(line)
        if not line:
            self.ended = True
        elif self._trailer > MAX_TRAILER_BYTES or not _TRAILER_LINE.match(line):
            raise _invalid(f"the trailers are malformed, or larger than {MAX_TRAILER_BYTES} bytes")


def check_part_of_head(data: bytes | bytearray) -> None:
    """See to it that a whole head can come of this part of one.

    Raises:
        BadRequest: it can't.
        HeadTooLarge: it has reached `MAX_HEAD_BYTES`.
    """
    if len(data) >= MAX_HEAD_BYTES:
        raise _too_large()
    if data and not 65 <= data[0] <= 90:
        raise _invalid("it does not begin with a method")
    if data.find(b"\n\n") >= 0 or data.find(b"\n\r\n") >= 0:
        raise _invalid("lines end in a line feed alone")


def _too_large() -> HeadTooLarge:
    return HeadTooLarge(
        f"the head of the request is larger than allowed: {MAX_HEAD_BYTES} bytes and {MAX_HEADERS} headers"
    )


def _unknown_method(data: bytes | bytearray) -> NotServed:
    given = data.partition(b" ")[0].decode("ascii")
    methods = b", ".join(sorted(METHODS)).decode()
    return NotServed(f"the method {given!r} is not served: {methods} are", code="unknown_method")


def _invalid(reason: str) -> BadRequest:
    return BadRequest(f"this is not HTTP/1.1 that can be read: {reason}", code="invalid_http")

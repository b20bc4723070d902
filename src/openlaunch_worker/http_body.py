"""Reads what HTTP servers answer: a body that is cut short, too large, or not what it is said to be is an error.

`http.client` alone takes much of that for the end of a whole answer.
"""

import http.client
import zlib
from collections.abc import Iterator
from typing import Any, Final

_PIECE: Final = 256 * 1024
_CODINGS: Final = ("gzip", "x-gzip", "deflate")
_PARTIAL: Final = 206


class BodyError(OSError):
    """The body can't be used; the text says why, as words after the name of who answered."""


def pieces(response: Any) -> Iterator[bytes]:
    """Yield the body as it comes. Raise `BodyError` when it ends before it is whole.

    Where nothing says how long it is, its end is that of the connection. Then an empty one is an error, too, because
    headers that are cut short look like that.
    """
    _check_head(response)
    unbounded = response.length is None and not response.chunked
    empty = True
    try:
        while piece := response.read1(_PIECE):
            empty = False
            yield piece
    except http.client.IncompleteRead:
        raise BodyError("its answer was cut short: the connection ended before the last chunk") from None
    except ConnectionError as error:
        raise BodyError(f"its answer was cut short: {error}") from None
    if response.length:
        raise BodyError(
            f"its answer was cut short: the connection broke {response.length} bytes before the end"
        )
    if unbounded and empty:
        raise BodyError("its answer was cut short: the connection ended before any of the body")
    response.close()  # else the connection can't be used again


def read_body(response: Any, most: int) -> bytes:
    """Return the whole body without its Content-Encoding. Raise `BodyError`, also if it is over `most` bytes."""
    if (response.length or 0) > most:
        raise _too_large(most)
    parts: list[bytes] = []
    size = 0
    for piece in pieces(response):
        size += len(piece)
        if size > most:
            raise _too_large(most)
        parts.append(piece)
    data = b"".join(parts)
    del parts
    return decoded(data, ",".join(response.headers.get_all("Content-Encoding", ())), most)


def decoded(data: bytes, codings: str, most: int) -> bytes:
    """Return a body without its Content-Encoding. Raise `BodyError`, also if it is over `most` bytes."""
    for coding in reversed(_codings(codings)):
        data = _inflated(data, coding, most)
    return data


def check_status(status: int) -> None:
    """Raise `BodyError` if the answer has a part only of what was asked for."""
    if status == _PARTIAL:
        raise BodyError("it answered 206, with a part only of what was asked for")


def _check_head(response: Any) -> None:
    framing = response.headers.get("Transfer-Encoding")
    if framing is not None and not response.chunked:
        raise BodyError(f"its answer has the Transfer-Encoding {framing!r}: only chunked is understood")
    check_status(response.status)


def _codings(named: str) -> list[str]:
    codings = [
        coding for each in named.lower().split(",") if (coding := each.strip()) not in ("", "identity")
    ]
    for coding in codings:
        if coding not in _CODINGS:
            known = ", ".join(_CODINGS)
            raise BodyError(f"its answer has the Content-Encoding {coding!r}: only {known} are understood")
    return codings


def _inflated(data: bytes, coding: str, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while data:
            inflate = zlib.decompressobj(_window(data, coding))
            parts.append(inflate.decompress(data, most + 1 - size))
            size += len(parts[-1])
            if size > most:
                raise _too_large(most)
            if not inflate.eof:
                raise BodyError(f"its answer was cut short: the {coding} data has no end")
            data = inflate.unused_data.lstrip(b"\0")  # another member, or padding
    except zlib.error as error:
        raise BodyError(
            f"its answer is not the {coding} data that its Content-Encoding says: {error}"
        ) from None
    return b"".join(parts)


def _window(data: bytes, coding: str) -> int:
    """Return how zlib is to read the data: as gzip, or as deflate with a header or, as some servers have it, none."""
    if coding != "deflate":
        return 16 + zlib.MAX_WBITS
    has_header = len(data) > 1 and data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
    return zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS


def _too_large(most: int) -> BodyError:
    return BodyError(f"its answer is larger than the limit of {most} bytes")

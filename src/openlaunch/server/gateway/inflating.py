"""Bodies that are compressed with gzip, deflate or zstd, inflated within the limit of bodies."""

import asyncio
import importlib
import sys
import zlib
from collections.abc import Callable
from typing import Protocol

from openlaunch.errors import BadRequest, PayloadTooLarge, UnsupportedMedia
from openlaunch.server.asgi import Scope, header
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.turns import Turns
from openlaunch_worker.frames import Body

PLACES = 2
"""Bodies that are inflated at a time."""

MAX_MEMBERS = 1000
"""Parts of one body, of which each costs time, however small it is."""

PIECE_BYTES = 64 * 1024
_ENCODING = b"content-encoding"
_GZIP = zlib.MAX_WBITS | 16
_ZSTD_WINDOW_LOG = 23
"""The largest window that HTTP allows (RFC 9659), 8 MiB: a frame may not ask for more memory."""


class Inflater:
    """Inflates the bodies of requests in threads. Owners take turns."""

    def __init__(self) -> None:
        self._turns = Turns(PLACES)

    async def inflate(self, exchange: Exchange, owner: str) -> None:
        """Put the inflated body in the place of a compressed one.

        Raises:
            UnsupportedMedia: it is encoded in another way.
            BadRequest: it is not what its encoding says.
            PayloadTooLarge: it is larger than a body may be.
            Unavailable: there is no room for it.
        """
        if not is_encoded(exchange.scope):
            return
        encoding = (header(exchange.scope, _ENCODING) or b"").strip().lower()
        if encoding not in _DECODERS:
            given = encoding[:80].decode("latin-1")
            error = UnsupportedMedia(
                f"the Content-Encoding is {given!r}: send the body as it is, or with gzip, deflate or zstd"
            )
            error.codings = "gzip, deflate, zstd"
            raise error
        async with self._turns.of(owner):
            exchange.inflated(await asyncio.to_thread(inflated, exchange.body, exchange.limit, encoding))
        headers = exchange.scope["headers"]
        exchange.scope["headers"] = [each for each in headers if each[0] != _ENCODING]


def is_encoded(scope: Scope) -> bool:
    """Return whether a request says that its body is compressed, or encoded in another way."""
    encoding = header(scope, _ENCODING)
    return encoding is not None and encoding.strip().lower() not in (b"", b"identity")


class _Decoder(Protocol):
    """Inflates one member, a piece at a time."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def unconsumed_tail(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Zstd:
    """One frame. What it holds back over `max_length` is over the limit, so nobody asks for it."""

    unconsumed_tail = b""

    def __init__(self) -> None:
        # Only here: few servers get such bodies.
        self._zstd = importlib.import_module(
            "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        )
        options = {self._zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._decoder: _Decoder = self._zstd.ZstdDecompressor(options=options)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        try:
            return self._decoder.decompress(data, max_length)
        except self._zstd.ZstdError as error:
            raise zlib.error(str(error)) from None


def _gzip() -> _Decoder:
    return zlib.decompressobj(_GZIP)


def _deflate() -> _Decoder:
    return zlib.decompressobj()  # with a header, as HTTP has it


_DECODERS: dict[bytes, Callable[[], _Decoder]] = {
    b"gzip": _gzip,
    b"x-gzip": _gzip,
    b"deflate": _deflate,
    b"zstd": _Zstd,
}


def inflated(body: Body, limit: int, encoding: bytes = b"gzip") -> bytes:
    """Return what a body of one or several members inflates to; raises what `Inflater.inflate` does."""
    make, name = _DECODERS[encoding], encoding.decode().removeprefix("x-")
    pieces: list[bytes] = []
    size, members = 0, 1
    member = make()
    for start in range(0, len(body), PIECE_BYTES):
        data = bytes(body[start : start + PIECE_BYTES])
        while data:
            if member.eof:
                members += 1
                if members > MAX_MEMBERS:
                    raise BadRequest(f"the {name} body has over {MAX_MEMBERS} members, which is the limit")
                member = make()
            try:
                pieces.append(member.decompress(data, limit + 1 - size))
            except zlib.error as error:
                raise BadRequest(f"the body is not {name}, as its Content-Encoding says: {error}") from None
            size += len(pieces[-1])
            if size > limit:
                raise PayloadTooLarge(f"the body inflates to over {limit} bytes, which is the limit")
            data = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise BadRequest(f"the {name} body is cut off before its end")
    return b"".join(pieces)

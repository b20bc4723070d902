"""Bodies that are compressed with gzip, inflated within the limit of bodies."""

import asyncio
import zlib

from openlaunch.errors import BadRequest, PayloadTooLarge, UnsupportedMedia
from openlaunch.server.asgi import header
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.turns import Turns
from openlaunch_worker.frames import Body

PLACES = 2
"""Bodies that are inflated at a time."""

MAX_MEMBERS = 1000
"""Parts of one gzip body, of which each costs time, however small it is."""

PIECE_BYTES = 64 * 1024
_ENCODING = b"content-encoding"
_GZIP = zlib.MAX_WBITS | 16


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
        encoding = (header(exchange.scope, _ENCODING) or b"").strip().lower()
        if encoding in (b"", b"identity"):
            return
        if encoding not in (b"gzip", b"x-gzip"):
            given = encoding[:80].decode("latin-1")
            raise UnsupportedMedia(f"the Content-Encoding is {given!r}: send the body as it is, or with gzip")
        async with self._turns.of(owner):
            exchange.inflated(await asyncio.to_thread(inflated, exchange.body, exchange.limit))
        headers = exchange.scope["headers"]
        exchange.scope["headers"] = [each for each in headers if each[0] != _ENCODING]


def inflated(body: Body, limit: int) -> bytes:
    """Return what a gzip body of one or several members inflates to; raises what `Inflater.inflate` does."""
    pieces: list[bytes] = []
    size, members = 0, 1
    member = zlib.decompressobj(_GZIP)
    for start in range(0, len(body), PIECE_BYTES):
        data = bytes(body[start : start + PIECE_BYTES])
        while data:
            if member.eof:
                members += 1
                if members > MAX_MEMBERS:
                    raise BadRequest(f"the gzip body has over {MAX_MEMBERS} members, which is the limit")
                member = zlib.decompressobj(_GZIP)
            try:
                pieces.append(member.decompress(data, limit + 1 - size))
            except zlib.error as error:
                raise BadRequest(f"the body is not gzip, as its Content-Encoding says: {error}") from None
            size += len(pieces[-1])
            if size > limit:
                raise PayloadTooLarge(f"the body inflates to over {limit} bytes, which is the limit")
            data = member.unused_data if member.eof else member.unconsumed_tail
    if not member.eof:
        raise BadRequest("the gzip body is cut off before its end")
    return b"".join(pieces)

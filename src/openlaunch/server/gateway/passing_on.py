"""A request that another server has to answer: it goes there as it came, and its answer comes back as it is made."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Final

from openlaunch_worker.http_response import ResponseParser

PASSED_ON: Final = b"openlaunch-passed-on"
"""The header of a request that has been passed on, so that it is not passed on again."""

ANY_OTHER: Final = "other"
"""In the place of a server's name: any but the one that asks."""

Reach = Callable[[str, str, str], Awaitable[asyncio.Transport | None]]
"""Opens a connection to another server, for a client with this address: to the one of this name, or "" to the leader.

Where the one of this name is gone, to the one that has taken up the work of the third name. None: there is no way.
"""

_OWN_HEADERS: Final = frozenset(
    (b"connection", b"content-length", b"transfer-encoding", b"expect", b"x-request-id", PASSED_ON)
)
_PIECE: Final = 64 * 1024


def request_of(
    method: bytes,
    path: bytes,
    query: bytes,
    headers: Iterable[tuple[bytes, bytes]],
    request_id: str,
    body: bytes | bytearray,
) -> bytes:
    """Return a request as it is passed on; the other server names it as this one does."""
    lines = [b"%b %b%b HTTP/1.1" % (method, path, b"?" + query if query else b"")]
    lines += [b"%b: %b" % pair for pair in headers if pair[0] not in _OWN_HEADERS]
    lines += [b"x-request-id: " + request_id.encode(), PASSED_ON + b": 1", b"connection: close"]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", bytes(body)])


class _Reading(asyncio.StreamReaderProtocol):
    """Reads an answer. Nothing waits with writing: the request is small, and written at once."""

    def pause_writing(self) -> None:
        """Do nothing."""

    def resume_writing(self) -> None:
        """Do nothing."""


async def answer_of(
    transport: asyncio.Transport, request: bytes
) -> AsyncGenerator[tuple[ResponseParser, bytes], None]:
    """Send a request, and yield the pieces of its answer's body once its head is there, the first maybe empty.

    Raise `BodyError` where there is no answer, or it is cut.
    """
    reader = asyncio.StreamReader(_PIECE)
    protocol = _Reading(reader)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    transport.write(request)
    parser = ResponseParser()
    while not parser.is_done:
        data = await reader.read(_PIECE)
        piece = parser.feed(data)
        if not data:
            parser.end()
        if parser.status:
            yield parser, piece

"""One POST over one connection; of the answer only the status is read. Importing this takes a while."""

import ssl
from collections.abc import AsyncIterator
from typing import Any

import httpcore2
import httpx2

CONNECT_SECONDS = 5.0
"""Limit for one of a name's addresses, so that there is time for the next one."""

MAX_ANSWER_BYTES = 16 * 1024
"""Limit on what is read of an answer. To take apart as much that comes before the answer (1xx) takes about 15 ms."""

NOT_CONNECTED = (httpcore2.ConnectError, httpcore2.ConnectTimeout)
NO_ANSWER = (httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException)


def _port(url: httpx2.URL) -> int:
    return url.port or (443 if url.scheme == "https" else 80)


async def connected(address: str, url: httpx2.URL, context: ssl.SSLContext) -> httpcore2.AsyncNetworkStream:
    """Connect to an address of the URL's host; raise one of `NOT_CONNECTED` where that can't be done."""
    stream = await httpcore2.AnyIOBackend().connect_tcp(address, _port(url), CONNECT_SECONDS)
    if url.scheme != "https":
        return stream
    return await stream.start_tls(context, url.host, CONNECT_SECONDS)


async def status_of(
    stream: httpcore2.AsyncNetworkStream,
    url: httpx2.URL,
    headers: dict[str, str],
    body: AsyncIterator[bytes],
) -> int:
    """Send a request, and return the status of its answer, of which nothing else is read."""
    named = httpcore2.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    connection = httpcore2.AsyncHTTP11Connection(named.origin, _Bounded(stream))
    try:
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        request = httpcore2.Request("POST", named, headers=fields, content=body)
        return (await connection.handle_async_request(request)).status
    finally:
        await connection.aclose()


class _Bounded(httpcore2.AsyncNetworkStream):
    """A connection of which little is read: interim answers could be endless, and each costs time."""

    def __init__(self, stream: httpcore2.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = MAX_ANSWER_BYTES

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read a part, or raise ReadError where that was enough."""
        if self._left <= 0:
            raise httpcore2.ReadError(f"the head of the answer has over {MAX_ANSWER_BYTES} bytes")
        data = await self._stream.read(min(max_bytes, self._left), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

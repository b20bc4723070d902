"""The seam to the network, and its members for httpx2.

A transport sends one request once. It adds the server's address and the API key to requests that are not
signed, and raises `TransportFailure` where there is no answer. It may be used by many threads or tasks.
"""

import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import httpx2

from openlaunch.client.config import Address
from openlaunch.client.effects import Request, Response
from openlaunch.client.immediate import as_coroutine
from openlaunch.client.retry import TransportFailure
from openlaunch.errors import PayloadTooLarge

USER_AGENT = f"openlaunch/{version('openlaunch')}"
CONNECT_SECONDS = 10.0
MAX_CONNECTIONS = 256
MAX_IDLE = 32
IDLE_SECONDS = 60.0


class Transport(Protocol):
    """Sends requests. That of the blocking client blocks: its coroutines never wait."""

    def send(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Send a request once and give the answer, whatever its status.

        Raises TransportFailure when there was no answer, or not all of it.
        """

    async def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server as transports see it: where requests go, what goes with each, and whose certificates are good."""

    address: Address
    timeout: float
    headers: Mapping[str, str] = field(repr=False)
    ca_file: Path | None = None
    owner: str | None = None

    @classmethod
    def of(
        cls, address: Address, timeout: float, ca_file: Path | None = None, owner: str | None = None
    ) -> "Target":
        """Make the target of an address; `timeout`, in seconds, is for requests that name none.

        With an `owner`, requests are made for that one, as an admin may.
        """
        headers = {
            "authorization": address.authorization,
            "accept-encoding": "identity",
            "user-agent": USER_AGENT,
        }
        return cls(address, timeout, headers, ca_file, owner)

    def url(self, request: Request) -> str:
        return self.address.url + request.url

    def headers_of(self, request: Request) -> dict[str, str]:
        """Return all headers but those that frame the body."""
        if request.signed:
            return {"accept-encoding": "identity", "user-agent": USER_AGENT, **request.headers}
        headers = {**self.headers, **request.headers}
        if request.body is not None:
            headers.setdefault("content-type", "application/json")
        return headers

    def seconds(self, request: Request) -> float:
        return self.timeout if request.timeout is None else request.timeout

    def no_connection(self, reason: object) -> TransportFailure:
        """Make the failure of a request of which nothing was sent."""
        url, source = self.address.url, self.address.source
        hint = (
            "name the certificate that signed the server's in OPENLAUNCH_CA_FILE"
            if "CERTIFICATE_VERIFY_FAILED" in str(reason)
            else "start one with: openlaunch serve"
        )
        return TransportFailure(
            f"no server can be reached at {url} (from {source}): {reason}; {hint}", sent=False
        )

    def no_answer(self, reason: object) -> TransportFailure:
        """Make the failure of a request that the server may have got."""
        return TransportFailure(
            f"the connection to {self.address.url} broke before its answer: {reason}", sent=True
        )

    def too_slow(self, request: Request) -> TransportFailure:
        """Make the failure of a request that was not answered in time."""
        seconds = self.seconds(request)
        return TransportFailure(f"{self.address.url} did not answer within {seconds:g} seconds", sent=True)


def _httpx_failure(error: httpx2.TransportError, request: Request, target: Target) -> TransportFailure:
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)):
        return target.no_connection(error or "no connection in time")
    if isinstance(error, httpx2.TimeoutException):
        return target.too_slow(request)
    return target.no_answer(error)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Give a context that trusts what httpx2 does, and the certificates of this file."""
    context = httpx2.create_ssl_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


_LIMITS = httpx2.Limits(
    max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE, keepalive_expiry=IDLE_SECONDS
)


class _HTTPXTransport(ABC):
    """Everything but predictions, and those too where a proxy is in the way."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def send(self, request: Request) -> Response:
        with self.failures(request):
            target = self._target
            answer = await self._send(
                method=request.method,
                url=target.url(request),
                content=request.body,
                headers=target.headers_of(request),
                timeout=httpx2.Timeout(target.seconds(request), connect=CONNECT_SECONDS),
            )
            body = _HTTPXBody(self, request, answer)
            if request.stream and answer.status_code < 300:
                return Response(answer.status_code, answer.headers, stream=body)
            return Response(answer.status_code, answer.headers, await _whole(body, request.max_bytes))

    @contextmanager
    def failures(self, request: Request) -> Iterator[None]:
        """Turn httpx2's errors into ours."""
        try:
            yield
        except httpx2.TransportError as error:
            raise _httpx_failure(error, request, self._target) from error

    @abstractmethod
    async def _send(self, **options: Any) -> httpx2.Response: ...

    @abstractmethod
    def pieces(self, answer: httpx2.Response) -> Callable[[], Coroutine[Any, Any, bytes]]:
        """Give a function for the next piece of a body, which gives nothing at the end."""

    @abstractmethod
    async def close_answer(self, answer: httpx2.Response) -> None: ...


class HTTPXTransport(_HTTPXTransport):
    """Blocks."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        tls = tls_context(target.ca_file)
        self._client = httpx2.Client(limits=_LIMITS, follow_redirects=False, verify=tls)

    async def _send(self, **options: Any) -> httpx2.Response:
        return self._client.send(self._client.build_request(**options), stream=True)

    def pieces(self, answer: httpx2.Response) -> Callable[[], Coroutine[Any, Any, bytes]]:
        return as_coroutine(partial(next, answer.iter_raw(), b""))

    async def close_answer(self, answer: httpx2.Response) -> None:
        answer.close()

    async def close(self) -> None:
        self._client.close()


class AwaitableHTTPXTransport(_HTTPXTransport):
    """Waits in an event loop."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        tls = tls_context(target.ca_file)
        self._client = httpx2.AsyncClient(limits=_LIMITS, follow_redirects=False, verify=tls)

    async def _send(self, **options: Any) -> httpx2.Response:
        return await self._client.send(self._client.build_request(**options), stream=True)

    def pieces(self, answer: httpx2.Response) -> Callable[[], Coroutine[Any, Any, bytes]]:
        return partial(_anext, answer.aiter_raw())

    async def close_answer(self, answer: httpx2.Response) -> None:
        await answer.aclose()

    async def close(self) -> None:
        await self._client.aclose()


class _HTTPXBody:
    def __init__(self, transport: _HTTPXTransport, request: Request, answer: httpx2.Response) -> None:
        self._transport = transport
        self._request = request
        self._answer = answer
        self._next = transport.pieces(answer)

    async def read(self) -> bytes:
        with self._transport.failures(self._request):
            return await self._next()

    async def close(self) -> None:
        await self._transport.close_answer(self._answer)


async def _whole(body: _HTTPXBody, most: int | None) -> bytes:
    pieces, size = [], 0
    try:
        while piece := await body.read():
            size += len(piece)
            if most is not None and size > most:
                raise PayloadTooLarge(f"the answer has over {most} bytes, which is the client's limit")
            pieces.append(piece)
    finally:
        await body.close()
    return b"".join(pieces)


async def _anext(pieces: AsyncIterator[bytes]) -> bytes:
    return await anext(pieces, b"")

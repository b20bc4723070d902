"""The transports for a server behind a proxy, which are those of httpx2."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import httpx2

from openlaunch.client.effects import Request, Response
from openlaunch.client.forks import bury, hold
from openlaunch.client.http11 import UnusableAnswer
from openlaunch.client.immediate import as_coroutine
from openlaunch.client.loops import PerLoop
from openlaunch.client.proxies import Proxy
from openlaunch.client.retry import TransportFailure
from openlaunch.client.transport import (
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    MAX_IDLE,
    Target,
    check_answer,
    check_size,
    tls_context,
)

PROXY_AUTHENTICATION = 407


def _httpx_failure(error: httpx2.TransportError, request: Request, target: Target) -> TransportFailure:
    if isinstance(error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError)):
        return target.no_connection(error or "no connection in time")
    if isinstance(error, httpx2.TimeoutException):
        return target.too_slow(request)
    return target.no_answer(error, request)


_LIMITS = httpx2.Limits(
    max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_IDLE, keepalive_expiry=IDLE_SECONDS
)


class _ProxiedTransport(ABC):
    """Sends requests through a proxy, with httpx2.

    Its transports are used without its client, which would log whole URLs, and signed ones are secret.
    """

    def __init__(self, target: Target, proxy: Proxy) -> None:
        self._target = replace(target, way=f" through the proxy {proxy}")
        self._options: dict[str, Any] = {
            "verify": tls_context(target.ca_file),
            "limits": _LIMITS,
            "proxy": proxy.url,
        }

    async def send(self, request: Request) -> Response:
        with self.failures(request):
            target = self._target
            timeout = httpx2.Timeout(target.seconds(request), connect=target.connect_seconds)
            answer = await self._send(
                httpx2.Request(
                    request.method,
                    target.url(request),
                    content=request.body,
                    headers=target.headers_of(request),
                    extensions={"timeout": timeout.as_dict()},
                )
            )
            body = _Body(self, request, answer)
            if answer.status_code == PROXY_AUTHENTICATION:
                await body.close()
                raise target.no_connection("the proxy asks for a user name and a password")
            if answer.status_code < 300:
                try:
                    check_answer(answer.status_code, answer.headers, request)
                except UnusableAnswer as error:
                    await body.close()
                    raise target.unusable(error) from None
            if request.stream and answer.status_code < 300:
                return Response(answer.status_code, answer.headers, stream=body)
            return Response(answer.status_code, answer.headers, await _whole(body, request))

    @contextmanager
    def failures(self, request: Request) -> Iterator[None]:
        """Turn httpx2's errors into ours."""
        try:
            yield
        except httpx2.TransportError as error:
            raise _httpx_failure(error, request, self._target) from error

    @abstractmethod
    async def _send(self, request: httpx2.Request) -> httpx2.Response: ...

    @abstractmethod
    def pieces(self, answer: httpx2.Response) -> Callable[[], Coroutine[Any, Any, bytes]]:
        """Give a function for the next piece of a body, which gives nothing at the end."""

    @abstractmethod
    async def close_answer(self, answer: httpx2.Response) -> None: ...


class ProxiedTransport(_ProxiedTransport):
    """Blocks."""

    def __init__(self, target: Target, proxy: Proxy) -> None:
        super().__init__(target, proxy)
        self._transport = httpx2.HTTPTransport(**self._options)
        self._closed = False
        hold(self)

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        if self._closed:
            raise RuntimeError("the client is closed")
        return self._transport.handle_request(request)

    def pieces(self, answer: httpx2.Response) -> Callable[[], Coroutine[Any, Any, bytes]]:
        return as_coroutine(partial(next, answer.iter_raw(), b""))

    async def close_answer(self, answer: httpx2.Response) -> None:
        answer.close()

    async def close(self) -> None:
        self._closed = True
        self._transport.close()

    def forget(self) -> None:
        bury(self._transport)
        self._transport = httpx2.HTTPTransport(**self._options)


class AwaitableProxiedTransport(_ProxiedTransport):
    """Waits in an event loop."""

    def __init__(self, target: Target, proxy: Proxy) -> None:
        super().__init__(target, proxy)
        make = partial(httpx2.AsyncHTTPTransport, **self._options)
        self._transports = PerLoop(make, httpx2.AsyncHTTPTransport.aclose)

    async def _send(self, request: httpx2.Request) -> httpx2.Response:
        return await self._transports.get().handle_async_request(request)

    def pieces(self, answer: httpx2.Response) -> Callable[[], Coroutine[Any, Any, bytes]]:
        return partial(_anext, answer.aiter_raw())

    async def close_answer(self, answer: httpx2.Response) -> None:
        await answer.aclose()

    async def close(self) -> None:
        await self._transports.close()


class _Body:
    def __init__(self, transport: _ProxiedTransport, request: Request, answer: httpx2.Response) -> None:
        self._transport = transport
        self._request = request
        self._answer = answer
        self._next = transport.pieces(answer)

    async def read(self) -> bytes:
        with self._transport.failures(self._request):
            return await self._next()

    async def close(self) -> None:
        await self._transport.close_answer(self._answer)


async def _whole(body: _Body, request: Request) -> bytes:
    pieces, size = [], 0
    try:
        while piece := await body.read():
            size += len(piece)
            check_size(size, request)
            pieces.append(piece)
    finally:
        await body.close()
    return b"".join(pieces)


async def _anext(pieces: AsyncIterator[bytes]) -> bytes:
    return await anext(pieces, b"")

"""Which transport a request takes: the lean one for predictions, the general one for all else."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from openlaunch.client.effects import Request, Response
from openlaunch.client.lean import LeanTransport
from openlaunch.client.lean_aio import AsyncLeanTransport
from openlaunch.client.transport import (
    AsyncHTTPXTransport,
    AsyncTransport,
    HTTPXTransport,
    Target,
    Transport,
)


def proxied(url: str) -> bool:
    """Whether the environment names a proxy for this URL."""
    parts = urlsplit(url)
    proxies = getproxies()
    named = parts.scheme in proxies or "all" in proxies
    return named and not proxy_bypass(parts.netloc)


class Router:
    """Sends each request the way that suits it."""

    def __init__(self, target: Target) -> None:
        self._general: Transport = HTTPXTransport(target)
        lean = not proxied(target.address.url)
        self._predictions: Transport = LeanTransport(target) if lean else self._general

    def send(self, request: Request) -> Response:
        """Send a request once and give the answer."""
        return (self._predictions if request.prediction else self._general).send(request)

    def close(self) -> None:
        """Close all connections."""
        self._predictions.close()
        self._general.close()


class AsyncRouter:
    """The same, awaitable."""

    def __init__(self, target: Target) -> None:
        self._general: AsyncTransport = AsyncHTTPXTransport(target)
        lean = not proxied(target.address.url)
        self._predictions: AsyncTransport = AsyncLeanTransport(target) if lean else self._general

    async def send(self, request: Request) -> Response:
        """Send a request once and give the answer."""
        return await (self._predictions if request.prediction else self._general).send(request)

    async def close(self) -> None:
        """Close all connections."""
        await self._predictions.close()
        await self._general.close()

"""Which transport a request takes: the lean one for predictions, the general one for all else."""

from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from openlaunch.client.effects import Request, Response, for_owner
from openlaunch.client.lean import LeanTransport
from openlaunch.client.sockets import AwaitableNetwork, BlockingNetwork
from openlaunch.client.transport import AwaitableHTTPXTransport, HTTPXTransport, Target, Transport


def proxied(url: str) -> bool:
    """Say whether the environment names a proxy for this URL."""
    parts = urlsplit(url)
    proxies = getproxies()
    named = parts.scheme in proxies or "all" in proxies
    return named and not proxy_bypass(parts.netloc)


def _lean(target: Target, network: type[BlockingNetwork | AwaitableNetwork]) -> LeanTransport | None:
    url = target.address.url
    return None if proxied(url) else LeanTransport(target, network(url, target.ca_file))


class Router:
    """Sends each request the way that suits it."""

    def __init__(self, general: Transport, predictions: Transport | None, owner: str | None = None) -> None:
        self._general = general
        self._owner = owner
        self._predictions = predictions or general

    @classmethod
    def blocking(cls, target: Target) -> "Router":
        return cls(HTTPXTransport(target), _lean(target, BlockingNetwork), target.owner)

    @classmethod
    def awaitable(cls, target: Target) -> "Router":
        return cls(AwaitableHTTPXTransport(target), _lean(target, AwaitableNetwork), target.owner)

    def send(self, request: Request) -> Coroutine[Any, Any, Response]:
        if self._owner is not None:
            request = for_owner(request, self._owner)
        return (self._predictions if request.prediction else self._general).send(request)

    async def close(self) -> None:
        await self._predictions.close()
        await self._general.close()

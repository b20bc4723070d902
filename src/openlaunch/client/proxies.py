"""Which proxy is in the way to the server, as environment variables or the system's settings say."""

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies

from openlaunch.client.config import is_loopback
from openlaunch.errors import ConfigurationError
from openlaunch_worker.no_proxy import is_without_proxy

_SOCKS = ("socks5", "socks5h")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, and where its URL came from. Its URL may have a password; its text has none."""

    url: str = field(repr=False)
    source: str

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} (from {self.source})"


def proxy_for(url: str, environ: Mapping[str, str] = os.environ) -> Proxy | None:
    """Find the proxy for a server; None where there is none, and always for a server of this machine.

    Raises ConfigurationError when its URL is not one that can be used.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    scheme = parts.scheme if parts.scheme in proxies else "all"
    if is_loopback(url) or scheme not in proxies or is_without_proxy(parts.netloc):
        return None
    named = proxies[scheme].strip()
    proxy = Proxy(named if "://" in named else f"http://{named}", _source(f"{scheme}_proxy", environ))
    _check(proxy)
    return proxy


def _source(variable: str, environ: Mapping[str, str]) -> str:
    names = (name for name in (variable, variable.upper()) if environ.get(name))
    return next(names, "the system's settings")


def _check(proxy: Proxy) -> None:
    without = "or name the server's host in NO_PROXY to do without a proxy"
    try:
        parts = urlsplit(proxy.url)
        usable = parts.port != 0 and bool(parts.hostname)
    except ValueError:
        raise ConfigurationError(
            f"the URL of the proxy in {proxy.source} is not a URL: mend it, {without}"
        ) from None
    if not usable or parts.scheme not in ("http", "https", *_SOCKS):
        raise ConfigurationError(f"the proxy {proxy} is not one such as http://HOST:PORT: mend it, {without}")
    if parts.scheme in _SOCKS and importlib.util.find_spec("socksio") is None:
        raise ConfigurationError(
            f"the proxy {proxy} speaks SOCKS, for which a package is missing: pip install socksio, {without}"
        )

"""What proxies in front of the server say of a request, and the URL under which a client reaches the server."""

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from openlaunch.errors import ConfigurationError
from openlaunch.server.asgi import Scope, header
from openlaunch.server.settings import UrlSettings

HOST, PREFIX = "openlaunch.host", "openlaunch.prefix"
"""Where a request's scope has the host that its client has asked for, and the path that a proxy has taken off."""

MAX_HOPS = 50
"""Addresses of `X-Forwarded-For` that are looked at, from the last one on: a stranger may have sent thousands."""

_HOST = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?", re.ASCII)
_PATH = re.compile(r"(?:/[\w.~%-]+)+", re.ASCII)
_PARAMETER = re.compile(r'(for|host|proto)\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', re.IGNORECASE)


class Proxies:
    """Believes `Forwarded` and `X-Forwarded-*` headers of trusted proxies, and of nobody else.

    Of several values the last one counts, which the proxy nearest to the server has written.
    """

    def __init__(self, settings: UrlSettings) -> None:
        self._public_url = (settings.public_url or "").rstrip("/")
        self.prefix = urlsplit(self._public_url).path.encode()
        """The path of the public URL, for proxies that leave it before the path of a request."""
        self._trusted = list(_networks(settings.trusted_proxies))

    def understood(self, scope: Scope) -> Scope:
        """Return the scope with the scheme, host, prefix and client that the client's proxy names."""
        given = header(scope, b"host")
        host = given.decode("latin-1") if given else "{}:{}".format(*(scope["server"] or ("localhost", "")))
        scope = {**scope, HOST: host, PREFIX: ""}
        if scope["client"] is not None and self._trusts(scope["client"][0]):
            self._believe(scope)
        return scope

    def base_url(self, scope: Scope) -> str:
        """Return the URL of the server for the client of a request."""
        if self._public_url:
            return self._public_url
        if HOST not in scope:
            scope = self.understood(scope)
        return f"{scope['scheme']}://{scope[HOST]}{scope[PREFIX]}"

    def _trusts(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        mapped = getattr(found, "ipv4_mapped", None) or found
        return any(mapped in network for network in self._trusted)

    def _believe(self, scope: Scope) -> None:
        said = _said(scope)
        if said.get("proto") in ("http", "https"):
            scope["scheme"] = said["proto"]
        if _HOST.fullmatch(host := said.get("host", "")):
            port = said.get("port", "")
            usual = port == ("443" if scope["scheme"] == "https" else "80")
            named = ":" in host.rpartition("]")[2] or usual or not port.isdecimal()
            scope[HOST] = host if named else f"{host}:{port}"
        if _PATH.fullmatch(prefix := said.get("prefix", "").rstrip("/")):
            scope[PREFIX] = prefix
        for address in reversed(said.get("for", "").rsplit(",", MAX_HOPS)[-MAX_HOPS:]):
            if found := _address(address.strip()):
                scope["client"] = (found, 0)
                if not self._trusts(found):
                    break


def _said(scope: Scope) -> dict[str, str]:
    """Return what the headers say, by their names without `X-Forwarded-`; all of the addresses, else the last."""
    said: dict[str, str] = {}
    addresses: list[str] = []
    for name, raw in scope["headers"]:
        value = raw.decode("latin-1")
        if name == b"forwarded":
            for parameter, quoted, plain in _PARAMETER.findall(value):
                said[parameter.lower()] = quoted or plain
                if parameter.lower() == "for":
                    addresses.append(quoted or plain)
        elif name.startswith(b"x-forwarded-"):
            key = name.removeprefix(b"x-forwarded-").decode("latin-1")
            said[key] = value.rpartition(",")[2].strip()
            if key == "for":
                addresses += value.split(",")
    return {**said, "for": ",".join(addresses)}


def _address(text: str) -> str | None:
    """Return the address in `ADDRESS`, `ADDRESS:PORT` or `[ADDRESS]:PORT`."""
    inner = text[1:].partition("]")[0] if text.startswith("[") else text
    for candidate in (inner, inner.rpartition(":")[0]):
        try:
            return str(ip_address(candidate))
        except ValueError:
            continue
    return None


def _networks(text: str) -> Iterator[Any]:
    for part in filter(None, map(str.strip, text.split(","))):
        if part == "*":
            yield from (ip_network("0.0.0.0/0"), ip_network("::/0"))
            continue
        try:
            yield ip_network(part, strict=False)
        except ValueError:
            text = f"OPENLAUNCH_TRUSTED_PROXIES has {part!r}: addresses, networks such as 10.0.0.0/8, or * are needed"
            raise ConfigurationError(text) from None

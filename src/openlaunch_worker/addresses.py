"""Which addresses a request may make this machine connect to: those of inputs named by `url`, and of callbacks."""

import ipaddress
import socket
import time
from collections.abc import Callable
from typing import Any

# Whose last four bytes are an IPv4 address: NAT64, IPv4-compatible, and IPv4-translated.
_WITH_IPV4 = [ipaddress.IPv6Network(net) for net in ("64:ff9b::/96", "::/96", "::ffff:0:0:0/96")]
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
"""Where the IPv4 address stands in these is the network's own choice, so that nobody can look at it."""

_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in (
        *("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"),
        *("100.100.100.200", "168.63.129.16", "192.0.0.192"),
    )
)
"""Where clouds serve their machines' credentials beside the link-local addresses."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def problem(address: str, *, allow_private: bool) -> str | None:
    """Say why no connection may be made to the IP address; None when one may.

    Link-local addresses, where clouds serve their machines' credentials, are refused always; private ones
    (RFC 1918, loopback, unique local) by setting.
    """
    ip = _plain(ipaddress.ip_address(address.partition("%")[0]))
    if ip.is_link_local or ip in _METADATA or ip in _LOCAL_NAT64:
        return f"{ip} is a link-local or metadata address, which is never allowed"
    if ip.is_multicast or ip.is_unspecified or (ip.version == 4 and ip.is_reserved):
        return f"{ip} is not the address of a host"
    if not allow_private and not ip.is_global:
        return f"{ip} is a private address, which this server does not allow"
    return None


def _plain(ip: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, if it does: mapped, translated, 6to4 or Teredo."""
    if isinstance(ip, ipaddress.IPv4Address) or ip.is_loopback or ip.is_unspecified:
        return ip
    if any(ip in net for net in _WITH_IPV4):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)


def check(addresses: list[tuple[Any, ...]], *, allow_private: bool) -> None:
    """Raise `OSError` if one of the addresses that `getaddrinfo` gave may not be used; it says which and why."""
    for *_, where in addresses:
        if (found := problem(str(where[0]), allow_private=allow_private)) is not None:
            raise PermissionError(found)


def connector(*, allow_private: bool) -> Callable[..., socket.socket]:
    """Return a `socket.create_connection` that connects to what it has checked, even if the name changes."""

    def connect(
        address: tuple[str, int], timeout: float | None = None, source_address: tuple[str, int] | None = None
    ) -> socket.socket:
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        check(list(found), allow_private=allow_private)
        failed = OSError(f"{address[0]} has no address")
        end = None if timeout is None else time.monotonic() + timeout  # of all, however many a name has
        for *_, where in found:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            try:
                return socket.create_connection((str(where[0]), int(where[1])), left, source_address)
            except OSError as error:
                failed = error
        raise failed

    return connect

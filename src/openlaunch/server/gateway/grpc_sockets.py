"""The sockets of gRPC, which has no way to end a call whose client does not read its answer."""

import os
import socket
import stat
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

_DESCRIPTORS = Path("/dev/fd")


def cut(client: tuple[str, int]) -> None:
    """Shut down the TCP connection of this process with a client; gRPC then ends its calls and frees their memory."""
    wanted = _plain(client[0]), client[1]
    for path in _DESCRIPTORS.iterdir():
        with suppress(OSError):
            descriptor = int(path.name)
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                _shut_down(descriptor, wanted)


def _shut_down(descriptor: int, wanted: tuple[IPv4Address | IPv6Address, int]) -> None:
    """Shut the connection down if it is with this client. A copy is looked at, which nobody else closes."""
    with socket.socket(fileno=os.dup(descriptor)) as same:
        if same.family in (socket.AF_INET, socket.AF_INET6):
            host, port, *_ = same.getpeername()
            if (_plain(host), port) == wanted:
                same.shutdown(socket.SHUT_RDWR)


def _plain(host: str) -> IPv4Address | IPv6Address:
    ip = ip_address(host.partition("%")[0])
    return (ip.ipv4_mapped or ip) if isinstance(ip, IPv6Address) else ip

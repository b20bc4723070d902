"""Which hosts are reached without a proxy."""

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass


def is_without_proxy(netloc: str) -> bool:
    """Return whether NO_PROXY, or the system's settings, name `HOST` or `HOST:PORT`.

    Networks such as 10.0.0.0/8 are understood, too, which Python itself compares as texts.
    """
    if proxy_bypass(netloc):
        return True
    try:
        address = ip_address(urlsplit(f"//{netloc}").hostname or "")
    except ValueError:
        return False  # it is a name, or nothing
    return any(_has(named.strip(), address) for named in getproxies_environment().get("no", "").split(","))


def _has(named: str, address: object) -> bool:
    try:
        return address in ip_network(named.strip("[]"), strict=False)
    except ValueError:
        return False

"""The way to the server, or to each of several: straight, or through a proxy."""

from collections.abc import Callable

from openlaunch.client.forks import hold
from openlaunch.client.lean import LeanTransport, Pool
from openlaunch.client.loops import PerLoop
from openlaunch.client.proxies import proxy_for
from openlaunch.client.several import SeveralServers
from openlaunch.client.sockets import AwaitableNetwork, BlockingNetwork, Remote
from openlaunch.client.transport import Target, Transport


def blocking_transport(target: Target) -> Transport:
    """Make the transport of a blocking client."""
    return _to_each(target, _blocking)


def awaitable_transport(target: Target) -> Transport:
    """Make the transport of an awaitable client."""
    return _to_each(target, _awaitable)


def _to_each(target: Target, transport_to: Callable[[Target], Transport]) -> Transport:
    targets = target.each()
    return transport_to(target) if len(targets) == 1 else SeveralServers([*map(transport_to, targets)])


def _blocking(target: Target) -> Transport:
    if (proxy := proxy_for(target.address.url)) is not None:
        from openlaunch.client.proxied import ProxiedTransport  # only now: httpx2 takes a while to import

        return ProxiedTransport(target, proxy)
    pool = Pool(BlockingNetwork(Remote(target.address.url, target.ca_file, target.connect_seconds)))
    hold(pool)
    return LeanTransport(target, lambda: pool, pool.close)


def _awaitable(target: Target) -> Transport:
    if (proxy := proxy_for(target.address.url)) is not None:
        from openlaunch.client.proxied import AwaitableProxiedTransport

        return AwaitableProxiedTransport(target, proxy)
    remote = Remote(target.address.url, target.ca_file, target.connect_seconds)
    pools = PerLoop(lambda: Pool(AwaitableNetwork(remote)), Pool.close)
    return LeanTransport(target, pools.get, pools.close)

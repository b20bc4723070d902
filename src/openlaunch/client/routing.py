"""The way to the server: straight, or through a proxy."""

from openlaunch.client.forks import hold
from openlaunch.client.lean import LeanTransport, Pool
from openlaunch.client.loops import PerLoop
from openlaunch.client.proxies import proxy_for
from openlaunch.client.sockets import AwaitableNetwork, BlockingNetwork, Remote
from openlaunch.client.transport import Target, Transport


def blocking_transport(target: Target) -> Transport:
    """Make the transport of a blocking client."""
    if (proxy := proxy_for(target.address.url)) is not None:
        from openlaunch.client.proxied import ProxiedTransport  # only now: httpx2 takes a while to import

        return ProxiedTransport(target, proxy)
    pool = Pool(BlockingNetwork(Remote(target.address.url, target.ca_file)))
    hold(pool)
    return LeanTransport(target, lambda: pool, pool.close)


def awaitable_transport(target: Target) -> Transport:
    """Make the transport of an awaitable client."""
    if (proxy := proxy_for(target.address.url)) is not None:
        from openlaunch.client.proxied import AwaitableProxiedTransport

        return AwaitableProxiedTransport(target, proxy)
    remote = Remote(target.address.url, target.ca_file)
    pools = PerLoop(lambda: Pool(AwaitableNetwork(remote)), Pool.close)
    return LeanTransport(target, pools.get, pools.close)

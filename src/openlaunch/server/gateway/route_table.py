"""Which handler has a request of a hot route, by its method and path."""

from collections.abc import Mapping

from openlaunch.server.gateway.exchange import HotHandler


class RouteTable:
    """The hot routes. The handler of a path that ends in a slash is that of every path one level below."""

    def __init__(self, handlers: Mapping[tuple[bytes, bytes], HotHandler]) -> None:
        self.exact = handlers
        """The handlers by method and path; `below` has those of paths that are not among them."""

    def below(self, method: bytes, path: bytes) -> HotHandler | None:
        """Return the handler of the paths one level below one that ends in a slash; None: there is none."""
        return self.exact.get((method, path[: path.rfind(b"/") + 1]))

    def methods(self, path: bytes) -> list[str]:
        """Return the methods that have a handler for this path."""
        paths = (path, path[: path.rfind(b"/") + 1])
        found = [method.decode() for method, known in self.exact if known in paths]
        return [*found, "HEAD"] if "GET" in found else found

"""Which handler has a request of a hot route, by its method and path."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from openlaunch.server.gateway.exchange import Exchange, HotHandler


class RouteTable:
    """The hot routes. The handler of a path that ends in a slash is that of every path one level below."""

    def __init__(
        self, handlers: Mapping[tuple[bytes, bytes], HotHandler], rooms: Sequence["Room"] = ()
    ) -> None:
        self.rooms = rooms
        """Have the requests that are answered in other ways than those of the other hot routes."""
        self.room_of = {(b"POST", path): room for room in rooms for path in room.posted}
        """The rooms of those that are posted to a path that is known, by method and path."""
        self.exact = handlers
        """The handlers by method and path; `below` has those of paths that are not among them."""

    def below(self, method: bytes, path: bytes) -> HotHandler | None:
        """Return the handler of the paths one level below one that ends in a slash; None: there is none."""
        return self.exact.get((method, path[: path.rfind(b"/") + 1]))

    def methods(self, path: bytes) -> list[str]:
        """Return the methods that have a handler for this path."""
        paths = (path, path[: path.rfind(b"/") + 1])
        found = [method.decode() for method, known in self.exact if known in paths]
        for room in self.rooms:
            found += [method for method in ("GET", "POST") if room.takes(method.encode(), path)]
        return [*found, "HEAD"] if "GET" in found else found


class Room(Protocol):
    """Answers requests with exchanges of its own, which write the answer in another form."""

    exchange: type[Exchange]
    posted: Collection[bytes]
    """Paths of which the room has every POST; it may have others."""

    def takes(self, method: bytes, path: bytes) -> bool:
        """Return whether a request is one of these."""
        ...

    def handle(self, exchange: Exchange) -> None:
        """Begin with a request whose body is there."""
        ...

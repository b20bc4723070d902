"""Which pages of other origins may call the server from a browser (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from openlaunch.server.access.sessions import PAGE_HEADER
from openlaunch.server.gateway.request_reader import METHODS, Head

Headers = list[tuple[bytes, bytes]]

PREFLIGHT_SECONDS = 600
_SAFE = (b"GET", b"HEAD", b"OPTIONS")
_EXPOSED = b"Inference-Header-Content-Length, Last-Event-ID, Location, Retry-After, X-Request-ID"


class Cors:
    """Makes the headers by which a browser lets a page of an allowed origin read an answer.

    What is allowed `beside` stays so.
    """

    def __init__(self, origins: str, beside: "Cors | None" = None) -> None:
        own = frozenset(part.strip().rstrip("/").encode() for part in origins.split(","))
        self._origins: frozenset[bytes] = own if beside is None else own | beside._origins

    def names(self, origin: bytes | None) -> bool:
        """Return whether an origin is allowed by its name, and not only because all are."""
        return origin in self._origins

    def headers(self, head: Head) -> Headers:
        """Return the headers for the answer to a request; none for one that is not of an allowed origin."""
        found, origin = dict(head.headers), head.origin
        if origin is None:
            return []
        if b"*" not in self._origins and origin not in self._origins:
            return [(b"vary", b"Origin")]
        headers = [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]
        if head.method == b"OPTIONS" and b"access-control-request-method" in found:
            wanted = found.get(b"access-control-request-headers", b"")
            headers += [
                (b"access-control-allow-methods", b", ".join(sorted(METHODS))),
                (b"access-control-allow-headers", wanted),
                (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
            ]
        return headers


def is_foreign(head: Head, cors: Cors | None) -> bool:
    """Return whether a page of an origin that is not allowed by its name may use a key that the browser has kept.

    A browser that was asked for a name and a password keeps them, and adds them to whatever any page sends.
    """
    if head.origin is None or head.method in _SAFE or (cors is not None and cors.names(head.origin)):
        return False
    found = dict(head.headers)
    # The page's own header, which another origin can't send without being asked for.
    if not found.get(b"authorization", b"").lower().startswith(b"basic") or PAGE_HEADER in found:
        return False
    if (site := found.get(b"sec-fetch-site")) is not None:
        return site not in (b"same-origin", b"none")
    return head.origin.partition(b"://")[2] not in (found.get(b"host"), found.get(b"x-forwarded-host"))

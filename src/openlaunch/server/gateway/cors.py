"""Which pages of other origins may call the server from a browser (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from openlaunch.server.gateway.request_reader import METHODS, Head

Headers = list[tuple[bytes, bytes]]

PREFLIGHT_SECONDS = 600
_EXPOSED = b"Inference-Header-Content-Length, Last-Event-ID, Location, Retry-After, X-Request-ID"


class Cors:
    """Makes the headers by which a browser lets a page of an allowed origin read an answer.

    What is allowed `beside` stays so.
    """

    def __init__(self, origins: str, beside: "Cors | None" = None) -> None:
        own = frozenset(part.strip().rstrip("/").encode() for part in origins.split(","))
        self._origins: frozenset[bytes] = own if beside is None else own | beside._origins

    def headers(self, head: Head) -> Headers:
        """Return the headers for the answer to a request; none for one that is not of an allowed origin."""
        found = dict(head.headers)
        origin = found.get(b"origin")
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

"""Sessions of the page: a signed cookie that names a key, and links that sign in once.

The cookie holds no key. What its key may do is looked up at each request, so a revoked key ends its sessions, and a
server that starts again knows those of before.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable

SECONDS = 12 * 3600
"""How long a session lasts."""

LINK_SECONDS = 600
MAX_LINKS = 10
"""Links of a key that wait to be used; a further one takes the place of its oldest."""

PAGE_HEADER = b"x-openlaunch-page"
"""The page sends this header. A page of another origin can't: the browser asks the server first, which refuses."""

Headers = Iterable[tuple[bytes, bytes]]


class Sessions:
    """Makes the cookies of sessions and reads them; keeps the links that sign in."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.digest(secret, b"sessions of the page", "sha256")
        # Cookies know no ports: several servers of one machine share them, so each has a name of its own.
        self.cookie = "openlaunch_" + hashlib.sha256(self._secret).hexdigest()[:8]
        self._links: dict[str, tuple[str, float]] = {}

    def make(self, key_id: str, now: float) -> str:
        """Return the value of the cookie for a key."""
        text = f"{key_id}.{int(now) + SECONDS}"
        return f"{text}.{self._signature(text)}"

    def key_of(self, headers: Headers, now: float) -> str | None:
        """Return the id of the key whose session a request of the page has; None for all other requests."""
        given = dict(headers)
        if PAGE_HEADER not in given or given.get(b"sec-fetch-site", b"same-origin") != b"same-origin":
            return None
        text, _, signature = self._value_in(given.get(b"cookie", b"")).rpartition(".")
        if not hmac.compare_digest(signature.encode("latin-1"), self._signature(text).encode()):
            return None
        key_id, _, ends = text.rpartition(".")
        return key_id if now < int(ends) else None

    def _value_in(self, cookies: bytes) -> str:
        """Return the value of this server's cookie; "" where there is none.

        `http.cookies` takes seconds for a header of backslashes in the older versions of Python, and strangers may
        send one.
        """
        for each in cookies.split(b";"):
            name, _, value = each.strip().partition(b"=")
            if name == self.cookie.encode():
                return value.decode("latin-1")
        return ""

    def _signature(self, text: str) -> str:
        return hmac.digest(self._secret, text.encode(), "sha256").hex()

    def make_link(self, key_id: str, now: float) -> str:
        """Return the token of a link that signs in once with a key."""
        self._links = {each: link for each, link in self._links.items() if now < link[1]}
        same = [each for each, (its, _) in self._links.items() if its == key_id]
        for each in same[: max(0, len(same) + 1 - MAX_LINKS)]:
            del self._links[each]
        token = secrets.token_urlsafe(24)
        self._links[token] = key_id, now + LINK_SECONDS
        return token

    def use_link(self, token: str, now: float) -> str | None:
        """Return the id of the key that a link is of, once; None: it is unknown, used or too old."""
        key_id, ends = self._links.pop(token, ("", 0.0))
        return key_id if now < ends else None

"""Signed URLs: good for one method and one key, until they expire."""

import hashlib
import hmac
import re

from openlaunch.errors import Forbidden

_EXPIRES = re.compile(r"[0-9]{1,15}")


class UrlSigner:
    """HMAC-SHA256 over method, key and expiry."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, method: str, key: str, expires_at: float) -> str:
        """Return the query string that opens `key` to `method` until `expires_at`, in seconds since the epoch."""
        expires = str(int(expires_at))
        return f"expires={expires}&signature={self._signature(method, key, expires)}"

    def verify(self, method: str, key: str, expires: str, signature: str, now: float) -> None:
        """Check the two values of a signed URL's query.

        Raises Forbidden when the signature is of something else, or the URL has expired.
        """
        expected = self._signature(method, key, expires).encode()
        fits = hmac.compare_digest(expected, signature.encode(errors="replace"))
        if not fits or not _EXPIRES.fullmatch(expires):
            raise Forbidden("the URL's signature does not fit its method and path", code="bad_signature")
        if int(expires) < now:
            raise Forbidden("the URL has expired: ask for a new one", code="url_expired")

    def _signature(self, method: str, key: str, expires: str) -> str:
        message = f"{method}\n{key}\n{expires}".encode(errors="surrogatepass")
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()

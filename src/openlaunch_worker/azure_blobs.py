"""Blobs of a container of Azure, whose URLs are signed with the account's key, or with a signature of the owner's."""

import base64
import datetime as dt
import hashlib
import hmac
import os
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, urlencode

from openlaunch_worker.prefetch_urls import Source
from openlaunch_worker.resuming import Failed, no_headers, read_document

_VERSION: Final = "2021-08-06"
_VALID: Final = dt.timedelta(days=7)
"""How long the signature of a URL is good: as long as any download takes."""


class Container:
    """A container, as the environment names the account and its key."""

    def __init__(self, source: Source) -> None:
        self._name = source.at
        self._account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", "")
        endpoint = os.environ.get("AZURE_STORAGE_ENDPOINT")
        if not self._account and not endpoint:
            raise Failed("AZURE_STORAGE_ACCOUNT_NAME is missing in the endpoint's env: it names the account")
        base = endpoint or f"https://{self._account}.blob.core.windows.net"
        self._base = f"{base.rstrip('/')}/{self._name}"
        self._signature = self._signed()

    def url(self, key: str) -> str:
        """Return the signed URL of a blob."""
        return f"{self._base}/{quote(key)}{'?' if self._signature else ''}{self._signature}"

    def listed(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield the blobs below a prefix, and their sizes."""
        marker = ""
        while True:
            query = {"restype": "container", "comp": "list", "prefix": prefix, "marker": marker}
            url = f"{self._base}?{urlencode(query, quote_via=quote)}&{self._signature}"
            root = ET.fromstring(read_document(url, no_headers))  # noqa: S314 -- of the owner's container
            for each in root.iter("Blob"):
                yield each.findtext("Name", ""), int(each.findtext("Properties/Content-Length", "0"))
            if not (marker := root.findtext("NextMarker") or ""):
                return

    def _signed(self) -> str:
        """Return the query that lets who has it read and list the container; "" for a public one."""
        if token := os.environ.get("AZURE_STORAGE_SAS_TOKEN"):
            return token.lstrip("?")
        if not (key := os.environ.get("AZURE_STORAGE_ACCOUNT_KEY")):
            return ""
        expiry = (dt.datetime.now(dt.UTC) + _VALID).strftime("%Y-%m-%dT%H:%M:%SZ")
        resource = f"/blob/{self._account}/{self._name}"
        # Permissions, start, expiry, resource, identifier, IP, protocol, version, kind, and six that are left empty.
        fields = ["rl", "", expiry, resource, "", "", "", _VERSION, "c", *[""] * 7]
        try:
            digest = hmac.digest(
                base64.b64decode(key, validate=True), "\n".join(fields).encode(), hashlib.sha256
            )
        except ValueError:
            raise Failed("AZURE_STORAGE_ACCOUNT_KEY is not an account's key, which is base64") from None
        signature = base64.b64encode(digest).decode()
        return urlencode({"sp": "rl", "se": expiry, "sv": _VERSION, "sr": "c", "sig": signature})

"""POSTs to receivers that callers name, at addresses that may be called."""

import asyncio
import base64
import os
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openlaunch.turns import Turns
from openlaunch_worker.addresses import check

if TYPE_CHECKING:
    import httpx2

LOOKUPS = 4
"""Names that are looked up at once. It is the number of threads that uvloop has for that."""


class Poster:
    """Sends bodies, without following redirects, to the very addresses that were looked at.

    A name that means another address a moment later, or a redirect, leads nowhere else.
    """

    def __init__(self, *, allow_private: bool, ca_file: Path | None) -> None:
        self._allow_private = allow_private
        self._ca_file = ca_file
        self._lookups = Turns(LOOKUPS)
        self._plain_context: ssl.SSLContext | None = None

    async def post(
        self,
        owner: str,
        url: "httpx2.URL",
        pieces: Callable[[], AsyncIterator[bytes]],
        headers: dict[str, str],
        auth: dict[str, Any],
    ) -> int:
        """POST once, and return the receiver's status. The caller bounds the time.

        Names are looked up in the turn of `owner`. `pieces` begins the body, whose length is among the headers.

        Raises:
            OSError: the name has no address, or one that may not be called.
            one of `http_post.NO_ANSWER`: there was no answer.
            ValueError: the client certificate in `auth` is not valid.
        """
        from openlaunch.server.queue import http_post  # only now: most starts send no callback

        context = await asyncio.to_thread(self._tls_context, auth)
        headers = {"host": url.netloc.decode("ascii"), **headers}
        if auth.get("kind") == "basic":
            pair = f"{auth['username']}:{auth['password']}".encode()
            headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        addresses = await self._looked_up(owner, url)
        for address in addresses:
            try:
                stream = await http_post.connected(address, url, context)
            except http_post.NOT_CONNECTED:
                if address == addresses[-1]:
                    raise
            else:
                return await http_post.status_of(stream, url, headers, pieces())
        raise OSError(f"{url.host} has no address")

    async def _looked_up(self, owner: str, url: "httpx2.URL") -> list[str]:
        look_up = asyncio.get_running_loop().getaddrinfo
        port = url.port or url.scheme  # whose number is looked up, too
        found = await self._lookups.run(owner, lambda: look_up(url.host, port, type=socket.SOCK_STREAM))
        check(list(found), allow_private=self._allow_private)
        return list(dict.fromkeys(str(where[0]) for *_, where in found))

    def _tls_context(self, auth: dict[str, Any]) -> ssl.SSLContext:
        if auth.get("kind") != "mtls":
            if self._plain_context is None:
                self._plain_context = ssl.create_default_context(cafile=self._ca_file)
            return self._plain_context
        context = ssl.create_default_context(cafile=self._ca_file)
        with _file_with(f"{auth['cert'].strip()}\n{auth['key'].strip()}\n") as name:
            try:
                context.load_cert_chain(name)
            except ssl.SSLError as error:
                raise ValueError(
                    f"the auth's cert and key are not a certificate and its key: {error}"
                ) from None
        return context


@contextmanager
def _file_with(secret: str) -> Iterator[str]:
    """Give the path of a file with the secret, because OpenSSL reads certificates from files alone.

    Where the system can, the file is in memory and in no folder, so that no other process finds it.
    """
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("certificate"), "w") as file:
            file.write(secret)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile("w", prefix="openlaunch-mtls-") as named:
            named.write(secret)
            named.flush()
            yield named.name

"""POSTs to receivers that callers name, at addresses that may be called."""

import asyncio
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

CONNECT_SECONDS = 5.0
"""Limit for one of a name's addresses, so that there is time for the next one."""

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
            httpx2.HTTPError: there was no answer.
            ValueError: the client certificate in `auth` is not valid.
        """
        import httpx2  # only now: most starts send no callback

        context = await asyncio.to_thread(self._tls_context, auth)
        basic = (auth["username"], auth["password"]) if auth.get("kind") == "basic" else None
        headers = {"host": url.netloc.decode("ascii"), **headers}
        timeout = httpx2.Timeout(None, connect=CONNECT_SECONDS)
        async with httpx2.AsyncClient(verify=context, trust_env=False, timeout=timeout, auth=basic) as client:
            addresses = await self._looked_up(owner, url)
            for address in addresses:
                request = client.build_request(
                    "POST",
                    url.copy_with(host=address),
                    content=pieces(),
                    headers=headers,
                    extensions={"sni_hostname": url.host},
                )
                try:
                    response = await client.send(request, stream=True)
                except (httpx2.ConnectError, httpx2.ConnectTimeout):
                    if address == addresses[-1]:
                        raise
                else:
                    await response.aclose()
                    return response.status_code
        raise OSError(f"{url.host} has no address")

    async def _looked_up(self, owner: str, url: "httpx2.URL") -> list[str]:
        port = url.port or (443 if url.scheme == "https" else 80)
        look_up = asyncio.get_running_loop().getaddrinfo
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

"""The seam to the network.

A transport sends one request once. It adds the server's address and the API key to requests that are not
signed, and raises `TransportFailure` where there is no answer. It may be used by many threads or tasks.
"""

import os
import ssl
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from openlaunch.client.config import Address, is_loopback
from openlaunch.client.effects import Request, Response
from openlaunch.client.http11 import UnusableAnswer
from openlaunch.client.retry import TransportFailure
from openlaunch.errors import ConfigurationError, PayloadTooLarge
from openlaunch_worker.files import ACCEPT_PARTS

USER_AGENT = f"openlaunch/{version('openlaunch')}"
CONNECT_SECONDS = 10.0
_PARTIAL = 206
MOVE_ON_SECONDS = 2.0
"""How long one of several servers may take for a connection."""

MAX_CONNECTIONS = 256
MAX_IDLE = 32
IDLE_SECONDS = 60.0


class Transport(Protocol):
    """Sends requests. That of the blocking client blocks: its coroutines never wait."""

    def send(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Send a request once and give the answer, whatever its status.

        Raises TransportFailure when there was no answer, or not all of it.
        """

    async def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server as transports see it: where requests go, what goes with each, and whose certificates are good.

    `way` names the proxy in between, for messages; it is empty where there is none.
    """

    address: Address
    timeout: float
    headers: Mapping[str, str] = field(repr=False)
    ca_file: Path | None = None
    owner: str | None = None
    way: str = ""
    connect_seconds: float = CONNECT_SECONDS

    @classmethod
    def of(
        cls, address: Address, timeout: float, ca_file: Path | None = None, owner: str | None = None
    ) -> "Target":
        """Make the target of an address; `timeout`, in seconds, is for requests that name none.

        With an `owner`, requests are made for that one, as an admin may.
        """
        headers = {
            "authorization": address.authorization,
            "accept-encoding": "identity",
            "user-agent": USER_AGENT,
        }
        return cls(address, timeout, headers, ca_file, owner)

    def each(self) -> "list[Target]":
        """Return a target for each server of the address."""
        addresses = self.address.each()
        seconds = self.connect_seconds if len(addresses) == 1 else MOVE_ON_SECONDS
        return [replace(self, address=address, connect_seconds=seconds) for address in addresses]

    def url(self, request: Request) -> str:
        return self.address.url + request.url

    def headers_of(self, request: Request) -> dict[str, str]:
        """Return all headers but those that frame the body."""
        if request.signed:
            return {"accept-encoding": "identity", "user-agent": USER_AGENT, **request.headers}
        headers = {**self.headers, **request.headers}
        if request.prediction:
            headers.setdefault("accept", ACCEPT_PARTS)
        if request.body is not None:
            headers.setdefault("content-type", "application/json")
        return headers

    def seconds(self, request: Request) -> float:
        return self.timeout if request.timeout is None else request.timeout

    def no_connection(self, reason: object) -> TransportFailure:
        """Make the failure of a request of which nothing was sent."""
        url, source = self.address.url, self.address.source
        return TransportFailure(
            f"no server can be reached at {url} (from {source}){self.way}: {reason}; {self._hint(str(reason))}",
            sent=False,
        )

    def _hint(self, reason: str) -> str:
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            return "name the certificate that signed the server's in OPENLAUNCH_CA_FILE"
        if "WRONG_VERSION_NUMBER" in reason:
            return "what listens there does not speak TLS: begin the URL with http://"
        if self.way:
            return "look at the proxy, or name the server's host in NO_PROXY to do without it"
        if is_loopback(self.address.url):
            return "start one with: openlaunch serve"
        return "look whether it runs, and whether this is its address"

    def no_answer(self, reason: object, request: Request) -> TransportFailure:
        """Make the failure of a request that the server may have got."""
        url = self.address.url
        to_tls = request.method == "GET" and url.startswith(
            "http://"
        )  # a server that hangs up at once may want that
        hint = "; if it speaks TLS, begin the URL with https://" if to_tls else ""
        return TransportFailure(
            f"the connection to {url}{self.way} broke before its answer: {reason}{hint}", sent=True
        )

    def unusable(self, reason: object) -> TransportFailure:
        """Make the failure of a request whose answer can't be that of the server."""
        return TransportFailure(
            f"the answer of {self.address.url}{self.way} can't be used: {reason}", sent=True
        )

    def too_slow(self, request: Request) -> TransportFailure:
        """Make the failure of a request that was not answered in time."""
        seconds = self.seconds(request)
        return TransportFailure(
            f"{self.address.url}{self.way} did not answer within {seconds:g} seconds", sent=True
        )


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Give a context that trusts the system's certificates, or those of SSL_CERT_FILE, and the ones of this file.

    Raises ConfigurationError when SSL_CERT_FILE or SSL_CERT_DIR can't be used.
    """
    import httpx2  # only here: most servers of this machine speak HTTP

    folder = os.environ.get("SSL_CERT_DIR")
    if folder and not Path(folder).is_dir():  # the library takes that for a folder without certificates
        raise ConfigurationError(f"{folder!r} (from SSL_CERT_DIR) can't be used: it is not a folder")
    try:
        context = httpx2.create_ssl_context()
    except OSError as error:
        reason = "it has no certificate as PEM" if isinstance(error, ssl.SSLError) else error.strerror
        named = os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
        raise ConfigurationError(
            f"{named!r} (from SSL_CERT_FILE or SSL_CERT_DIR) can't be used: {reason}"
        ) from error
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def check_answer(status: int, headers: Mapping[str, str], request: Request) -> None:
    """Check the head of an answer with a status below 300.

    Raises UnusableAnswer when it is not one that an Openlaunch server gives, such as a page of a proxy.
    """
    if status == _PARTIAL:
        raise UnusableAnswer("it is a part (206) of what was asked for")
    if (coding := headers.get("content-encoding", "identity")) != "identity":
        raise UnusableAnswer(f"it has the Content-Encoding {coding[:80]!r}, which was not asked for")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "text/html" and not request.signed:
        raise UnusableAnswer(
            "it is a page of HTML, which no Openlaunch server sends there (is the URL right, and is there a proxy on "
            "the way?)"
        )
    if request.stream and kind not in ("text/event-stream", ""):
        raise UnusableAnswer(f"it has the Content-Type {kind[:80]!r}, and a stream has text/event-stream")


def check_size(size: int, request: Request) -> None:
    """Raise PayloadTooLarge when an answer has more bytes than the request takes."""
    if request.max_bytes is not None and size > request.max_bytes:
        raise PayloadTooLarge(f"the answer has over {request.max_bytes} bytes, which is the client's limit")

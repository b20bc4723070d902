"""Bytes that go past the server, to and from the bucket where it keeps its artifacts.

The client opens another host only here, and only where an answer of its own server names the URL and says in a header
that it is the bucket's. No endpoint's owner can write such an answer, and no API key goes to the bucket.
"""

import re

from openlaunch.client.effects import Flow, Pause, Response, call, signed, work
from openlaunch.errors import ConnectionFailed, Forbidden, ForeignURL, PayloadTooLarge
from openlaunch.wire import routes
from openlaunch.wire.bundles import UploadResponse

TRIES = 3
PAUSE_SECONDS = 1.0
CONNECT_SECONDS = 10.0
SECONDS = 60.0
"""Time without any byte sent or received."""

_URL = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/[!-~]*")


class _TryAgain(Exception):
    """The bucket did not answer, or had too much to do."""


def download(url: str) -> Flow[bytes]:
    """Give the bytes behind a signed URL of the server, or of the bucket that it leads to.

    Raises:
        ForeignURL: the URL is not that of an artifact.
        ConnectionFailed: the bucket could not be reached.
    """
    response = yield from call(signed("GET", url))
    if response.status < 300:
        return response.body
    return (yield from _exchanged("GET", response.headers.get("location", "")))


def upload(where: UploadResponse, answer: Response, data: bytes, seconds: float) -> Flow[None]:
    """PUT bytes to where the upload route said in its answer."""
    if routes.BUCKET_HEADER in answer.headers:
        yield from _exchanged("PUT", where.signedUrl, data)
    else:
        yield from call(signed("PUT", where.signedUrl, data, seconds))


def _exchanged(method: str, url: str, body: bytes | None = None) -> Flow[bytes]:
    if not _URL.fullmatch(url):
        raise ForeignURL(
            f"the server names a bucket by {url[:200]!r}, which is not a URL of HTTP: it is not opened"
        )
    for left in reversed(range(TRIES)):
        try:
            return (yield from work(lambda: _sent(method, url, body)))
        except _TryAgain as error:
            if not left:
                raise ConnectionFailed(str(error), sent=True) from error.__cause__
            yield Pause(PAUSE_SECONDS)
    raise AssertionError


def _sent(method: str, url: str, body: bytes | None) -> bytes:
    """Send one request; httpx2's client would log the URL, which is secret, so its transport is used alone."""
    import httpx2  # only here: most servers have no bucket

    from openlaunch.client.effects import MAX_DOWNLOAD_BYTES
    from openlaunch.client.proxies import proxy_for
    from openlaunch.client.transport import USER_AGENT, tls_context

    proxy = proxy_for(url)
    context = tls_context(None) if url.startswith("https:") else False
    host = url.split("/")[2]
    timeout = httpx2.Timeout(SECONDS, connect=CONNECT_SECONDS).as_dict()
    headers = {"user-agent": USER_AGENT, "accept-encoding": "identity"}
    request = httpx2.Request(method, url, content=body, headers=headers, extensions={"timeout": timeout})
    with httpx2.HTTPTransport(verify=context, proxy=proxy.url if proxy else None) as transport:
        try:
            answer = transport.handle_request(request)
            pieces, size = [], 0
            for piece in answer.iter_raw():
                size += len(piece)
                if size > MAX_DOWNLOAD_BYTES:
                    raise PayloadTooLarge(
                        f"the answer has over {MAX_DOWNLOAD_BYTES} bytes, which is the client's limit"
                    )
                pieces.append(piece)
        except httpx2.TransportError as error:
            reason = error or type(error).__name__
            raise _TryAgain(f"the server's bucket at {host} can't be reached: {reason}") from error
        status = answer.status_code
    if status >= 500 or status == 429:
        raise _TryAgain(f"the server's bucket at {host} answered with {status}")
    if status >= 300:
        raise Forbidden(
            f"the server's bucket at {host} answered with {status}: the URL may have expired, ask for a new one",
            code="url_expired",
        )
    return b"".join(pieces)

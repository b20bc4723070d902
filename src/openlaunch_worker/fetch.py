"""Fetches the bytes that a request names by `url`."""

import base64
import contextlib
import http.client
import socket
import string
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from openlaunch_worker.addresses import connector
from openlaunch_worker.documents import Limits
from openlaunch_worker.failures import Refusal
from openlaunch_worker.http_body import read_body
from openlaunch_worker.no_proxy import is_without_proxy

Connect = Callable[..., socket.socket]
SCHEMES: Final = ("http", "https")
REFUSED: Final = 400


class Transfer:
    """One fetch, with the sockets that it and its redirects have opened, so that it can be cut off from outside.

    A socket's own timeout bounds one receive, not the whole: a server that sends a byte now and then would
    hold a slot for ever.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._aborted = False
        self._sockets: list[socket.socket] = []

    def abort(self) -> None:
        """Cut the fetch off, from any thread; before it has begun, too."""
        self._aborted = True
        for sock in list(self._sockets):
            _cut(sock)

    def opened(self, sock: socket.socket) -> None:
        self._sockets.append(sock)
        if self._aborted:
            _cut(sock)

    def fetch(self, limits: Limits) -> bytes:
        """Return the bytes at the http or https URL, all of them within `limits.url_timeout` seconds.

        Raise `Refusal` if the URL has another scheme, leads to an address that is not allowed, can't be fetched,
        takes too long or gives more than `limits.max_url_bytes`.
        """
        timeout = limits.url_timeout
        place = _without_secrets(self._url)
        timer = threading.Timer(timeout, self.abort)
        timer.daemon = True
        timer.start()
        try:
            opener = opener_of(self, allow_private=limits.allow_private)
            data = _read(opener, self._url, timeout, limits.max_url_bytes)
            if self._aborted:
                raise TimeoutError  # what came before the cut can look like a whole answer
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = f"it took longer than {timeout:g} seconds" if self._aborted else _reason(error)
            raise Refusal(f"the input could not be fetched from {place}: {reason}", REFUSED) from None
        finally:
            timer.cancel()
        return data


def opener_of(
    transfer: Transfer,
    redirects: type[urllib.request.HTTPRedirectHandler] | None = None,
    *,
    allow_private: bool,
) -> urllib.request.OpenerDirector:
    """Return an opener for http and https alone, so that a redirect never leads to a file or to ftp.

    It connects to no address that may not be named by a user, with PermissionError as the reason of its URLError.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        _ProxyHandler(),
        urllib.request.UnknownHandler(),
        _http_handler(transfer, allow_private),
        urllib.request.HTTPDefaultErrorHandler(),
        (redirects or urllib.request.HTTPRedirectHandler)(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    opener.addheaders = [("User-Agent", "openlaunch-worker")]
    return opener


class _ProxyHandler(urllib.request.ProxyHandler):
    """Leaves out the proxy for networks of NO_PROXY, too."""

    def proxy_open(self, req: urllib.request.Request, proxy: str, type: str) -> Any:  # noqa: A002 -- urllib names it
        return None if is_without_proxy(req.host) else super().proxy_open(req, proxy, type)


def _cut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        # Not the method of an SSL socket, which takes its state away from the thread that reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _http_handler(transfer: Transfer, allow_private: bool) -> urllib.request.BaseHandler:
    class Connection(http.client.HTTPConnection):
        def __init__(self, host: str, *, connect: Connect, **options: Any) -> None:
            super().__init__(host, **options)
            self._create_connection = connect

        def connect(self) -> None:
            super().connect()
            transfer.opened(self.sock)

    class SecureConnection(Connection, http.client.HTTPSConnection):
        pass

    class Handler(urllib.request.AbstractHTTPHandler):
        def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
            return self.do_request_(_move_login(request))

        https_request = http_request

        def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(partial(Connection, connect=_connect_for(request, allow_private)), request)

        def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
            connect = _connect_for(request, allow_private)
            return self.do_open(partial(SecureConnection, connect=connect), request)

    return Handler()


def _connect_for(request: urllib.request.Request, allow_private: bool) -> Connect:
    """Return how to connect for this request or redirect. What a proxy may connect to is the proxy's own rule."""
    # Not by a look at the URL: its host may be spelled in ways (%31 for 1) that urllib makes the same again.
    proxied = request.has_proxy() or getattr(request, "_tunnel_host", None) is not None
    return socket.create_connection if proxied else connector(allow_private=allow_private)


def _read(opener: urllib.request.OpenerDirector, url: str, timeout: float, max_bytes: int) -> bytes:
    scheme = urllib.parse.urlsplit(url).scheme.lower()
    if scheme not in SCHEMES:
        raise ValueError(f"its scheme is {scheme!r}, http and https are allowed")
    # What is ASCII stays as it is, escapes too; other letters and spaces are escaped.
    ascii_url = urllib.parse.quote(url.strip(), safe=string.punctuation)
    with opener.open(ascii_url, timeout=timeout) as response:
        return read_body(response, max_bytes)


def _move_login(request: urllib.request.Request) -> urllib.request.Request:
    """Send user and password of the URL as headers have them; they are not sent on to where a redirect leads."""
    parts = urllib.parse.urlsplit(request.full_url)
    login, has_login, host = parts.netloc.rpartition("@")
    if has_login:
        request.full_url = parts._replace(netloc=host).geturl()
        basic = base64.b64encode(urllib.parse.unquote_to_bytes(login)).decode()
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    return request


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        with error:
            return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


def _without_secrets(url: str) -> str:
    """Return the URL without user, password, query and fragment, which often hold a signature or a key."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "a malformed URL"
    return urllib.parse.urlunsplit((parts.scheme, host, parts.path, "", ""))

"""What an operation may ask of the world.

An operation is a generator (a *flow*): it yields effects and is sent their answers, so that one text of the
rules serves the blocking and the awaitable client. `openlaunch.client.drivers` runs flows.
"""

import json
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import wraps
from typing import Any, ParamSpec, Protocol, TypeVar
from urllib.parse import quote, urlencode

from openlaunch.errors import ConnectionFailed, ForeignURL
from openlaunch.wire import routes
from openlaunch_worker.values import check_keys, looks_numbered

MAX_DOWNLOAD_BYTES = 4 * 1024**3
"""Largest file that a signed URL may give: the client holds it in memory."""

IDEMPOTENCY_KEY = "idempotency-key"

_SIGNED_URL = re.compile(
    rf"(?:https?://[^/?#]*)?(?:/[A-Za-z0-9._~%-]+)*?({routes.ARTIFACTS}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+\?[A-Za-z0-9&=._-]*)"
)

P = ParamSpec("P")
T = TypeVar("T")
Flow = Generator["Effect", Any, T]
"""A generator of effects that returns a T. `request`, `pause` and `work` below give typed answers."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        url: a path of the server, which begins with `/`. No request goes anywhere else.
        signed: whether the URL itself is the permission, so that the API key stays here.
        timeout: seconds that may pass without any byte sent or received; None leaves it to the client's setting.
        idempotent: whether it does no harm that the server gets it twice.
        prediction: whether it goes over the lean transport.
        stream: whether the answer is read piece by piece.
        patience: seconds for which an unreachable server is asked again, beyond the usual number of retries.
        max_bytes: largest body of an answer that is taken; None takes any.
    """

    method: str
    url: str
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float | None = None
    idempotent: bool = False
    prediction: bool = False
    stream: bool = False
    signed: bool = False
    patience: float = 0.0
    max_bytes: int | None = None

    def unknown(self) -> str:
        """Return what nobody knows about a request without an answer, and what to do, as the end of a message."""
        keyed = IDEMPOTENCY_KEY in self.headers
        if self.idempotent and not keyed:
            return ""
        unknown = "; whether the server carried the request out is not known: look before you send it again"
        can_have_key = self.prediction and not (keyed or self.stream)
        return f"{unknown}, or give it an idempotency_key" if can_have_key else unknown


class Body(Protocol):
    """The body of an answer as it comes."""

    async def read(self) -> bytes:
        """Give the next piece; nothing at the end.

        Raises TransportFailure when the connection broke, or there was no progress in time.
        """

    async def close(self) -> None:
        """Free the connection, by closing it where the body has not been read to its end."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request; header names are in lower case.

    `stream` is set where the request asked for it and the status is below 300; the caller reads and closes it.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    stream: Body | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """Send a request once, without retries."""

    request: Request


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait for some seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Work:
    """Call a function that may take a while: to pickle, to zip, to read files."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class ForOwner:
    """Run a flow whose requests an admin makes for another owner."""

    owner: str
    flow: "Flow[Any]"


Effect = Request | Attempt | Pause | Work | ForOwner


def call(request: Request) -> Flow[Response]:
    """Send a request, with retries, and give its answer.

    Raises:
        APIError: the server answered with an error, or with a redirect, which is not followed.
        ConnectionFailed: it could not be reached.
    """
    response = yield request
    assert isinstance(response, Response)
    return response


def asked(request: Request, read: Callable[[bytes], T]) -> Flow[T]:
    """Send a request as `call` does, and return what `read` makes of its answer's body.

    Raises:
        ConnectionFailed: also where the answer is not one that an Openlaunch server gives, or is cut short.
    """
    return (yield from answered(request, read))[0]


def answered(request: Request, read: Callable[[bytes], T]) -> Flow[tuple[T, Response]]:
    """Do as `asked` does, and return the answer itself, too."""
    return (yield from answered_with(request, lambda response: (read(response.body), response)))


def answered_with(request: Request, read: Callable[[Response], T]) -> Flow[T]:
    """Do as `asked` does; `read` gets the whole answer."""
    response = yield from call(request)
    try:
        return read(response)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        kind = response.headers.get("content-type", "")
        raise ConnectionFailed(
            f"the answer can't be used: its {len(response.body)} bytes, of Content-Type {kind[:80]!r}, are not the "
            f"JSON of an Openlaunch server ({type(error).__name__}; is the URL right, and is there a proxy on the "
            f"way?){request.unknown()}",
            sent=True,
        ) from error


def document_of(body: bytes) -> dict[str, Any]:
    """Read an object of JSON. Raises ValueError where it is something else."""
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("it is not an object")
    return document


def work(function: Callable[[], T]) -> Flow[T]:
    """Call a function without holding up an event loop, and give what it returns."""
    result: T = yield Work(function)
    return result


def json_body(document: Any) -> bytes:
    """Encode a JSON body.

    Raises:
        TypeError: something in it is not a JSON value.
        ValueError: a number in it is not finite, or two keys of a dict are the same in JSON.
    """
    text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    if looks_numbered(text) is not None:
        check_keys(document, "the body")
    return text.encode()


def path_to(route: str, *segments: str) -> str:
    """Return the path of one thing below a route; an id or name is quoted, whatever is in it.

    Raises TypeError where one is not text, and ValueError where it is empty: the path would be that of another route.
    """
    for segment in segments:
        if not isinstance(segment, str):
            raise TypeError(f"an id or a name is needed here, as text, not {segment!r:.100}")
        if not segment:
            raise ValueError("an id or a name is needed here, and an empty text came")
    return "/".join([route, *(quote(segment, safe="") for segment in segments)])


def url_with(path: str, query: Mapping[str, Any]) -> str:
    """Return a path with a query; values of None are left out, and those of a list each have the name."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given, doseq=True)}" if given else path


def time_text(moment: str | datetime | None) -> str | None:
    """Return a point in time, or how long it is ago, as the server reads it."""
    return moment.astimezone().isoformat() if isinstance(moment, datetime) else moment


def for_owner(request: Request, owner: str) -> Request:
    """Return the request as one that an admin makes for another owner, unless it names an owner or is signed."""
    path, _, query = request.url.partition("?")
    if request.signed or "owner=" in query:
        return request
    return replace(request, url=f"{path}?{query}{'&' if query else ''}{urlencode({'owner': owner})}")


def made_for(owner: str, flow: Flow[T]) -> Flow[T]:
    """Run a flow whose requests an admin makes for another owner, and give what it returns."""
    result: T = yield ForOwner(owner, flow)
    return result


def takes_owner(parameter: str) -> Callable[[Callable[P, Flow[T]]], Callable[P, Flow[T]]]:
    """Let the name that an operation takes with this keyword be `owner/name`: an admin makes it for that owner."""

    def decorate(operation: Callable[P, Flow[T]]) -> Callable[P, Flow[T]]:
        @wraps(operation)
        def named(*args: P.args, **kwargs: P.kwargs) -> Flow[T]:
            name = kwargs.get(parameter)
            if not isinstance(name, str) or "/" not in name:
                return operation(*args, **kwargs)
            owner, _, kwargs[parameter] = name.partition("/")
            return made_for(owner, operation(*args, **kwargs))

        return named

    return decorate


def signed(method: str, url: str, body: bytes | None = None, timeout: float | None = None) -> Request:
    """Make the request of a signed URL that an answer named.

    Only the path and the query are taken from the URL, and the request goes to the client's own server: an endpoint's
    owner, who can put a URL into an answer, can't choose whom the client talks to. This also reaches a server that
    knows itself under another name, or below another path, than the client does, because a proxy is between them.

    Raises ForeignURL when it is not the URL of an artifact.
    """
    match = _SIGNED_URL.fullmatch(url)
    if match is None:
        raise ForeignURL(
            f"the answer names the URL {url[:200]!r}, whose path is not below {routes.ARTIFACTS}/: it is not opened, "
            "since an Openlaunch server hands out no others"
        )
    return Request(
        method, match[1], body, timeout=timeout, idempotent=True, signed=True, max_bytes=MAX_DOWNLOAD_BYTES
    )

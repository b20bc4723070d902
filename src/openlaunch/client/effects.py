"""What an operation may ask of the world.

An operation is a generator (a *flow*): it yields effects and is sent their answers, so that one text of the
rules serves the blocking and the awaitable client. `openlaunch.client.drivers` runs flows.
"""

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

T = TypeVar("T")
Flow = Generator["Effect", Any, T]
"""A generator of effects that returns a T. `request`, `pause` and `work` below give typed answers."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request.

    Attributes:
        url: a path of the server; or, of a signed request, a path or a whole URL.
        signed: whether the URL itself is the permission, so that the API key stays here.
        timeout: seconds that may pass without any byte sent or received; None leaves it to the client's setting.
        idempotent: whether it does no harm that the server gets it twice.
        prediction: whether it goes over the lean transport.
        stream: whether the answer is read piece by piece.
        patience: seconds for which an unreachable server is asked again, beyond the usual number of retries.
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

    `stream` is set where the request asked for it and the status is below 400; the caller reads and closes it.
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


Effect = Request | Attempt | Pause | Work


def call(request: Request) -> Flow[Response]:
    """Send a request, with retries, and give its answer.

    Raises:
        APIError: the server answered with a status of 400 or more.
        ConnectionFailed: it could not be reached.
    """
    response = yield request
    assert isinstance(response, Response)
    return response


def work(function: Callable[[], T]) -> Flow[T]:
    """Call a function without holding up an event loop, and give what it returns."""
    result: T = yield Work(function)
    return result


def json_body(document: Any) -> bytes:
    """Encode a JSON body.

    Raises:
        TypeError: something in it is not a JSON value.
        ValueError: a number in it is not finite.
    """
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def path_to(route: str, *segments: str) -> str:
    """Return the path of one thing below a route; an id or name is quoted, whatever is in it."""
    return "/".join([route, *(quote(segment, safe="") for segment in segments)])


def url_with(path: str, query: Mapping[str, Any]) -> str:
    """Return a path with a query; values of None are left out."""
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path

"""Whether a failed request is sent again, and when."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from openlaunch.client.effects import Attempt, Flow, Pause, Request, Response
from openlaunch.errors import APIError, ConnectionFailed
from openlaunch.wire import problems, routes

RETRIED_STATUSES = frozenset({408, 429, 503})
PROXYS = frozenset({502, 503, 504})
"""Statuses by which a proxy says that it has no server, or has lost it. Unlike a server, it names no request."""

NOTHING_RAN = frozenset(
    {
        "stopping",
        "not_leading",
        "busy",
        "bodies_full",
        "endpoint_failed",
        "scaled_to_zero",
        "store_overloaded",
    }
)
"""Codes of a 503 by which the server refuses a request before it begins with it.

After any other 503, such as a proxy's own, the request may have run.
"""


class TransportFailure(Exception):
    """A transport could not get an answer.

    Attributes:
        sent: whether the server may have got the request.
    """

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a request is sent again.

    Attributes:
        max_retries: further tries after the first.
        max_seconds: no try begins later than this after the first.
        base: seconds before the first retry; each further one waits twice as long.
        ceiling: the longest wait in seconds that is not the server's own `Retry-After`.
    """

    max_retries: int = 3
    max_seconds: float = 60.0
    base: float = 0.1
    ceiling: float = 2.0

    def delay(
        self, error: Exception, request: Request, attempt: int, elapsed: float, jitter: float
    ) -> float | None:
        """Return the seconds to wait before the request is sent again, or None to give up.

        `attempt` counts the tries made, `elapsed` is the seconds since the first began, and `jitter` a random
        number from 0 to 1: a wait is between half and the whole of its step, so that clients spread out.
        """
        if not self._may_repeat(error, request):
            return None
        is_away = isinstance(error, TransportFailure) or _is_of_proxy(error)
        patient = is_away and elapsed < request.patience
        if attempt > self.max_retries and not patient:
            return None
        step = min(self.ceiling, self.base * 2.0 ** min(attempt - 1, 30))
        wait = step * (1 + jitter) / 2
        if isinstance(error, APIError) and error.retry_after is not None:
            wait = max(wait, error.retry_after * (1 + jitter / 10))
        return wait if elapsed + wait <= max(self.max_seconds, request.patience) else None

    @staticmethod
    def _may_repeat(error: Exception, request: Request) -> bool:
        if isinstance(error, TransportFailure):
            return request.idempotent or not error.sent
        if not isinstance(error, APIError):
            return False
        if error.status not in RETRIED_STATUSES and not _is_of_proxy(error):
            return False
        return request.idempotent or error.status == 429 or error.code in NOTHING_RAN


def _is_of_proxy(error: Exception) -> bool:
    return isinstance(error, APIError) and error.status in PROXYS and error.request_id is None


def exchange(
    request: Request,
    policy: RetryPolicy,
    clock: Callable[[], float] = time.monotonic,
    rand: Callable[[], float] = random.random,
) -> Flow[Response]:
    """Send a request, again where that is safe and promising, and give its first good answer.

    Raises:
        APIError: the last answer was an error, or a redirect, which is not followed.
        ConnectionFailed: the last try got no answer.
    """
    began = clock()
    attempt = 0
    sent = False
    while True:
        attempt += 1
        error: Exception
        try:
            response: Response = yield Attempt(request)
            if response.status < 300 or _leads_to_bucket(request, response):
                return response
            error = problems.from_response(response.status, response.headers, response.body)
        except TransportFailure as failure:
            error = failure
            sent = sent or failure.sent
        delay = policy.delay(error, request, attempt, clock() - began, rand())
        if delay is None:
            if isinstance(error, TransportFailure):
                raise ConnectionFailed(
                    f"{error}{request.unknown() if sent else ''}", sent=sent
                ) from error.__cause__
            raise error
        yield Pause(delay)


def _leads_to_bucket(request: Request, response: Response) -> bool:
    """Return whether the server itself, and no proxy in between, says that the bytes are in its bucket."""
    return request.signed and response.status == 307 and routes.BUCKET_HEADER in response.headers

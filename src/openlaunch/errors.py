"""Every error that Openlaunch raises, client and server.

::

    OpenlaunchError
    ├── ConfigurationError          no server address or API key was found, or a setting is wrong
    ├── BundleError                 a bundle can't be packed: what is given can't be pickled or zipped
    ├── ConnectionFailed            the server could not be reached, or the connection broke
    │   └── StreamInterrupted       a stream was cut before its end event: items are missing
    ├── ForeignURL                  an answer names a URL that the client does not open
    ├── WaitTimeout                 a wait of the client reached its timeout (also a TimeoutError)
    ├── PredictionFailed            the model, or its worker, failed: `EndpointResponse.raise_for_status`
    ├── TaskCancelled               the task was cancelled before it had a result
    ├── EndpointFailed              an endpoint that a program waited for ended as UPDATE_FAILED
    ├── BatchJobFailed              a batch job that a program waited for did not succeed, or has no results
    └── APIError                    the server answered with an error
        ├── BadRequest              400  the request can't be understood
        ├── Unauthorized            401  no API key, or a wrong one
        ├── Forbidden               403  the key is valid, and its role does not allow this
        ├── NotFound                404  the object does not exist, or belongs to another owner
        ├── MethodNotAllowed        405  the path exists, and does not accept this method
        ├── NotAcceptable           406  the path answers with no type that the Accept header names
        ├── Conflict                409  the name is taken, or the object's state does not allow this
        ├── RequestTimeout          408  the request did not arrive completely in time
        ├── PayloadTooLarge         413  the body is larger than the limit
        ├── UnsupportedMedia        415  the body has a type or a coding that is not taken
        ├── Unprocessable           422  a field has a value that is not allowed: `errors` has its path
        ├── TooManyRequests         429  a queue is full, or a limit of the key is reached: `retry_after`
        │                                says when to try again
        ├── HeadTooLarge            431  the request's headers are too large or too many
        ├── ServerError             500  the server has a fault: report it with `request_id`
        ├── NotServed               501  no path accepts this method, or the server does not do what it asks for
        ├── WorkerDied              502  the worker that ran the request died
        ├── Unavailable             503  the server can't serve this now: `retry_after` may say when it can
        └── DeadlineExceeded        504  the request's own deadline passed

The server raises the `APIError` classes and renders them as problem+json (RFC 9457); the client reads that
back into the same class. `code` is a stable word for programs, the message is for people.

`InvalidInput` is not among them: a predict function raises it to refuse its input with a status of 4xx.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from openlaunch_worker.failures import InvalidInput as InvalidInput


class OpenlaunchError(Exception):
    """The base class: `except OpenlaunchError` catches every error of this package."""


class ConfigurationError(OpenlaunchError):
    """No server address or API key was found, or a setting has a value that is not allowed."""


class BundleError(OpenlaunchError):
    """A bundle can't be packed from what was given."""


class ConnectionFailed(OpenlaunchError):
    """The server could not be reached, or the connection broke before its answer was complete.

    Attributes:
        sent: whether the server may have got the request, and so may have carried it out.
    """

    sent = False

    def __init__(self, message: str, *, sent: bool | None = None) -> None:
        super().__init__(message)
        self.sent = self.sent if sent is None else sent


class StreamInterrupted(ConnectionFailed):
    """A stream ended without its end event, so items are missing."""

    sent = True


class ForeignURL(OpenlaunchError):
    """An answer names a URL that is not one of the server's artifacts, or that the request did not ask for."""


class WaitTimeout(OpenlaunchError, TimeoutError):
    """A wait of the client reached its timeout. What it waited for keeps running."""


class PredictionFailed(OpenlaunchError):
    """A prediction ended as FAILURE.

    Attributes:
        traceback: the model's traceback as text, or the reason why there is none; may be None.
        status_code: the status that the failure stands for, 500 for an exception in the model.
        request_id: the request's id, or the task's, under which the endpoint's log has the failure.
    """

    def __init__(
        self,
        message: str,
        *,
        traceback: str | None = None,
        status_code: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.status_code = status_code
        self.request_id = request_id


class TaskCancelled(OpenlaunchError):
    """The task was cancelled before it had a result."""


class EndpointFailed(OpenlaunchError):
    """An endpoint that a program waited for ended as UPDATE_FAILED; the message is its `status_reason`."""


class BatchJobFailed(OpenlaunchError):
    """A batch job ended as FAILURE, CANCELLED or TIMEOUT, or has no results that could be read."""


class APIError(OpenlaunchError):
    """The server answered with an error.

    Attributes:
        status: the HTTP status.
        retryable: whether the same request may succeed later (429 and 503).
        code: a stable word for programs, such as "endpoint_not_found".
        retry_after: seconds after which a further try makes sense; None where the server named none.
        request_id: the server's id of the request, to be named in reports; None on the server's side.
        errors: for 422, one mapping a field: `loc` (the path), `msg` and `type`.
    """

    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal server error"
    default_code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        retry_after: float | None = None,
        request_id: str | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.retry_after = retry_after
        self.request_id = request_id
        self.errors = list(errors)

    def __str__(self) -> str:
        return f"{self.message} (request {self.request_id})" if self.request_id else self.message


class BadRequest(APIError):
    """400: the request can't be understood."""

    status, title, default_code = 400, "Bad request", "bad_request"


class Unauthorized(APIError):
    """401: no API key was given, or one that is unknown or revoked."""

    status, title, default_code = 401, "Unauthorized", "unauthorized"


class Forbidden(APIError):
    """403: the key's role does not allow this, or its owner's quota does not ("quota_exceeded")."""

    status, title, default_code = 403, "Forbidden", "forbidden"


class NotFound(APIError):
    """404: the object does not exist, or it belongs to another owner."""

    status, title, default_code = 404, "Not found", "not_found"


class MethodNotAllowed(APIError):
    """405: the path exists, and does not accept this method.

    Attributes:
        allowed: on the server's side, the methods that it takes.
    """

    status, title, default_code = 405, "Method not allowed", "method_not_allowed"
    allowed: Sequence[str] = ()


class NotAcceptable(APIError):
    """406: the path answers with no type that the request's `Accept` header names."""

    status, title, default_code = 406, "Not acceptable", "not_acceptable"


class Conflict(APIError):
    """409: the name is taken, or the object's state does not allow this."""

    status, title, default_code = 409, "Conflict", "conflict"


class RequestTimeout(APIError):
    """408: the request began, and its rest did not arrive in time."""

    status, title, default_code = 408, "Request timeout", "request_timeout"


class PayloadTooLarge(APIError):
    """413: the request's body is larger than the server's limit."""

    status, title, default_code = 413, "Payload too large", "payload_too_large"


class UnsupportedMedia(APIError):
    """415: the request's body has a `Content-Type` or a `Content-Encoding` that is not taken."""

    status, title, default_code = 415, "Unsupported media type", "unsupported_media"
    codings = ""
    """Which codings of a body the path takes where that of this one is not, as the header `Accept-Encoding` says."""


class Unprocessable(APIError):
    """422: the request is well-formed, and a field has a value that is not allowed; `errors` names each one."""

    status, title, default_code = 422, "Unprocessable", "unprocessable"


class TooManyRequests(APIError):
    """429: a queue is full ("queue_full"), or a limit of the key or of its owner is reached.

    Those have the codes "rate_limited" and "quota_exceeded".
    """

    status, title, default_code = 429, "Too many requests", "queue_full"
    retryable = True


class HeadTooLarge(APIError):
    """431: the request's headers are too large or too many."""

    status, title, default_code = 431, "Request header fields too large", "head_too_large"


class ServerError(APIError):
    """500: the server has a fault."""


class NotServed(APIError):
    """501: no path takes this method, or what the path does in Launch is not done here: the message says what is."""

    status, title, default_code = 501, "Not served", "not_served"


class WorkerDied(APIError):
    """502: the worker that ran the request died; whether the model ran to its end is not known."""

    status, title, default_code = 502, "Worker died", "worker_died"


class Unavailable(APIError):
    """503: the server can't serve this now."""

    status, title, default_code = 503, "Unavailable", "unavailable"
    retryable = True


class DeadlineExceeded(APIError):
    """504: the request's own deadline passed before there was an answer."""

    status, title, default_code = 504, "Deadline exceeded", "deadline_exceeded"


_BY_STATUS = {cls.status: cls for cls in APIError.__subclasses__()}


def class_for_status(status: int) -> type[APIError]:
    """Return the error class of an HTTP status: the exact one, else BadRequest for 4xx and ServerError for 5xx."""
    return _BY_STATUS.get(status) or (BadRequest if 400 <= status < 500 else ServerError)

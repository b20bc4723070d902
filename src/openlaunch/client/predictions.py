"""What goes into a prediction and what comes out, without I/O."""

import json
import pickle
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from openlaunch.client.effects import IDEMPOTENCY_KEY, Response, json_body
from openlaunch.client.http11 import check_name, check_value
from openlaunch.errors import ForeignURL, PredictionFailed, StreamInterrupted, TaskCancelled
from openlaunch.wire.failures import reason_of
from openlaunch.wire.sse import SSEParser
from openlaunch.wire.tasks import CANCELLED_STATUS_CODE
from openlaunch_worker.files import PARTS

if TYPE_CHECKING:
    from openlaunch.client.types import ValueInParts

DONE = frozenset({"SUCCESS", "FAILURE"})
_MARK = ";type="
"""Stands in each value of a result that is more than JSON."""

MAX_SHOWN = 8000
"""Characters of a traceback in an error's message."""


class EndpointRequest:
    """One request to an endpoint: exactly one of `args` and `url`.

    Args:
        url: of a file, whose bytes are given to the predict function: `predict_fn(bytes)`.
        args: values by name, given to the predict function as keywords: `predict_fn(**args)`. What is not a dict is
            given as it is: `predict_fn(args)`. Beside those of JSON, values may be bytes, paths of files,
            `openlaunch.File`, images of Pillow, arrays, dates and the like, for functions whose annotations take
            them; arrays of the answer are then such, too.
        callback_url: where the result of an async task is POSTed.
        callback_auth_kind: "basic" (with username and password) or "mtls" (with cert and key, as PEM text).
        callback_auth_username: for "basic".
        callback_auth_password: for "basic".
        callback_auth_cert: for "mtls".
        callback_auth_key: for "mtls".
        return_pickled: whether the result comes as a pickle, for return values that are not JSON.
        request_id: names the request in a batch; made where it is not given.
        extra_headers: HTTP headers that go with the request.
        idempotency_key: of a sync or async request. The server runs requests of yours with the same key once, and
            gives the first one's answer again for 24 hours; a broken connection is then no reason for the client
            not to try again. Async requests get one anyway.
        priority: of an async request, from -100 to 100: those of yours with a higher one run first.
        callback_progress: whether the progress and the partial values of an async task are POSTed to `callback_url`
            as they come, too, once a second at most.

    Raises:
        ValueError: both or neither of `url` and `args` are given, or the callback's auth is incomplete.
        TypeError: `url` is not text, or `extra_headers` no dict.
    """

    def __init__(
        self,
        url: str | None = None,
        args: Any = None,
        callback_url: str | None = None,
        callback_auth_kind: str | None = None,
        callback_auth_username: str | None = None,
        callback_auth_password: str | None = None,
        callback_auth_cert: str | None = None,
        callback_auth_key: str | None = None,
        return_pickled: bool = False,
        request_id: str | None = None,
        extra_headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
        priority: int = 0,
        callback_progress: bool = False,
    ) -> None:
        if (url is None) == (args is None):
            given = "both" if url is not None else "neither"
            raise ValueError(f"{given} of url and args is given: give exactly one of them")
        if url is not None and not isinstance(url, str):
            raise TypeError(f"url is {type(url).__name__}, a str is needed; values go by name: args={{...}}")
        self.url = url
        self.args = args
        self.callback_url = callback_url
        self.callback_auth = callback_auth(
            callback_auth_kind,
            callback_auth_username,
            callback_auth_password,
            callback_auth_cert,
            callback_auth_key,
        )
        self.return_pickled = return_pickled
        self.request_id = request_id or str(uuid.uuid4())
        headers: object = extra_headers
        if not (headers is None or isinstance(headers, Mapping)):
            raise TypeError(
                f"extra_headers is {type(headers).__name__}, a dict of names and values is needed"
            )
        self.extra_headers = dict(extra_headers or {})
        self.idempotency_key = idempotency_key
        self.priority = priority
        self.callback_progress = callback_progress

    def __repr__(self) -> str:
        kind = "args" if self.url is None else "url"
        return f"EndpointRequest({kind}=…, request_id={self.request_id!r})"

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that go with the request, by their names in lower case.

        Raises:
            TypeError: one of them, or the idempotency key, is not text.
            ValueError: one has a character that no header can have, or is the client's own.
        """
        headers: dict[str, str] = {}
        for name, value in self.extra_headers.items():
            check_name(name)
            check_value(f"the header {name!r}", value)
            headers[name.lower()] = value
        if self.idempotency_key is not None:
            check_value("idempotency_key", self.idempotency_key)
            headers[IDEMPOTENCY_KEY] = self.idempotency_key
        return headers

    def document(self, **more: Any) -> dict[str, Any]:
        """Return the body as the wire has it; what is at its default is left out."""
        fields = {
            "url": self.url,
            "args": self.args,
            "callback_url": self.callback_url,
            "callback_auth": self.callback_auth,
            "callback_progress": self.callback_progress or None,
            "return_pickled": self.return_pickled or None,
            "priority": self.priority or None,
            **more,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def body(self, **more: Any) -> bytes:
        """Return the body as bytes.

        Raises:
            TypeError: the args have something in them that can't be sent.
            ValueError: the args have a number in them that is not finite.
            OSError: a file in them can't be read.
        """
        return encode(self.document(**more))[0]


def checked_request(request: object) -> EndpointRequest:
    """Return what is given to a prediction. Raises TypeError unless it is an EndpointRequest."""
    if not isinstance(request, EndpointRequest):
        kind = type(request).__name__
        raise TypeError(f"a request is {kind}, an EndpointRequest is needed: EndpointRequest(args={{...}})")
    return request


def encode(document: Any, *, in_parts: bool = False) -> tuple[bytes, str | None]:
    """Encode a prediction's body, and return its type, None for JSON; raises what `EndpointRequest.body` does.

    With `in_parts`, files are sent as they are, which tasks and their like can't be.
    """
    try:
        try:
            return json_body(document), None
        except TypeError:
            from openlaunch.client.types import encode_args, encode_parts  # most requests are JSON

            if in_parts and (body := encode_parts(document)) is not None:
                return body, PARTS
            return encode_args(document), None
    except (TypeError, ValueError) as error:
        if isinstance(error, ValueError) and "float" in str(
            error
        ):  # json's words for it differ between versions
            raise ValueError(
                "the args hold NaN or Infinity, which JSON does not have: put None in their place, or give an array"
            ) from None
        hint = "give JSON values (numbers, text, lists, dicts), files or arrays, or a url to bytes"
        raise type(error)(f"the args can't be sent as JSON: {error}; {hint}") from None


def callback_auth(
    kind: str | None, username: str | None, password: str | None, cert: str | None, key: str | None
) -> dict[str, str] | None:
    """Return how a callback is authenticated, as the wire has it.

    Raises ValueError when the kind is unknown, or does not go with the others.
    """
    given = {"username": username, "password": password, "cert": cert, "key": key}
    present = {name: value for name, value in given.items() if value is not None}
    if kind is None and not present:
        return None
    needed = {"basic": {"username", "password"}, "mtls": {"cert", "key"}}.get(kind or "")
    if needed is None:
        raise ValueError(f"callback_auth_kind is {kind!r}, 'basic' or 'mtls' is needed")
    if set(present) != needed:
        raise ValueError(
            f"callback auth of kind {kind!r} needs {' and '.join(sorted(needed))}, "
            f"given: {', '.join(sorted(present)) or 'nothing'}"
        )
    return {"kind": kind or "", **present}


@dataclass(frozen=True, slots=True)
class Answer:
    """How a prediction ended, or that it has not: its value is JSON text, `result`, or in `parts`."""

    status: str
    result_url: str | None = None
    result: str | None = field(default=None, repr=False)
    traceback: str | None = field(default=None, repr=False)
    status_code: int | None = None
    reason: str = field(default="", repr=False)
    request_id: str | None = None
    parts: "ValueInParts | None" = field(default=None, repr=False)

    @property
    def done(self) -> bool:
        """Whether this is the end."""
        return self.status in DONE

    def raise_for_status(self) -> None:
        """Raise the error of a prediction that did not succeed.

        Raises:
            TaskCancelled: the task was cancelled.
            PredictionFailed: it failed, or has not ended yet.
        """
        if self.status == "SUCCESS":
            return
        if self.status_code == CANCELLED_STATUS_CODE:
            raise TaskCancelled(self.traceback or "the task was cancelled")
        text = (self.traceback or "").strip()
        reason = self.reason or reason_of({"traceback": text}) or "no reason was given"
        # The frames, the whole message, notes and the exceptions of a group are in the traceback.
        more = "" if " ".join(text.split()) in ("", reason) else f"\n\n{_shown(text)}"
        named = f" (request {self.request_id})" if self.request_id else ""
        raise PredictionFailed(
            f"the prediction ended as {self.status}: {reason}{named}{more}",
            traceback=self.traceback,
            status_code=self.status_code,
            request_id=self.request_id,
        )


def _shown(text: str) -> str:
    """Cut a long text in its middle: where it began and how it ended say most."""
    if len(text) <= MAX_SHOWN:
        return text
    return f"{text[: MAX_SHOWN // 4]}\n… `.traceback` has all {len(text)} characters …\n{text[-3 * MAX_SHOWN // 4 :]}"


def parse_answer(document: Mapping[str, Any], *, item: bool = False) -> Answer:
    """Read an answer off the wire. `item`: it is a stream's, whose result is a JSON value and not its text."""
    result = document.get("result")
    url = text = None
    if isinstance(result, dict):
        url = _text(result.get("result_url"))
        if "result" in result:
            value = result["result"]
            text = value if isinstance(value, str) and not item else json.dumps(value)
    traceback = _text(document.get("traceback"))
    status = str(document.get("status"))
    if status != "FAILURE":
        return Answer(status, url, text, traceback, document.get("status_code"))
    request_id = _text(document.get("request_id") or document.get("task_id"))
    return Answer(status, url, text, traceback, document.get("status_code"), reason_of(document), request_id)


def read_answer(body: bytes) -> Answer:
    """Read the answer that a body has. Raises ValueError where it has none."""
    document = json.loads(body)
    if not isinstance(document, dict) or "status" not in document:
        raise ValueError("it is not the answer of a prediction")
    return parse_answer(document)


def answer_of(response: Response) -> Answer:
    """Read the answer of a sync request. Raises ValueError where it has none."""
    if response.headers.get("content-type") != PARTS:
        return read_answer(response.body)
    from openlaunch.client.types import ValueInParts  # most results are JSON

    return Answer("SUCCESS", status_code=200, parts=ValueInParts(response.body))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a task is: a fraction from 0 to 1, and what it does, in its function's words."""

    fraction: float
    text: str = ""

    def __str__(self) -> str:
        return f"{self.fraction:.0%} {self.text}".rstrip()


@dataclass(frozen=True, slots=True)
class Seen:
    """What a task has said so far; `partials` are new, and `next` is the number behind which there is nothing yet."""

    status: str
    progress: Progress | None
    partials: list[Any] = field(repr=False)
    next: int


def parse_seen(document: Mapping[str, Any]) -> Seen:
    """Read what a task has said off the wire."""
    progress = document.get("progress")
    return Seen(
        str(document["status"]),
        None if progress is None else Progress(float(progress["fraction"]), str(progress["text"])),
        [each["value"] for each in document["partials"]],
        int(document["next"]),
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)


class NoResponse:
    """Says how to get a response from what has none yet, where it is asked for what a response has."""

    _how: ClassVar[str]

    if not TYPE_CHECKING:  # for type checkers, there is no such attribute

        def __getattr__(self, name: str) -> Any:
            hint = f": {self._how}" if name in ("value", "result", "status", "traceback") else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}")


class ResponseFields:
    """What the blocking and the awaitable `EndpointResponse` share."""

    _pickle_asked = False
    _reason = ""
    _parts: "ValueInParts | None" = None
    request_id: str | None = None

    @classmethod
    def of(cls, client: Any, answer: Answer, return_pickled: bool = False) -> Self:
        """Make the response of an answer; `return_pickled` says whether the request asked for a pickle."""
        response = cls(
            client, answer.status, answer.result_url, answer.result, answer.traceback, answer.status_code
        )
        response._parts = answer.parts
        response._pickle_asked = return_pickled
        if answer.status == "FAILURE":
            response._reason, response.request_id = answer.reason, answer.request_id
        return response

    def __init__(
        self,
        client: Any,
        status: str,
        result_url: str | None = None,
        result: str | None = None,
        traceback: str | None = None,
        status_code: int | None = None,
    ) -> None:
        self.client = client
        self.status = status
        self.result_url = result_url
        self._result = result
        self.traceback = traceback
        self.status_code = status_code

    @property
    def result(self) -> str | None:
        """What the predict function returned, as JSON text."""
        if self._result is None and self._parts is not None:
            self._result = self._parts.json()
        return self._result

    @result.setter
    def result(self, text: str | None) -> None:
        self._result = text

    def __getstate__(self) -> dict[str, Any]:
        """Leave the client out of a pickle or copy, unless the value is still to be downloaded."""
        state = dict(vars(self))
        if self.result_url is None or {"_value", "_downloaded"} & state.keys():
            del state["client"]
        return state

    def __repr__(self) -> str:
        named = f", request_id={self.request_id!r}" if self.request_id else ""
        return f"{type(self).__name__}(status={self.status!r}, status_code={self.status_code}{named})"

    def __str__(self) -> str:
        named = f", request_id: {self.request_id}" if self.request_id else ""
        return (
            f"status: {self.status}, result: {self.result}, result_url: {self.result_url}, "
            f"traceback: {self.traceback}{named}"
        )

    def raise_for_status(self) -> None:
        """Raise the error of a prediction that did not succeed.

        Raises:
            TaskCancelled: the task was cancelled.
            PredictionFailed: the model, or its worker, failed; `.traceback` has the model's traceback.
        """
        answer = Answer(
            self.status, None, None, self.traceback, self.status_code, self._reason, self.request_id
        )
        answer.raise_for_status()

    def _json_value(self) -> Any:
        if self._parts is not None:
            return self._parts.value()
        if self._result is None:
            return None
        value = json.loads(self._result)
        if _MARK in self._result:
            from openlaunch.client.types import restored  # most results are JSON

            return restored(value)
        return value

    def _pickle_url(self) -> str | None:
        """Return the URL of the pickled value, or None where there is no pickle.

        Raises ForeignURL if the request did not ask for one: unpickling runs code, which the endpoint's owner chose.
        """
        if self.result_url is not None and not self._pickle_asked:
            raise ForeignURL(
                f"the answer names a pickled result, {self.result_url[:200]!r}, that the request did not ask for, so "
                "it is not downloaded: give return_pickled=True to the EndpointRequest or to client.future() if you "
                "trust the endpoint's owner"
            )
        return self.result_url


def unpickled(data: bytes) -> Any:
    """Unpickle, which runs what the pickle says: only for results of endpoints that are trusted."""
    return pickle.loads(data)


MAX_RESUMES = 5
"""Give up after this many consecutive resumes without a new item."""


class StreamReader:
    """Turns a stream's bytes into answers, and knows whether it has come to its end.

    `last_event_id` is the event after which it can be resumed on another connection; None where it can't. `resumes`
    counts the resumes since its last item.
    """

    def __init__(self, last_event_id: str | None = None) -> None:
        self.last_event_id = last_event_id
        self.ended = False
        self._parser = SSEParser()
        self._items = 0
        self.resumes = 0

    def feed(self, piece: bytes) -> Iterator[Answer]:
        """Yield the answers that are complete with this piece.

        Raises StreamInterrupted when what came is not a stream of answers.
        """
        try:
            for event in self._parser.feed(piece):
                self.last_event_id = event.id or self.last_event_id
                if event.name == "end":
                    self.ended = True
                elif event.name == "message":
                    answer = parse_answer(json.loads(event.data), item=True)
                    self._items += 1
                    self.resumes = 0
                    self.ended = self.ended or answer.status == "FAILURE"
                    yield answer
        except (ValueError, AttributeError) as error:
            raise StreamInterrupted(f"after {self._items} items the stream has no item: {error}") from error

    def finish(self, reason: object = "the connection was closed") -> str | None:
        """Note that the bytes have ended; give the event after which to resume, None at the stream's own end.

        Raises StreamInterrupted when they end before the stream does, and it can't be resumed.
        """
        if self.ended:
            return None
        if self.last_event_id is None or self.resumes >= MAX_RESUMES:
            raise self.interrupted(reason)
        self.resumes += 1
        self._parser = SSEParser()
        return self.last_event_id

    def interrupted(self, reason: object) -> StreamInterrupted:
        """Make the error that says how far the stream came."""
        return StreamInterrupted(f"the stream was cut after {self._items} items, before its end: {reason}")

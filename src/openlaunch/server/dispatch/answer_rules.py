"""What the frames of a worker may be: what breaks these rules ends its link, because a worker runs anybody's code.

A worker that keeps to its own limits (`openlaunch_worker.answers`, `openlaunch_worker.failures`) never breaks them.
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import orjson

from openlaunch.server.dispatch.work import Work
from openlaunch.server.prediction.inputs import occurrences
from openlaunch_worker.frames import STREAM_WINDOW, Body, Flags, FrameError, Kind, Outcome
from openlaunch_worker.passing import PASSED_HEADERS, PASSED_VALUE

MAX_FAILURE_BYTES = 1024 * 1024
"""Limit on a document that says why something failed: its text has 64 Ki characters, each up to 12 bytes of JSON."""

_OF_STREAM = b"data: "
"""What stands before a failure that is the last event of a stream."""

_NO_ERROR = {"type": "", "message": ""}
_OF_FAILURE = {"status", "result", "traceback", "status_code", "error"}
"""What a failure says. More would be parsed, again and again, on the way to its caller."""

FRAME_BYTES = 1024
"""What stands around a value."""


def size_limits(max_result_bytes: int) -> dict[int, int]:
    """Return the largest payload of each kind of frame; the others have nothing in them."""
    item = max(max_result_bytes + FRAME_BYTES, MAX_FAILURE_BYTES)
    # The value is JSON text inside a JSON string, in which a quotation mark or a backslash takes two bytes.
    value = max(2 * max_result_bytes + FRAME_BYTES, MAX_FAILURE_BYTES)
    return {
        Kind.RESULT: value,
        Kind.END: item,
        Kind.CHUNK: item + STREAM_WINDOW,
        Kind.LOAD_FAILED: MAX_FAILURE_BYTES,
    }


def check_answer(work: Work, outcome: int, body: Body, max_result_bytes: int) -> Body:
    """Return the answer, a failure's as `bytes`; raise `FrameError` if this can't be the answer to the work."""
    match outcome:
        case Outcome.SUCCESS:
            # No value has more escapes in it than there are backslashes.
            size = len(body) if len(body) <= max_result_bytes else len(body) - occurrences(body, b"\\")
        case Outcome.FAILURE:
            body = check_failure(body)
            size = 0
        case Outcome.PICKLED if Flags.PICKLED in work.flags:
            size = len(body)
        case Outcome.BINARY if Flags.ACCEPTS & work.flags and body and body[-1] < len(body):
            size = len(body)
        case Outcome.CANCELLED if not body:
            size = 0
        case Outcome.UNSERVED if not body and not work.has_begun:
            size = 0
        case _:
            raise FrameError(f"an answer with the outcome {outcome}, which does not fit its request")
    if size > max_result_bytes + FRAME_BYTES:
        raise FrameError(f"an answer with a value of over {max_result_bytes} bytes, which is the limit")
    return body


def check_failure(body: Body) -> bytes:
    """Return these bytes; raise `FrameError` unless they say in the known form why there is not a return value."""
    if len(body) > MAX_FAILURE_BYTES + len(_OF_STREAM):
        raise FrameError(f"a failure of {len(body)} bytes, over the limit of {MAX_FAILURE_BYTES} bytes")
    body = bytes(body)
    failure = read_object(body.removeprefix(_OF_STREAM), "a failure")
    if not failure.keys() <= _OF_FAILURE or failure.get("result") is not None:
        raise FrameError("a failure that says more than why it is one")
    code = failure.get("status_code")
    if type(code) is not int or not 400 <= code <= 599 or type(failure.get("traceback")) is not str:
        raise FrameError("a failure without a status code from 400 to 599, or without a traceback")
    error = failure.get("error", _NO_ERROR)
    if type(error) is not dict or type(error.get("type")) is not str or type(error.get("message")) is not str:
        raise FrameError("a failure whose error is not a type and a message")
    if any(type(each) is not str for each in error.values()):
        raise FrameError("a failure whose error says more than texts")
    return body


def check_head(payload: Body) -> tuple[int, Mapping[str, str]]:
    """Return the status and the headers in a HEAD; raise `FrameError` if they can't be those of an answer."""
    return _checked_head(bytes(payload))


@lru_cache(maxsize=64)  # a model's answers have few
def _checked_head(payload: bytes) -> tuple[int, Mapping[str, str]]:
    head = read_object(payload, "a HEAD")
    status, headers = head.get("status"), head.get("headers")
    if type(status) is not int or not 200 <= status <= 599 or type(headers) is not dict:
        raise FrameError("a HEAD without a status from 200 to 599, or without headers")
    for name, value in headers.items():
        if name not in PASSED_HEADERS or type(value) is not str or PASSED_VALUE.fullmatch(value) is None:
            raise FrameError("a HEAD with a header that is not passed on, or a value that is not allowed")
    return status, MappingProxyType(headers)


def read_object(payload: Body, name: str) -> dict[str, Any]:
    """Read an object of JSON. Raise `FrameError`, which shows nothing of it, if it is not one."""
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        raise FrameError(f"{name} that is not JSON") from None
    if type(document) is not dict:
        raise FrameError(f"{name} that is not an object of JSON")
    return document

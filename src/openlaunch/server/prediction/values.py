"""What is in the answers of workers: the value of one that succeeded, the items of a stream, why one failed."""

from collections.abc import Iterator
from typing import Any

import orjson

from openlaunch.errors import ServerError, class_for_status
from openlaunch.wire.failures import reason_of
from openlaunch.wire.tasks import CANCELLED_STATUS_CODE, TaskStatus
from openlaunch_worker.answers import HEAD, TAIL
from openlaunch_worker.frames import Body

PIECE_BYTES = 1024 * 1024
GONE = 410

_EVENT = b"data: "
_ITEM_HEAD = _EVENT + HEAD
_EVENT_END = b"\n\n"


def value_of(answer: Body) -> Body | None:
    """Return the JSON of the value in an answer; None where there is none.

    A bytearray of more than a piece is changed into it in its place.
    """
    if answer[: len(HEAD)] != HEAD:
        return None
    start, end = len(HEAD) + 1, len(answer) - len(TAIL) - 1
    if end - start <= PIECE_BYTES:
        return _unescaped(answer[start:end])
    value, size = answer if isinstance(answer, bytearray) else bytearray(answer), 0
    while start < end:
        piece = value[start : min(start + PIECE_BYTES, end)]
        if _ends_in_escape(piece):
            piece = value[start : start + PIECE_BYTES + 1]
        start += len(piece)
        text = _unescaped(piece)  # which is no longer than the piece
        value[size : size + len(text)] = text
        size += len(text)
    del value[size:]
    return value


def _unescaped(text: Body) -> bytes:
    """Return what JSON in a string is, in which only quotes and backslashes are escaped, as two bytes each."""
    found: str = orjson.loads(b'"%b"' % bytes(text))
    return found.encode()


def url_of(answer: Body) -> dict[str, Any] | None:
    """Return the document with the URL of a value that is pickled; None where the answer is of another kind."""
    document = orjson.loads(answer)
    return document["result"] if document["status"] == TaskStatus.SUCCESS else None


def _ends_in_escape(piece: Body) -> bool:
    """Return whether the last byte of a part is the first of an escape: it ends with an odd number of backslashes."""
    return (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1


def problem_of(failed: bytes, request_id: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the problem document of the answer of a prediction that failed."""
    document = orjson.loads(failed)
    status = _status_of(document.get("status_code"))
    problem = {
        "type": "about:blank",
        "title": "The prediction failed" if status >= 500 else "The prediction was refused",
        "status": status,
        "detail": reason_of(document),
        "code": "prediction_failed" if status >= 500 else "prediction_refused",
        "request_id": request_id,
    }
    if document.get("error") is not None:
        problem |= {"error": document["error"], "traceback": document["traceback"]}
    return status, problem


def _status_of(code: object) -> int:
    if code == CANCELLED_STATUS_CODE:
        return GONE
    if not isinstance(code, int) or not 400 <= code < 600:
        return ServerError.status
    return class_for_status(code).status


def events_in(events: Body) -> Iterator[memoryview]:
    """Give each event of a piece of a stream, without its end, and without a copy."""
    view, start = memoryview(events), 0
    while start < len(events):
        end = events.find(b"\n", start)  # one byte is found ten times as fast as two
        while end >= 0 and events[end + 1 : end + 2] != b"\n":
            end = events.find(b"\n", end + 1)
        end = len(events) if end < 0 else end
        yield view[start:end]
        start = end + len(_EVENT_END)


def item_in(event: memoryview) -> memoryview | None:
    """Return the item of an event, without a copy; None where it has none."""
    return event[len(_ITEM_HEAD) : -len(TAIL)] if event[: len(_ITEM_HEAD)] == _ITEM_HEAD else None


def parts_of(events: bytes) -> Iterator[tuple[bytes | None, bytes]]:
    """Give the item of each whole event of a stream, or None with the document of a failure; comments have none."""
    for event in events.split(_EVENT_END):
        if event.startswith(_ITEM_HEAD):
            yield event[len(_ITEM_HEAD) : -len(TAIL)], b""
        elif event.startswith(_EVENT):
            yield None, event[len(_EVENT) :]

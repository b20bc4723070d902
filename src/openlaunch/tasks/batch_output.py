"""Writes the results of a batch job, a few at a time: a JSON array, or the pickle of a list.

Nothing is unpickled here: the pickle of the list says that each model's own pickle is to be loaded, which
happens where the list is.
"""

import json
import pickle

_LOADS = (
    pickle.SHORT_BINUNICODE + b"\x06pickle" + pickle.SHORT_BINUNICODE + b"\x05loads" + pickle.STACK_GLOBAL
)


class JsonResults:
    """`[{"status", "result", "traceback", "status_code"}, …]`, with a line for each entry."""

    suffix = "json"

    def __init__(self) -> None:
        self._any = False

    def body(self, body: bytes) -> bytes:
        """Return the bytes for a result that is a finished JSON body."""
        head = b",\n" if self._any else b"[\n"
        self._any = True
        return head + body

    def value(self, pickled: bytes) -> bytes:
        """Refuse a pickle, which JSON cannot hold; the tasks of such a job have none."""
        raise ValueError("a pickle among results in JSON")

    def end(self) -> bytes:
        """Return the bytes that come last."""
        return b"\n]\n" if self._any else b"[]\n"


class PickledResults:
    """The pickle of a list of dicts with the same keys, where `result` is the model's return value itself."""

    suffix = "pkl"

    def __init__(self) -> None:
        self._any = False

    def body(self, body: bytes) -> bytes:
        """Return the bytes for a result that is a finished JSON body: a failure."""
        return self._head() + _loading(pickle.dumps(json.loads(body), protocol=4)) + pickle.APPEND

    def value(self, pickled: bytes) -> bytes:
        """Return the bytes for a result that is a pickle."""
        start = self._head() + pickle.EMPTY_DICT + pickle.MARK
        result = _text("status") + _text("SUCCESS") + _text("result") + _loading(pickled)
        error = _text("traceback") + pickle.NONE
        code = _text("status_code") + pickle.BININT2 + (200).to_bytes(2, "little")
        return b"".join((start, result, error, code, pickle.SETITEMS, pickle.APPEND))

    def end(self) -> bytes:
        """Return the bytes that come last."""
        return self._head() + pickle.STOP

    def _head(self) -> bytes:
        if self._any:
            return b""
        self._any = True
        return pickle.PROTO + b"\x04" + pickle.EMPTY_LIST


def _text(text: str) -> bytes:
    data = text.encode()
    return pickle.SHORT_BINUNICODE + len(data).to_bytes(1, "little") + data


def _loading(pickled: bytes) -> bytes:
    """Write `pickle.loads(pickled)`, to be called when the list is loaded."""
    data = pickle.BINBYTES8 + len(pickled).to_bytes(8, "little") + pickled
    return _LOADS + data + pickle.TUPLE1 + pickle.REDUCE

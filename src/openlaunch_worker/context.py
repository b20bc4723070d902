"""What a predict function may know of its request, and say before it has ended."""

import inspect
import json
import time
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final

from openlaunch_worker import answers
from openlaunch_worker.failures import Refusal
from openlaunch_worker.frames import Kind
from openlaunch_worker.shapes import TAKES

MAX_TEXT: Final = 200
MAX_PARTIAL_BYTES: Final = 60 * 1024
MAX_PARTIALS: Final = 10_000
MAX_PARTIALS_BYTES: Final = 16 * 1024 * 1024
"""Limits of one request: characters of a progress' text, bytes of a partial value, and of all of them together."""

_Note = tuple[Kind, bytes]


class Notes:
    """What one request says before its end, on its way: the latest progress, and each partial value.

    Any thread says it. `post` is called when there is something to take, once until that is taken.
    """

    def __init__(self, post: Callable[[], None]) -> None:
        self._post = post
        self._is_posted = False
        self._progress: bytes | None = None
        self._partials: list[bytes] = []
        self._count = self._size = 0

    def progress(self, data: bytes) -> None:
        self._progress = data
        self._wake()

    def partial(self, data: bytes) -> None:
        """Raise `Refusal` where these are more partial values than one request may have."""
        self._count += 1
        self._size += len(data)
        if self._count > MAX_PARTIALS or self._size > MAX_PARTIALS_BYTES:
            raise Refusal(
                f"the request has more partial values than the {MAX_PARTIALS}, or the {MAX_PARTIALS_BYTES} bytes, "
                "that are allowed: give fewer, or use a streaming endpoint"
            )
        self._partials.append(data)
        self._wake()

    def _wake(self) -> None:
        if not self._is_posted:
            self._is_posted = True
            self._post()

    def take(self) -> list[_Note]:
        self._is_posted = False  # before they are taken: one that is said after them posts again
        count = len(self._partials)
        taken = [(Kind.PARTIAL, data) for data in self._partials[:count]]
        del self._partials[:count]
        progress, self._progress = self._progress, None
        return taken if progress is None else [*taken, (Kind.PROGRESS, progress)]


class Context:
    """What a predict function may know of its request, for a parameter that is annotated with this class.

    Attributes:
        headers: of the HTTP request, by their names in lower case, without those that have the caller's key.
        request_id: the id under which answers and logs name the request; of a task, the task's.
        caller: the owner whose request it is.
        deadline: when its answer is no longer wanted, as `time.time()` has it; None: there is no bound.
        trace: its span, as W3C's `traceparent` names it; None: it is in none.
    """

    def __init__(
        self,
        *,
        headers: Mapping[str, str] | None = None,
        request_id: str = "",
        caller: str = "",
        deadline: float | None = None,
        trace: str | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
        notes: Notes | None = None,
    ) -> None:
        self.headers: Mapping[str, str] = dict(headers or {})
        self.request_id = request_id
        self.caller = caller
        self.deadline = deadline
        self.trace = trace
        self._is_cancelled = is_cancelled
        self._notes = notes

    def __repr__(self) -> str:
        return f"Context(request_id={self.request_id!r}, caller={self.caller!r})"

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the answer: it was cancelled, its client has gone, or its deadline has passed."""
        return self._is_cancelled()

    def time_left(self) -> float | None:
        """Return the seconds until the deadline; None where there is no bound."""
        return None if self.deadline is None else max(self.deadline - time.time(), 0.0)

    def progress(self, fraction: float, text: str = "") -> None:
        """Say how far the task is, from 0 to 1, and in a few words what it does; the latest is what is seen.

        A request of another kind than a task has nobody who reads it, and nothing is sent.
        """
        if not 0 <= fraction <= 1:
            raise ValueError(f"the progress is {fraction}: a fraction from 0 to 1 is needed")
        if self._notes is not None:
            document = {"fraction": float(fraction), "text": str(text)[:MAX_TEXT]}
            self._notes.progress(json.dumps(document).encode())

    def partial(self, value: Any) -> None:
        """Give a part of the task's result before its end; a request of another kind than a task drops it.

        Raise `Refusal`, which fails the request, if it is not JSON, or is larger or one more than is allowed.
        """
        data = answers.partial_value(value)
        if len(data) > MAX_PARTIAL_BYTES:
            raise Refusal(
                f"a partial value has {len(data)} bytes, the limit is {MAX_PARTIAL_BYTES}: give less at a time"
            )
        if self._notes is not None:
            self._notes.partial(data)


def context_parameter(predict: Callable[..., Any]) -> str | None:
    """Return the name of the parameter that is to have the context; None where a function has none."""
    # What `deploy` has found comes first, because not all annotations can be looked up here.
    takes = getattr(predict, TAKES, None) or {}
    found = next((name for name, kind in takes.items() if is_context(kind)), None)
    return found or _annotated(predict, eval_str=True) or _annotated(predict, eval_str=False)


def _annotated(predict: Callable[..., Any], *, eval_str: bool) -> str | None:
    try:
        parameters = inspect.signature(predict, eval_str=eval_str).parameters.values()
    except Exception:
        return None  # an annotation is an expression of a user's, and a callable may be without a signature
    return next((p.name for p in parameters if is_context(p.annotation)), None)


_NAMES: Final = ("Context", "openlaunch.Context", "openlaunch_worker.Context")


def is_context(kind: Any) -> bool:
    """Return whether an annotation is that of a context, also as text, or where it may be None."""
    if isinstance(kind, str):
        return kind.removesuffix(" | None") in _NAMES
    return kind is Context or Context in typing.get_args(kind)

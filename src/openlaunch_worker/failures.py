"""What a user sees of an error: the frames of their own code, and one plain line."""

import builtins
import importlib
import traceback
from pathlib import Path
from typing import Any, Final

OWN_FRAMES: Final = (str(Path(__file__).parent), "<openlaunch>", "<frozen importlib", importlib.__file__)
"""How the names of files begin whose frames tell a user nothing: this package's, and the import machinery's."""

SHORTENED: Final[list[str]] = []
"""Folders of the user's code, which tracebacks leave out: a file is named as it is below them."""

MAX_TEXT: Final = 64 * 1024
MAX_LINE: Final = 1000
MAX_MEMBERS: Final = 3
"""Exceptions of a group that its message names."""


_GROUP: Final[Any] = getattr(builtins, "BaseExceptionGroup", ())
"""Python 3.10 and older have no groups."""


class Refusal(Exception):
    """A request or its result can't be served: the message says why and what to do, `status_code` is for HTTP."""

    def __init__(self, message: str, status_code: int = 500) -> None:
        super().__init__(message)
        self.status_code = status_code


class Unserved(Refusal):
    """The bundle's own server is gone and has had nothing of the request, so that another worker can run it."""


class InvalidInput(Refusal):
    """Raise this in a predict function to refuse an input: callers see the message, and its status, 422 by default.

    Every caller sees the message, also one who does not own the endpoint.
    """

    def __init__(self, message: str, status_code: int = 422) -> None:
        if not 400 <= status_code < 500:
            raise ValueError(f"status_code is {status_code}, from 400 to 499 is needed: the input is refused")
        super().__init__(message, status_code)


def explain(error: BaseException, *, foreign: bool = False) -> tuple[str, int, dict[str, str] | None]:
    """Return a failed request's text, its status code, and the exception's type and message.

    A foreign caller sees the exception's type alone.
    """
    if isinstance(error, Refusal):
        return clean(str(error)), _valid(error.status_code), None
    kind, message = described(error)
    if foreign:
        return f"the model raised {kind}; only the owner of the endpoint sees more", 500, None
    return user_traceback(error), 500, {"type": kind, "message": message}


def _valid(status_code: object) -> int:
    """Return the status, or 500 for one that no failure has: a subclass of user code can have any."""
    return status_code if type(status_code) is int and 400 <= status_code < 600 else 500


def described(error: BaseException) -> tuple[str, str]:
    """Return an exception's type and its message, with its notes and the first exceptions of a group.

    Each has at most `MAX_LINE` characters.
    """
    kind = type(error)
    named = (
        kind.__qualname__
        if kind.__module__ in ("builtins", "__main__")
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        notes = [str(note) for note in getattr(error, "__notes__", ())]
        members = error.exceptions[:MAX_MEMBERS] if isinstance(error, _GROUP) else ()
        message = "\n".join([str(error), *notes, *map(one_line, members)])
    except Exception:
        message = ""  # the error is user code's, and its attributes may be anything
    return _cut(clean(named)), _cut(clean(message))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_LINE else text[: MAX_LINE - 1] + "…"


def clean(text: str) -> str:
    """Return the text with what is not Unicode escaped, and cut in its middle at `MAX_TEXT` characters."""
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= MAX_TEXT:
        return text
    half = MAX_TEXT // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def user_traceback(error: BaseException) -> str:
    """Return the traceback as text, without the runtime's own frames, cut in its middle at `MAX_TEXT` characters."""
    try:
        summary = traceback.TracebackException.from_exception(error)
        _drop_own_frames(summary)
        return clean("".join(summary.format()))
    except Exception as second:
        # The error is user code's, and its attributes may be anything: a request must have its answer all the same.
        return clean(
            f"{type(error).__qualname__}: its traceback can't be shown ({type(second).__qualname__})"
        )


def _drop_own_frames(summary: traceback.TracebackException) -> None:
    seen: set[int] = set()
    todo: list[traceback.TracebackException | None] = [summary]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        frames = [frame for frame in one.stack if not frame.filename.startswith(OWN_FRAMES)]
        for frame in frames:
            _shorten(frame)
        one.stack = traceback.StackSummary.from_list(frames)
        todo += [one.__cause__, one.__context__, *(one.exceptions or ())]


def _shorten(frame: traceback.FrameSummary) -> None:
    for folder in SHORTENED:
        if frame.filename.startswith(folder):
            _ = frame.line  # read by the file's real name, and kept
            frame.filename = frame.filename.removeprefix(folder)
            return


def one_line(error: BaseException) -> str:
    """Return the exception's type and message on one line of at most `MAX_LINE` characters."""
    kind, message = described(error)
    return _cut(" ".join(f"{kind}: {message}".split()) if message.strip() else kind)

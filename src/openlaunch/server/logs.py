"""The server's log: lines of text or JSON; each that belongs to a request has its request id and its trace id."""

import json
import logging
import re
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from datetime import UTC, datetime

from openlaunch.server.asgi import Scope, header, request_id_of
from openlaunch.server.spans import TRACE
from openlaunch.wire.times import stamp_of

_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class Subject:
    """The request that lines are about, until its `end`: what a request has begun may outlast it."""

    __slots__ = ("scope",)

    def __init__(self, scope: Scope) -> None:
        self.scope: Scope | None = scope

    def context(self) -> Context:
        """Return a context in which lines name the request."""
        context = copy_context()
        context.run(_subject.set, self)
        return context

    def end(self) -> None:
        self.scope = None


_subject: ContextVar[Subject | None] = ContextVar("subject", default=None)


@contextmanager
def about(scope: Scope) -> Iterator[None]:
    """Have lines that are logged meanwhile, here and in what this begins, name the request."""
    subject = Subject(scope)
    token = _subject.set(subject)
    try:
        yield
    finally:
        subject.end()
        _subject.reset(token)


def trace_id_of(scope: Scope) -> str | None:
    """Return the trace that a request is part of, or says so by W3C's `traceparent`."""
    if TRACE in scope:
        return f"{scope[TRACE].trace_id:032x}"
    known = _TRACEPARENT.fullmatch(header(scope, b"traceparent") or b"")
    if known is None or (known[1] == b"00" and known[3]):  # only a later version may have more in it
        return None
    return known[2].decode()


def current_scope() -> Scope | None:
    """Return the scope of the request that this runs for."""
    subject = _subject.get()
    return None if subject is None else subject.scope


def _ids(record: logging.LogRecord) -> dict[str, str]:
    scope = current_scope()
    request_id = getattr(record, "request_id", None) or (None if scope is None else request_id_of(scope))
    found = {"request": request_id, "trace": None if scope is None else trace_id_of(scope)}
    return {name: value for name, value in found.items() if value is not None}


class TextFormatter(logging.Formatter):
    """Writes lines for people: `[request=… trace=…]` ends those of a request."""

    def __init__(self) -> None:
        super().__init__(_TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- the name that logging calls
        ids = " ".join(f"{name}={value}" for name, value in _ids(record).items())
        return super().formatMessage(record) + (f" [{ids}]" if ids else "")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines, of which all but the first are indented.

        So what a user or a model wrote neither begins a line, which could be taken for the server's, nor controls a
        terminal.
        """
        return "".join(map(_shown, super().format(record))).replace("\n", "\n    ")


def _shown(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return character.encode("unicode_escape").decode()


class JsonFormatter(logging.Formatter):
    """Writes each record as one JSON object on one line."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": stamp_of(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **_ids(record),
        }
        if record.exc_info:
            document["exception"] = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return json.dumps(document)


FORMATTERS: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}


RARE_SECONDS = 60.0
"""How long a `RareLog` says nothing further of a kind."""


class RareLog:
    """Says in a log what anybody can cause, as often as they like: of each kind a line once in a while."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[str, tuple[float, int]] = {}
        """By kind: when it was said, and how often it has happened since."""

    def warning(self, kind: str, text: str, *values: object) -> None:
        """Say it, with how often it has happened since the last time. Of kinds there is a fixed number."""
        said_at, since = self._said.get(kind, (-RARE_SECONDS, 0))
        now = time.monotonic()
        if now - said_at < RARE_SECONDS:
            self._said[kind] = said_at, since + 1
            return
        self._said[kind] = now, 0
        more = f", and {since} times before" if since else ""
        self._log.warning(f"{text}%s", *values, more)

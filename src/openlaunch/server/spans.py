"""Spans for OpenTelemetry: made when they have ended, and sent by the official SDK from a thread of its own.

Where no receiver is set nothing here is called, and nothing of the SDK is imported.
"""

import random
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic, monotonic_ns, time_ns
from typing import Protocol

from openlaunch.errors import ConfigurationError

TRACE = "openlaunch.trace"
"""Where the scope of a request that is traced has its `Trace`."""

EXPORT_SECONDS = 5.0
STOP_SECONDS = 2.0
MAX_REMEMBERED = 10_000
"""Tasks that have ended, whose callbacks belong to their traces."""

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_IN_BODY = b'{"traceparent":"'
_LENGTH = 55
Attributes = Mapping[str, str | int | float | bool]


class Exemplified(Protocol):
    """What counts predictions, and keeps the trace of some."""

    def exemplify(self, trace_id: int, seconds: float) -> None:
        """Keep which trace a prediction of this time belongs to."""


class Timed(Protocol):
    """Work in a worker: when it began to wait for a slot, and when it got one, by the monotonic clock; 0: never."""

    began: float
    started_at: float

    @property
    def numbers(self) -> Exemplified:
        """What counts it."""


@dataclass(slots=True)
class Trace:
    """A span that has begun. `work` is what it has given to a worker, whose span has the id `work_id`."""

    trace_id: int
    parent_id: int | None
    span_id: int = field(default_factory=lambda: random.getrandbits(64) or 1)
    began: float = field(default_factory=monotonic)
    work: Timed | None = None
    endpoint: str = ""
    attributes: dict[str, int] = field(default_factory=dict)
    """Attributes that are known only after the request has run, such as the tokens of a language model."""
    work_id: int = field(default_factory=lambda: random.getrandbits(64) or 1)

    @classmethod
    def of(cls, traceparent: bytes | None) -> "Trace | None":
        """Return a span within the one that a header names, if that is sampled."""
        known = _TRACEPARENT.match(traceparent or b"")
        if known is None or not int(known[3], 16) & 1:
            return None
        return cls(int(known[1], 16), int(known[2], 16))

    @property
    def traceparent(self) -> bytes:
        """What names this span to those that it causes."""
        return b"00-%032x-%016x-01" % (self.trace_id, self.span_id)

    @property
    def traceparent_of_work(self) -> bytes:
        """What names the span of its work."""
        return b"00-%032x-%016x-01" % (self.trace_id, self.work_id)


def with_traceparent(body: bytes | bytearray, traceparent: bytes) -> bytes | bytearray:
    """Return the JSON of a prediction with the context of its span, which a worker gives to what it runs."""
    if traceparent_in(body) is not None:
        body = b"{" + body[len(_IN_BODY) + _LENGTH + 2 :]
    return body if body[:1] != b"{" else _IN_BODY + traceparent + b'",' + body[1:]


def traceparent_in(body: bytes | bytearray) -> bytes | None:
    """Return the context in the JSON of a prediction."""
    start = len(_IN_BODY)
    end = start + _LENGTH
    if not body.startswith(_IN_BODY) or body[end : end + 2] != b'",':
        return None
    found = bytes(body[start:end])
    return found if _TRACEPARENT.fullmatch(found) else None


class Spans:
    """Decides which requests are traced, and sends their spans. Used in the event loop's thread."""

    def __init__(self, url: str, ratio: float, version: str) -> None:
        """Take the receiver's URL, and the share of the requests without a parent that are traced.

        Raises:
            ConfigurationError: what it needs is not installed.
        """
        try:
            from openlaunch.server.span_export import exporting
        except ImportError as error:
            raise ConfigurationError(
                f"tracing needs what is not installed ({error}): pip install 'openlaunch[otel]'"
            ) from None
        self._ratio = ratio
        self._processor, self._make = exporting(url, version, EXPORT_SECONDS)
        self._remembered: OrderedDict[str, Trace] = OrderedDict()

    def begin(self, traceparent: bytes | None) -> Trace | None:
        """Begin the span of a request; None where it is not traced: its parent decides, and without one the ratio."""
        if traceparent is not None and _TRACEPARENT.match(traceparent):
            return Trace.of(traceparent)
        return Trace(random.getrandbits(128) or 1, None) if random.random() < self._ratio else None

    def end(
        self, trace: Trace, name: str, kind: str, attributes: Attributes, error: str | None = None
    ) -> None:
        """Send a span that ends now, with the parts that its work has had. `kind` is SERVER, CONSUMER or CLIENT."""
        now, work = monotonic(), trace.work
        if work is not None and work.started_at:
            if work.began:
                self._send("wait", trace, None, work.began, work.started_at)
            self._send("worker", trace, trace.work_id, work.started_at, now, error=error)
            work.numbers.exemplify(trace.trace_id, now - (work.began or work.started_at))
        self._send(name, trace, trace.span_id, trace.began, now, kind, attributes, error)

    def part(self, name: str, seconds: float, attributes: Attributes) -> None:
        """Send a span of its own trace, which took this long until now."""
        trace = Trace(random.getrandbits(128) or 1, None, began=monotonic() - seconds)
        self._send(name, trace, trace.span_id, trace.began, monotonic(), attributes=attributes)

    def _send(
        self,
        name: str,
        trace: Trace,
        span_id: int | None,
        start: float,
        end: float,
        kind: str = "INTERNAL",
        attributes: Attributes | None = None,
        error: str | None = None,
    ) -> None:
        is_root = span_id == trace.span_id
        parent = trace.parent_id if is_root else trace.span_id
        offset = time_ns() - monotonic_ns()  # of the time of day, which receivers go by
        span = self._make(
            name=name,
            trace_id=trace.trace_id,
            span_id=span_id or random.getrandbits(64) or 1,
            parent_id=parent,
            start=int(start * 1e9) + offset,
            end=int(end * 1e9) + offset,
            kind=kind,
            attributes=attributes or {},
            error=error,
        )
        self._processor.on_end(span)

    def remember(self, task_id: str, trace: Trace) -> None:
        """Keep the trace of a task that has ended, for its callback."""
        self._remembered[task_id] = trace
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    def begin_callback(self, task_id: str) -> Trace | None:
        """Begin the span of an attempt to send a task's callback, within the task's where that is known."""
        known = self._remembered.get(task_id)
        return None if known is None else Trace(known.trace_id, known.span_id)

    def close(self) -> None:
        """Send what there is, for which a receiver that is slow has a short time only."""
        stopping = threading.Thread(target=self._processor.shutdown, daemon=True)
        stopping.start()
        stopping.join(STOP_SECONDS)

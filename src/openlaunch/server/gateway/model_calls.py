"""Requests that pass through to the HTTP server of a bundle: its answer is passed on as the bytes that come.

Of a stream of events that is done as they come, and so it is of audio, whose connection breaks off where that is cut
short. Other answers are gathered first, so that one which is cut short has the status of an error.
"""

from collections.abc import Mapping
from time import monotonic

import orjson

from openlaunch.errors import APIError, Unavailable, class_for_status
from openlaunch.server.asgi import HARMLESS, STREAM_HEADERS
from openlaunch.server.dispatch.answer_rules import check_head
from openlaunch.server.dispatch.payers import Payer
from openlaunch.server.dispatch.work import StreamCall
from openlaunch.server.gateway.heartbeats import HEARTBEAT, SILENT_TICKS
from openlaunch.server.gateway.model_exchange import ModelExchange
from openlaunch.server.gateway.response import JSON
from openlaunch.server.gateway.streams import Streams
from openlaunch.server.metrics.models import ModelCounts, operation_of
from openlaunch.server.prediction.usage import (
    MARK,
    NOTHING,
    TokenUsage,
    estimate,
    usage_in,
    without_usage_event,
)
from openlaunch.server.spans import TRACE
from openlaunch.wire.failures import reason_of
from openlaunch.wire.openai_errors import error_event
from openlaunch_worker.frames import MIN_CHUNK_BYTES, Body, Flags, Outcome

MAX_USAGE_BYTES = 64 * 1024
"""No engine's event with a usage comes in a larger part of a stream."""

_EVENTS = "text/event-stream"
_AUDIO = "audio/"
_ERROR = 400


class ModelCall(StreamCall):
    """One request of a model, and its client's connection."""

    __slots__ = (
        *("_adds_usage", "_count", "_exchange", "_first_at", "_first_usage", "_gathered", "_headers"),
        *(
            "_is_audio",
            "_last_usage",
            "_passes_on",
            "_payer",
            "_pieces",
            "_silent_ticks",
            "_status",
            "_streams",
        ),
        *("_uncredited", "_used"),
    )
    passes_audio = True
    """Whether audio passes through as it comes."""

    def __init__(
        self,
        streams: Streams,
        exchange: ModelExchange,
        payer: Payer,
        body: Body,
        deadline: float,
        adds_usage: bool,
    ) -> None:
        """Take what is sent; `adds_usage`: the server has asked for the usage of a stream, and not the caller."""
        super().__init__(body, Flags.RAW, deadline, streams.deadlines)
        self._streams = streams
        self._exchange = exchange
        self._payer = payer
        self._adds_usage = adds_usage
        self._status = 0
        self._headers: Mapping[str, str] = {
            **STREAM_HEADERS,
            **exchange.limits,
            "x-request-id": exchange.request_id,
        }
        self._passes_on = self._is_audio = False
        self._gathered = bytearray()
        self._pieces: list[bytes] = []
        self._silent_ticks = 0
        self._uncredited = 0
        self._count = 0
        self._first_at = 0.0
        self._first_usage = self._last_usage = b""
        self._used = NOTHING
        exchange.on_writable = self._grant

    @property
    def name(self) -> str:
        return f"request {self._exchange.request_id}"

    @property
    def owner(self) -> str:
        return self._payer.account.owner

    def end(self) -> bool:
        if not super().end():
            return False
        if self.running and self._status < _ERROR:
            self._used = self._usage
            self._payer.pay(self, self._used)
            if (trace := self._exchange.scope.get(TRACE)) is not None:
                trace.attributes |= {
                    "gen_ai.usage.input_tokens": self._used.input,
                    "gen_ai.usage.output_tokens": self._used.output,
                    "gen_ai.usage.cache_read.input_tokens": self._used.cached,
                }
        return True

    @property
    def has_begun(self) -> bool:
        return self._status > 0

    @property
    def _usage(self) -> TokenUsage:
        """What the engine says; of a stream that was left before it did, an estimate: an event is a token or more."""
        if self._is_audio:
            return NOTHING
        if not self._passes_on:
            return usage_in(self._gathered)
        known = usage_in(self._first_usage).most(usage_in(self._last_usage))
        return known if known.output or not self._count else TokenUsage(len(self.body) // 4, self._count)

    def head(self, payload: Body) -> None:
        self._status, headers = check_head(payload)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        self._passes_on = self._status < _ERROR and kind == _EVENTS
        # Where a comment was sent, what comes has to be events.
        if self.passes_audio and not (self._passes_on or self._exchange.started or self._status >= _ERROR):
            self._passes_on = self._is_audio = kind.startswith(_AUDIO)
        self._headers = {**self._headers, **headers} if self._passes_on else {**JSON, **HARMLESS, **headers}

    def piece(self, data: Body) -> None:
        self._uncredited += max(MIN_CHUNK_BYTES, len(data))
        if not self._passes_on:
            self._gathered += data
            if self._exchange.collect(len(self._gathered)):
                self._grant()
            return
        if not self._count:
            self._first_at = monotonic()
        self._count += 1
        if data.find(MARK) >= 0 and not self._is_audio:
            data = self._with_usage(bytes(data))
            if not data:
                self._grant()
                return
        # What comes in one turn of the loop goes out in one write.
        self._pieces.append(bytes(data))
        if len(self._pieces) == 1:
            if self._exchange.started:
                self._streams.flush_soon(self._flush)
            else:
                self._flush()

    def _with_usage(self, events: bytes) -> bytes:
        """Keep events that have a usage, to be read at the end; leave out what the caller did not ask for."""
        if not self._first_usage:
            self._first_usage = events
        self._last_usage = events
        return without_usage_event(events) if self._adds_usage and len(events) <= MAX_USAGE_BYTES else events

    def tick(self) -> bool:
        """Send a comment if nothing was sent for too long, so that no proxy closes the connection of a long wait."""
        self._silent_ticks += 1
        if self._silent_ticks >= SILENT_TICKS and not self._exchange.write_paused and not self._is_audio:
            self._silent_ticks = 0
            self._exchange.write(HEARTBEAT, self._headers)
        return not self.cancelled

    def _flush(self) -> None:
        self._silent_ticks = 0
        write = self._exchange.write_document if self._is_audio else self._exchange.write
        write(self._take_pieces(), self._headers)
        self._grant()

    def _take_pieces(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _grant(self) -> None:
        """Let the worker send as much more as the client's connection has taken."""
        if not self._exchange.write_paused:
            size, self._uncredited = self._uncredited, 0
            self.passed_on(size)

    def answered(self, outcome: int, payload: Body) -> None:
        if outcome == Outcome.CANCELLED:
            self.failed(Unavailable("the worker stopped before the end of the answer", code="cancelled"))
        elif self._status >= _ERROR:
            self._respond()
            self._counts.failed(str(self._status), self._seconds)
        elif outcome != Outcome.SUCCESS:
            self.failed(_error_of(payload))
        else:
            if self._passes_on:
                self._send_last(b"")
            else:
                if not self._used.total and self._status < _ERROR:
                    self._pay_estimate(len(self._gathered))
                self._respond()
            first = self._first_at - self._since if self._count else None
            self._counts.answered(self._seconds, self._used.input, self._used.output, first)

    def gone(self) -> None:
        unanswered = self.running and not self.cancelled and not self._status
        super().gone()
        if unanswered:
            self._pay_estimate(0)

    def _pay_estimate(self, answer: int) -> None:
        """Pay for what the engine has not said: by the bytes of the request and of the answer."""
        self._used = estimate(self._exchange.engine_route, len(self.body), answer)
        self._payer.pay(self, self._used)

    @property
    def _counts(self) -> ModelCounts:
        return self.numbers.model(operation_of(self._exchange.route))

    @property
    def _since(self) -> float:
        return self.began or self.started_at

    @property
    def _seconds(self) -> float:
        """How long it has waited and run."""
        return monotonic() - self._since if self._since else 0.0

    def _respond(self) -> None:
        """Answer with what was gathered; where a comment has opened a stream, as its event."""
        if self._exchange.started:
            line = bytes(self._gathered).replace(b"\r", b"").replace(b"\n", b" ")
            end = b"" if self._status >= _ERROR else b"data: [DONE]\n\n"
            self._send_last(b"data: %b\n\n%b" % (line, end))
        else:
            self._exchange.respond_as_is(self._status or 200, self._headers, self._gathered)

    def failed(self, error: APIError) -> None:
        exchange = self._exchange
        self._counts.failed(str(error.status), self._seconds)
        if exchange.started and self._is_audio:
            exchange.drop()  # an end would look like that of all of it
        elif exchange.started:
            self._send_last(error_event(error, exchange.request_id, exchange.route))
        else:
            exchange.fail(error)

    def _send_last(self, last: bytes) -> None:
        """Send what is left of a stream, and its end."""
        self._exchange.end(self._take_pieces() + last, self._headers)


def _error_of(payload: Body) -> APIError:
    """Return the error that stands in the place of an answer: the engine has died, or said nothing that is one."""
    document = orjson.loads(bytes(payload).removeprefix(b"data: "))
    kind = class_for_status(int(document["status_code"]))
    return kind(reason_of(document, 2000), code="engine_failed")

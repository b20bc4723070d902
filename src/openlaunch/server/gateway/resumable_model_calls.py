"""Streams of models that clients may resume, because they asked for that with `Openlaunch-Resume: true`."""

import re
from collections.abc import Iterator
from typing import Self

from openlaunch.errors import APIError, BadRequest
from openlaunch.server.dispatch.work import Sender
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.model_calls import ModelCall
from openlaunch.server.gateway.model_exchange import ModelExchange
from openlaunch.server.gateway.resumable import Replay
from openlaunch.server.gateway.streams import RESUMED
from openlaunch.wire.sse import LAST_EVENT_ID
from openlaunch_worker.frames import LARGE_BYTES, Body, Outcome

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_OWN_ID = re.compile(rb"^(?:id(?::[^\r\n]*)?|:[^\r\n]*)(?:\r\n|\n|\r|\Z)", re.MULTILINE)
"""Lines of an engine's events that are left out: the server gives events their ids, and sends comments of its own."""


class ResumableModelCall(ModelCall):
    """A request of a model whose client may lose its connection, and get another one.

    Meanwhile the exchange is the one that is gone, which sends nothing.
    """

    __slots__ = ("_is_away", "_replay")
    passes_audio = False  # what is kept are events

    def kept_in(self, replay: Replay) -> Self:
        """Have `replay` keep what is sent, before anything is."""
        self._replay = replay
        self._is_away = False
        self._headers = {**self._headers, LAST_EVENT_ID: replay.headers[LAST_EVENT_ID]}
        return self

    def started(self, link: Sender, request_id: int) -> None:
        super().started(link, request_id)
        self._streams.resumables.add(self._replay, self)

    def _take_pieces(self) -> bytes:
        return self._streams.resumables.keep(self._replay, super()._take_pieces())

    def _grant(self) -> None:
        if not self._is_away:
            super()._grant()

    def answered(self, outcome: int, payload: Body) -> None:
        if outcome == Outcome.SUCCESS and not self._passes_on and not self._exchange.started:
            self._forget()  # the engine has answered as a whole
        super().answered(outcome, payload)

    def failed(self, error: APIError) -> None:
        if not self._exchange.started:
            self._forget()
        super().failed(error)

    def _send_last(self, last: bytes) -> None:
        self.body = b""  # the stream may be kept for its client, and the body is counted no longer
        events = self._take_pieces() + self._streams.resumables.end(self._replay, last)
        self._exchange.end(events, self._headers)
        if self._exchange.disconnected:
            self._exchange.let_go()  # of what was gathered since

    def gone(self) -> None:
        """Wait for the client's next connection after one was lost, or stop the work."""
        if not self._exchange.started:
            self.give_up()  # the client knows nothing that it could resume
            return
        self._is_away = True
        self._streams.resumables.await_client(self._replay, self.give_up)

    def give_up(self) -> None:
        """Stop the work: no client will come back for it."""
        self._forget()
        super().gone()
        if self._exchange.disconnected:
            self._exchange.let_go()
        else:
            self._exchange.drop()

    def _forget(self) -> None:
        self._streams.resumables.forget(self._replay)

    def resume(self, exchange: Exchange, number: int) -> None:
        """Send what comes after this event on another connection, and close the one there was.

        Raise BadRequest for a request of another kind.
        """
        before = self._exchange
        if not isinstance(exchange, ModelExchange) or exchange.route != before.route:
            raise BadRequest(f"this stream is resumed where it began, by POST {before.route}")
        self._flush()  # what waits here to be sent gets its number first
        missed = self._replay.resume(number)
        self.numbers.resumes += 1
        headers = {**self._headers, **self._replay.headers, "x-request-id": exchange.request_id}
        if not before.disconnected and not before.response_complete:
            before.drop()
        self._is_away, self._exchange, self._headers = False, exchange, headers
        if len(missed) > LARGE_BYTES:
            exchange.write(RESUMED, headers)
            exchange.write_large(missed, headers)
        else:
            exchange.write(RESUMED + missed, headers)
        if self._replay.ended:
            exchange.end(b"", headers)
            return
        exchange.on_gone = self.gone
        exchange.on_writable = self._grant
        self._grant()


def raw_events(data: Body) -> Iterator[bytes]:
    """Give each event of a piece of an engine's stream, without its end, its id and its comments."""
    for event in _END.split(bytes(data)):
        if rest := _OWN_ID.sub(b"", event):
            yield rest

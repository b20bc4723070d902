"""llm-engine's completions (`/v1/llm/completions-sync`, `-stream`): requests to `/v1/completions` of an engine."""

import asyncio
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import orjson

from openlaunch.errors import APIError, BadRequest, ServerError
from openlaunch.server.gateway.exchange import Exchange, HotHandler
from openlaunch.server.gateway.heartbeats import HEARTBEAT
from openlaunch.server.gateway.model_exchange import ModelExchange
from openlaunch.server.gateway.model_routes import ModelRoutes
from openlaunch.server.gateway.request_reader import Head
from openlaunch.server.gateway.response import JSON, Connection
from openlaunch.server.prediction.checks import Checks
from openlaunch.server.prediction.completions import completion_of, tokens_of
from openlaunch.server.prediction.inputs import ModelInput
from openlaunch.server.prediction.schemas import QUICK_BYTES
from openlaunch.wire import routes
from openlaunch_worker.frames import STREAM_WINDOW, Body

MAX_EVENTS_BYTES = 2 * STREAM_WINDOW
"""Limit on what is taken apart of an engine's stream at a time. No worker that keeps to the rules sends more."""

_SYNC, _STREAM = routes.COMPLETIONS_SYNC.encode(), routes.COMPLETIONS_STREAM.encode()
_DONE = b"[DONE]"
_LINES = re.compile(rb"(?:\A|(?<=[\r\n]))(?:data:|:)[^\r\n]*")
"""The lines of events that say something."""

_BAD_INPUT, _FAILED = 400, 500


class CompletionExchange(ModelExchange):
    """One completion. What the engine answers is written as llm-engine's client reads it."""

    __slots__ = ("_finish", "_is_broken", "_responding", "_tokens", "_usage", "checks")

    checks: Checks

    def __init__(self, connection: Connection, handler: HotHandler, head: Head, limit: int) -> None:
        super().__init__(connection, handler, head, limit)
        self._is_broken = False
        """Whether an error was the last event of the stream."""
        self._tokens = 0
        self._usage: dict[str, Any] = {}
        self._finish: dict[str, Any] | None = None
        """The last piece, which waits for the usage."""

    @property
    def engine_route(self) -> str:
        return routes.COMPLETIONS

    def respond_as_is(self, status: int, headers: Mapping[str, str], body: Body) -> None:
        """Answer with the engine's completion, or its refusal: the client knows the status 400 and few others."""
        if len(body) <= QUICK_BYTES:
            self._respond_completed(headers, completion_of(status, body, self.request_id))
        else:
            self._responding = asyncio.get_running_loop().create_task(
                self._respond_large(status, headers, body)
            )
            self.on_gone = self._responding.cancel

    async def _respond_large(self, status: int, headers: Mapping[str, str], body: Body) -> None:
        try:
            made = await self.checks.completion_of(self.owner, status, body, self.request_id)
        except APIError as error:
            self.fail(error)
        else:
            self.guarded(self._respond_completed, headers, made)

    def _respond_completed(self, headers: Mapping[str, str], made: tuple[int, bytes] | None) -> None:
        if made is None:
            self.fail(ServerError("the engine's answer is not a completion", code="engine_failed"))
        else:
            status, body = made
            super().respond_as_is(status, {**headers, **JSON} if status >= _BAD_INPUT else JSON, body)

    def write(self, data: bytes, headers: Mapping[str, str]) -> None:
        super().write(self._translated(data), headers)

    def end(self, data: bytes, headers: Mapping[str, str]) -> None:
        super().end(self._translated(data) + self._last(), headers)

    def _translated(self, events: bytes) -> bytes:
        """Return whole events of the engine, and comments, as the client reads them."""
        if len(events) > MAX_EVENTS_BYTES:
            return b"" if self._is_broken else self._error("a piece of the engine's stream is too large")
        made: list[bytes] = []
        for line in _LINES.findall(events):
            if line.startswith(b":"):
                made[:0] = [] if made else [HEARTBEAT]  # one is enough to say that something comes
            elif not self._is_broken and (data := line[5:].strip()) != _DONE:
                try:
                    made.append(self._event(orjson.loads(data)))
                except (ValueError, LookupError, TypeError, AttributeError):
                    made.append(self._error("an event of the engine's stream is not a piece of a completion"))
        return b"".join(made)

    def _event(self, document: dict[str, Any]) -> bytes:
        if error := document.get("error"):
            return self._error(error["message"])
        if isinstance(usage := document.get("usage"), dict):
            self._usage = usage
        if not (choices := document.get("choices")):
            return self._last()
        text, token = choices[0].get("text") or "", next(iter(tokens_of(choices[0])), None)
        self._tokens += bool(text)
        output = {"text": text, "finished": False, "num_completion_tokens": self._tokens, "token": token}
        if choices[0].get("finish_reason"):
            self._finish = output
            return b""
        return self._said(output) if text else b""

    def _error(self, message: str) -> bytes:
        self._is_broken, self._finish = True, None
        content = {"error": message, "timestamp": datetime.now(UTC).isoformat()}
        return self._said(None, error={"status_code": _FAILED, "content": content})

    def _last(self) -> bytes:
        """Return the last piece, if it waits."""
        output, self._finish = self._finish, None
        if output is None:
            return b""
        count = self._usage.get("completion_tokens", self._tokens)
        prompt = self._usage.get("prompt_tokens")
        more = {"finished": True, "num_prompt_tokens": prompt, "num_completion_tokens": count}
        return self._said({**output, **more})

    def _said(self, output: dict[str, Any] | None, **more: Any) -> bytes:
        document = {"request_id": self.request_id, "output": output, **more}
        return b"data: %b\n\n" % orjson.dumps(document)


class CompletionRoutes(ModelRoutes):
    """Handles llm-engine's completions; the model is the `model_endpoint_name` in the query."""

    exchange: type[Exchange] = CompletionExchange
    posted: Collection[bytes] = (_SYNC, _STREAM)
    resumes = False

    def takes(self, method: bytes, path: bytes) -> bool:
        """Return whether a request is one of llm-engine's completions."""
        return method == b"POST" and path in self.posted

    def handle(self, exchange: Exchange) -> None:
        """Begin with a request whose body is there."""
        assert isinstance(exchange, CompletionExchange)
        exchange.checks = self._schemas.checks
        caller = self._spend(exchange)
        exchange.on_gone = self._tasks.spawn(self._run(exchange, caller, routes.COMPLETIONS), exchange).cancel

    async def _read(self, exchange: ModelExchange, owner: str, route: str) -> ModelInput:
        named = parse_qs(exchange.scope["query_string"].decode("latin-1")).get("model_endpoint_name")
        if not named:
            raise BadRequest("the query has no model_endpoint_name", code="missing_model")
        is_stream = exchange.scope["raw_path"] == _STREAM
        sent = await self._schemas.checks.completion(owner, exchange.body, named[0], is_stream=is_stream)
        options = {"include_usage": True} if is_stream else None
        return ModelInput(sent, named[0], is_stream, options)

"""llm-engine's completions (`/v1/llm/completions-sync`, `-stream`): requests to `/v1/completions` of an engine."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

import orjson
from pydantic import ValidationError

from openlaunch.errors import BadRequest, ServerError
from openlaunch.server.gateway.exchange import Exchange, HotHandler
from openlaunch.server.gateway.model_exchange import ModelExchange
from openlaunch.server.gateway.model_routes import ModelRoutes
from openlaunch.server.gateway.request_reader import Head
from openlaunch.server.gateway.response import JSON, Connection
from openlaunch.server.prediction.completions import body_of, tokens_of, v1_output
from openlaunch.server.prediction.inputs import ModelInput
from openlaunch.wire import routes
from openlaunch.wire.batch_completions import CompletionV1Request
from openlaunch_worker.frames import Body

LARGE_BYTES = 1 << 20
"""From this size on, a body is read in a thread."""

_SYNC, _STREAM = routes.COMPLETIONS_SYNC.encode(), routes.COMPLETIONS_STREAM.encode()
_DONE = b"[DONE]"
_BAD_INPUT, _TOO_MANY, _FAILED = 400, 429, 500


class CompletionExchange(ModelExchange):
    """One completion. What the engine answers is written as llm-engine's client reads it."""

    __slots__ = ("_finish", "_is_broken", "_tokens", "_usage")

    def __init__(self, connection: Connection, handler: HotHandler, head: Head, limit: int) -> None:
        super().__init__(connection, handler, head, limit)
        self._is_broken = False
        """Whether an error was the last event of the stream."""
        self._tokens = 0
        self._usage: dict[str, Any] = {}
        self._finish: dict[str, Any] | None = None
        """The last piece, which waits for the usage."""

    def respond_as_is(self, status: int, headers: Mapping[str, str], body: Body) -> None:
        """Answer with the engine's completion, or its refusal: the client knows the status 400 and few others."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = None
        if status >= _BAD_INPUT:
            text = bytes(body[:2000]).decode("utf-8", "replace")
            named = document.get("error") if isinstance(document, dict) else None
            said = named.get("message", text) if isinstance(named, dict) else text
            status = _BAD_INPUT if status < _FAILED and status != _TOO_MANY else status
            super().respond_as_is(status, {**headers, **JSON}, json.dumps({"detail": said}).encode())
        elif isinstance(document, dict) and (output := v1_output(document)) is not None:
            answer = {"request_id": self.request_id, "output": output}
            super().respond_as_is(200, JSON, json.dumps(answer).encode())
        else:
            self.fail(ServerError("the engine's answer is not a completion", code="engine_failed"))

    def write(self, data: bytes, headers: Mapping[str, str]) -> None:
        super().write(self._translated(data), headers)

    def end(self, data: bytes, headers: Mapping[str, str]) -> None:
        super().end(self._translated(data) + self._last(), headers)

    def _translated(self, events: bytes) -> bytes:
        """Return whole events of the engine, and comments, as the client reads them."""
        made = []
        for line in events.splitlines():
            if line.startswith(b":"):
                made.append(line + b"\n\n")
            elif line.startswith(b"data:") and not self._is_broken and (data := line[5:].strip()) != _DONE:
                try:
                    made.append(self._event(orjson.loads(data)))
                except (ValueError, LookupError, TypeError, AttributeError):
                    made.append(self._error("an event of the engine's stream is not a piece of a completion"))
        return b"".join(made)

    def _event(self, document: dict[str, Any]) -> bytes:
        if error := document.get("error"):
            return self._error(error["message"])
        self._usage = document.get("usage") or self._usage
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
        return b"data: %b\n\n" % json.dumps(document).encode()


class CompletionRoutes(ModelRoutes):
    """Handles llm-engine's completions; the model is the `model_endpoint_name` in the query."""

    exchange: type[Exchange] = CompletionExchange

    def takes(self, method: bytes, path: bytes) -> bool:
        """Return whether a request is one of llm-engine's completions."""
        return method == b"POST" and path in (_SYNC, _STREAM)

    def handle(self, exchange: Exchange) -> None:
        """Begin with a request whose body is there."""
        assert isinstance(exchange, ModelExchange)
        answer = self._spend(exchange, routes.COMPLETIONS)
        exchange.on_gone = self._tasks.spawn(answer, exchange).cancel

    async def _read(self, exchange: ModelExchange, owner: str, route: str) -> ModelInput:
        named = parse_qs(exchange.scope["query_string"].decode("latin-1")).get("model_endpoint_name")
        if not named:
            raise BadRequest("the query has no model_endpoint_name", code="missing_model")
        is_stream = exchange.scope["raw_path"] == _STREAM
        body = bytes(exchange.body)
        if len(body) < LARGE_BYTES:
            sent = _as_sent(body, named[0], is_stream)
        else:
            sent = await asyncio.to_thread(_as_sent, body, named[0], is_stream)
        options = {"include_usage": True} if is_stream else None
        return ModelInput(sent, named[0], is_stream, options)


def _as_sent(body: bytes, model: str, is_stream: bool) -> bytes:
    """Return the body that the engine gets. Raise BadRequest where it is not one of llm-engine's."""
    try:
        asked = CompletionV1Request.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the body"
        raise BadRequest(f"{where}: {first['msg']}", code="invalid_completion") from None
    return json.dumps(body_of(asked, model, is_stream=is_stream)).encode()

"""Passes predictions on to an HTTP server of the bundle's own: a command, or a container.

A prediction is a POST of its `args` as JSON (or of the bytes of its `url`) to the predict route; on a streaming
endpoint to the streaming route, which answers with server-sent events.
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import Message
from typing import Any, Final

from openlaunch_worker.failures import Refusal
from openlaunch_worker.http_body import BodyError, check_status, decoded
from openlaunch_worker.http_stream import EVENTS, JSON_LINES, content_type, item_reader
from openlaunch_worker.jobs import Routed
from openlaunch_worker.passing import PassThrough
from openlaunch_worker.upstream import Answer, Upstream

MAX_ERROR: Final = 2000
_BAD_INPUT: Final = 400
_NOT_FOUND: Final = 404
_NO_CONTENT: Final = 204


class Forwarder:
    """The way to the server, which errors call `name`, for predictions and for what passes through."""

    def __init__(self, name: str, port: int, max_bytes: int) -> None:
        self._name = name
        self._upstream = Upstream(name, port)
        self._max = max_bytes

    def predict(self, flavor: dict[str, Any], streaming: bool) -> Callable[..., Any]:
        """Return the function that predicts, with the routes of the flavour."""
        extra = frozenset([*flavor.get("extra_routes", ()), *flavor.get("routes", ())])
        predict: Callable[..., Any] = (
            self._streaming(str(flavor["streaming_predict_route"]), extra)
            if streaming
            else self._answering(str(flavor["predict_route"]), extra)
        )
        predict.takes_route = True  # type: ignore[attr-defined]
        if spoken := flavor.get("openai"):
            passes = PassThrough(self._name, self._upstream, frozenset(spoken["routes"]), self._max)
            predict.passes = passes  # type: ignore[attr-defined]
        return predict

    def _answering(self, usual: str, extra: frozenset[str]) -> Callable[..., Any]:
        async def predict(*args: Any, **kwargs: Any) -> Any:
            async with self._post(*_content(usual, extra, args, kwargs)) as answer:
                return _value(answer, await self._body(answer))

        return predict

    def _streaming(self, usual: str, extra: frozenset[str]) -> Callable[..., Any]:
        async def predict(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            async with self._post(*_content(usual, extra, args, kwargs)) as answer:
                reader = item_reader(answer)
                while (piece := await answer.piece()) is not None:
                    for item in reader.feed(piece):
                        yield item
                    if reader.is_done:
                        return
                for item in reader.end():
                    yield item

        return predict

    @asynccontextmanager
    async def _post(self, route: str, body: bytes, kind: str) -> AsyncIterator[Answer]:
        """Send a request once, and give its answer once that has begun well; else raise a `Refusal` that says why."""
        answer = Answer()
        connection = await self._upstream.post(route, kind, body, answer)
        try:
            await answer.begun(connection)
            if answer.status >= 300:
                text = (await self._reason(answer)).decode("utf-8", "replace").strip()
                raise Refusal(f"POST {route} of {self._name} answered {answer.status}: {text}")
            check_status(answer.status)
            yield answer
        except BodyError as error:
            raise Refusal(f"POST {route} of {self._name}: {error}") from None
        finally:
            answer.leave()

    async def _reason(self, answer: Answer) -> bytes:
        try:
            return (await self._body(answer))[:MAX_ERROR]
        except BodyError as error:
            return str(error).encode()

    async def _body(self, answer: Answer) -> bytes:
        parts: list[bytes] = []
        size = 0
        while (piece := await answer.piece()) is not None:
            size += len(piece)
            if size > self._max:
                raise BodyError(f"its answer is larger than the limit of {self._max} bytes")
            parts.append(piece)
        return decoded(b"".join(parts), answer.headers.get("content-encoding", ""), self._max)


def _content(
    usual: str, extra: frozenset[str], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[str, bytes, str]:
    """Return the route, the body and its Content-Type."""
    content = args[0] if args else kwargs
    route = usual
    if isinstance(content, Routed):
        route, content = content.route, content.args
        if route not in extra and route != usual:
            allowed = ", ".join(sorted({usual, *extra}))
            raise Refusal(f"destination_path is {route!r}, the bundle's routes are {allowed}", _NOT_FOUND)
    if isinstance(content, bytes):
        return route, content, "application/octet-stream"
    try:
        return route, json.dumps(content, allow_nan=False).encode(), "application/json"
    except ValueError:
        raise Refusal(
            "args has a number that JSON does not have: Infinity, or one above 1e308", _BAD_INPUT
        ) from None


def _value(answer: Answer, data: bytes) -> Any:
    """Return an answer's JSON, else its text. Raise `BodyError` if it is neither, or not what its type says."""
    kind = content_type(answer)
    if kind == EVENTS:
        raise BodyError(
            "it answered with a stream of events, for which the endpoint has to be a streaming one"
        )
    if kind in JSON_LINES and not answer.is_framed and not data.endswith(b"\n"):
        raise BodyError("its answer was cut short: the connection ended in the middle of a line")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        if answer.status != _NO_CONTENT and (kind == "application/json" or kind.endswith("+json")):
            raise BodyError(f"its answer is not the JSON that its Content-Type says: {error}") from None
    charset = _charset(answer)
    try:
        return data.decode(charset)
    except (UnicodeDecodeError, LookupError):
        sort = f"{len(data)} bytes of Content-Type {kind!r}"
        raise BodyError(
            f"it answered with {sort}, which are not text in {charset}: JSON or text is needed"
        ) from None


def _charset(answer: Answer) -> str:
    message = Message()
    message["content-type"] = answer.headers.get("content-type", "")
    return str(message.get_content_charset("utf-8"))

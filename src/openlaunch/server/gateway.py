"""The hot path: predictions, as plain ASGI in front of the control-plane routes.

A payload's bytes are passed on as they came and an answer's as the worker made them; nothing is built here
but errors.
"""

import asyncio
import secrets

from openlaunch.artifacts.base import Artifacts
from openlaunch.errors import APIError, DeadlineExceeded, Unavailable
from openlaunch.server.front import Front, Handler, guarded
from openlaunch.server.http import App, Disconnected, Receive, Scope, Send, send_json
from openlaunch.server.inputs import PredictInput, check_input, refuse_callback
from openlaunch.server.results import SignedURLs, base_url, failure_body, hold_against_schema, pickled_body
from openlaunch.server.work import Call, Stream
from openlaunch.wire import routes
from openlaunch.wire.endpoints import EndpointType
from openlaunch_worker.frames import Outcome

WATCH_AFTER_SECONDS = 0.02
"""A request that takes longer is watched for the client's going away; a faster one need not pay for that."""

STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class Gateway:
    """The sync and streaming routes; everything else goes on to `rest`."""

    def __init__(self, front: Front, artifacts: Artifacts, urls: SignedURLs, rest: App) -> None:
        self._front = front
        self._settings = front.settings
        self._artifacts = artifacts
        self._urls = urls
        self._rest = rest
        self._handlers: dict[tuple[str, str], Handler] = {
            ("POST", routes.SYNC_TASKS): self._sync,
            ("POST", routes.STREAMING_TASKS): self._stream,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        handler = self._handlers.get((scope.get("method", ""), scope.get("path", "")))
        if handler is None:
            await self._rest(scope, receive, send)
            return
        await guarded(handler, scope, receive, send)

    async def _sync(self, scope: Scope, receive: Receive, send: Send) -> None:
        lane, _ = self._front.lane(scope, EndpointType.SYNC)
        body = await self._front.body(scope, receive)
        schemas = await self._front.schemas_of(lane)
        wanted = await check_input(body, schemas)
        refuse_callback(wanted)
        loop = asyncio.get_running_loop()
        call = Call(body, wanted.flags, loop.time() + self._timeout(wanted, EndpointType.SYNC), loop)
        lane.submit(call)
        watch = Watch(call, receive)
        try:
            outcome, payload = await call.answer
        finally:
            watch.stop()
        if outcome == Outcome.PICKLED:
            payload = await self._store_pickle(scope, payload)
        elif outcome == Outcome.CANCELLED:
            raise Unavailable("the worker stopped before it answered", code="cancelled", retry_after=1)
        elif outcome == Outcome.SUCCESS and self._settings.check_responses:
            payload = await hold_against_schema(payload, schemas)
        await send_json(send, payload)

    def _timeout(self, wanted: PredictInput, kind: EndpointType) -> float:
        limit = (
            self._settings.request_timeout_seconds
            if kind is EndpointType.SYNC
            else self._settings.stream_timeout_seconds
        )
        return limit if wanted.timeout is None else min(wanted.timeout, limit)

    async def _store_pickle(self, scope: Scope, payload: bytes) -> bytes:
        key = f"results/{secrets.token_hex(16)}.pkl"
        await self._artifacts.put(key, payload)
        return pickled_body(self._urls.make(base_url(scope), "GET", key))

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        lane, _ = self._front.lane(scope, EndpointType.STREAMING)
        body = await self._front.body(scope, receive)
        wanted = await check_input(body, await self._front.schemas_of(lane))
        refuse_callback(wanted)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout(wanted, EndpointType.STREAMING)
        stream = Stream(body, wanted.flags, deadline, loop)
        lane.submit(stream)
        watch = Watch(stream, receive)
        try:
            await _relay(stream, send)
        finally:
            watch.stop()
            stream.abandon(Disconnected())


async def _relay(stream: Stream, send: Send) -> None:
    """Pass a stream on. Until its first piece there can still be an error status; afterwards an error event."""
    pieces = await stream.next_pieces()
    if not pieces:
        await stream.answer  # raises what refused or broke the stream before its first piece
    await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
    while pieces:
        await send({"type": "http.response.body", "body": pieces, "more_body": True})
        stream.passed_on(len(pieces))
        pieces = await stream.next_pieces()
    await send({"type": "http.response.body", "body": _last_bytes(stream)})


def _last_bytes(stream: Stream) -> bytes:
    error = stream.answer.exception()
    if isinstance(error, Disconnected):
        raise error
    if isinstance(error, APIError):
        return b"data: " + failure_body(str(error), error.status) + b"\n\n"
    outcome, last = stream.answer.result()
    if outcome == Outcome.CANCELLED:
        return b"data: " + failure_body("the worker stopped before the end of the stream", 503) + b"\n\n"
    return last


class Watch:
    """Abandons a call when its deadline passes or its client goes away.

    One timer a call at first; the task that listens for the client only once the call has taken a while.
    """

    __slots__ = ("_call", "_handle", "_receive", "_task")

    def __init__(self, call: Call, receive: Receive) -> None:
        loop = asyncio.get_running_loop()
        self._call = call
        self._receive = receive
        self._task: asyncio.Task[None] | None = None
        self._handle = loop.call_at(min(call.deadline, loop.time() + WATCH_AFTER_SECONDS), self._start)

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            async with asyncio.timeout_at(self._call.deadline):
                while (await self._receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            where = "ran in its worker" if self._call.running else "waited for a worker"
            self._call.abandon(DeadlineExceeded(f"the deadline passed while the request {where}"))
        else:
            self._call.abandon(Disconnected())

    def stop(self) -> None:
        """The call has ended."""
        self._handle.cancel()
        if self._task is not None:
            self._task.cancel()

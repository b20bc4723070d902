"""The Open Inference Protocol over gRPC, on a port of its own: each call is a request to the routes of HTTP.

It is imported where a port is asked for, and nothing of gRPC otherwise.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

import grpc
from grpc import StatusCode

from openlaunch.background import BackgroundTasks
from openlaunch.errors import (
    APIError,
    BadRequest,
    ConfigurationError,
    RequestTimeout,
    ServerError,
    Unavailable,
)
from openlaunch.server.asgi import Scope
from openlaunch.server.bodies import Held
from openlaunch.server.gateway.grpc_messages import (
    HEAD_BYTES,
    INFER,
    METHODS,
    SERVICE,
    STREAM,
    InferAnswer,
    Parsed,
    body_of,
    failed_answer,
    infer_answer,
    parsed,
    stream_answer,
    stream_item,
    wants_empty_end,
)
from openlaunch.server.gateway.grpc_sockets import cut
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.local_requests import LocalAnswer, answered, streamed
from openlaunch.turns import Turns
from openlaunch.wire import routes

log = logging.getLogger(__name__)

MAX_CALLS = 10_000
"""Calls at a time; further ones are refused."""

MAX_UNREAD = 1000
"""Calls at a time whose message is not read yet, of which an owner may have as many as are free."""

MIN_PLACES = 2
"""Messages that are read at a time, where no more bodies than that fit into the memory for them."""

MIN_STREAMS = 8
"""Calls of ModelStreamInfer at a time, where no more bodies than that fit into the memory for them."""

LARGE_BYTES = 256 * 1024
"""A message beyond this is not made or taken apart in the event loop's thread: others run between its copies."""

RECEIVE_SECONDS = 60.0
STREAM_SECONDS = 300.0
"""How long a stream waits for its next message."""

READ_RATE = 256 * 1024
"""Bytes of an answer that a client reads in a second at least, beside the time in which it may read nothing."""

MAX_DETAILS = 4000
STOP_SECONDS = 1.0
_IDLE_MS = 300_000
_OK, _NOT_FOUND, _FAILED, _UNAVAILABLE = 200, 404, 500, 503
_STATUSES = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    408: StatusCode.DEADLINE_EXCEEDED,
    409: StatusCode.ABORTED,
    413: StatusCode.RESOURCE_EXHAUSTED,
    415: StatusCode.INVALID_ARGUMENT,
    422: StatusCode.INVALID_ARGUMENT,
    429: StatusCode.RESOURCE_EXHAUSTED,
    431: StatusCode.RESOURCE_EXHAUSTED,
    503: StatusCode.UNAVAILABLE,
    504: StatusCode.DEADLINE_EXCEEDED,
}
_PASSED = frozenset(
    ("authorization", "idempotency-key", "traceparent", "tracestate", "x-api-key", "x-request-id")
)
"""Metadata of a call that the server reads; a model's context gets the rest as far as it begins with `x-`."""

_OF_ANYBODY = frozenset(("ServerLive", "ServerReady"))
_SHOWN = ("retry-after", "x-request-id")
"""Headers of an answer that a call's trailing metadata has."""

_ITEM, _FAILED_EVENT = b"data: ", b"event: error\ndata: "
_NO_ANSWER = (ValueError, LookupError, TypeError, AttributeError, RecursionError)

_NOT_TENSORS = "the worker's answer is not one of tensors"

Handler = Callable[[Any, Any], Awaitable[Any]]


class Listener(NamedTuple):
    """Where the server listens, with the certificate and its key where it speaks TLS."""

    host: str
    port: int
    tls: tuple[bytes, bytes] | None

    @property
    def address(self) -> str:
        """The address as gRPC names it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def bind(self, server: Any) -> None:
        """Have a server listen there; raise ConfigurationError if it can't."""
        try:
            if self.tls is None:
                port = server.add_insecure_port(self.address)
            else:
                cert, key = self.tls
                port = server.add_secure_port(self.address, grpc.ssl_server_credentials([(key, cert)]))
        except RuntimeError as error:
            raise ConfigurationError(
                f"can't listen on {self.address} for gRPC: {error}; name another port with --grpc-port"
            ) from None
        log.info("gRPC: %s", self._replace(port=port).address)


@asynccontextmanager
async def open_grpc(listener: Listener, services: HttpServices) -> AsyncIterator[None]:
    """Serve the protocol with these services. Raise ConfigurationError if the port can't be used."""
    calls = Calls(services)
    server = grpc.aio.server(
        maximum_concurrent_rpcs=MAX_CALLS,
        options=[
            ("grpc.max_receive_message_length", services.max_body_bytes + HEAD_BYTES),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_connection_idle_ms", _IDLE_MS),
            ("grpc.max_allowed_incoming_connections", services.connections.of_grpc),
            ("grpc.server_handshake_timeout_ms", int(services.read_seconds * 1000)),
            ("grpc.so_reuseport", 0),
        ],
    )
    receiver = Receiver(services)
    handlers = {name: receiver.handler(name, getattr(calls, name)) for name in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    listener.bind(server)
    await server.start()
    try:
        yield
    finally:
        await server.stop(STOP_SECONDS)


class Receiver:
    """Reads the messages of calls, each of which may be as large as a body.

    A message is read once its caller's key is known to be good and there is a place for it: until it is there as a
    whole, nobody knows its size. gRPC keeps little of what is not read.
    """

    def __init__(self, services: HttpServices) -> None:
        self._services = services
        self._unread = Turns(MAX_UNREAD)
        places = services.bodies.limit // services.max_body_bytes
        self._turns = Turns(max(MIN_PLACES, places))
        self._streams = Turns(max(MIN_STREAMS, places))

    def handler(self, name: str, run: Handler) -> Any:
        """Return the handler of a method, which gets its message; those that anybody may call get none."""

        async def handle(requests: Any, context: Any) -> Any:
            return await run(None if name in _OF_ANYBODY else await self._message(name, context), context)

        if name == STREAM:

            async def handle_stream(requests: Any, context: Any) -> None:
                await self._read(context, self._run_stream(run, context))

            return grpc.stream_stream_rpc_method_handler(handle_stream, response_serializer=_sent)
        return grpc.stream_unary_rpc_method_handler(handle, response_serializer=_sent)

    async def _message(self, name: str, context: Any) -> Any:
        return await self._read(context, self._one_message(name, context))

    async def _read(self, context: Any, work: Coroutine[Any, Any, Any]) -> Any:
        """Return what comes of reading messages; what is refused ends the call."""
        try:
            return await work
        except APIError as refused:
            self._services.counts.refused(refused)
            return await _abort(context, refused.status, refused.message, {})

    async def _one_message(self, name: str, context: Any) -> Any:
        owner = self._services.admit(_scope(context)).owner
        if self._unread.room(owner) < 1:
            text = "the messages of too many calls are still to be read: send those first"
            raise Unavailable(text, code="bodies_full", retry_after=1)
        try:
            async with asyncio.timeout(RECEIVE_SECONDS), self._unread.of(owner), self._turns.of(owner):
                message = await context.read()
        except TimeoutError:
            raise RequestTimeout(f"the message did not come within {RECEIVE_SECONDS:g} seconds") from None
        if message is grpc.aio.EOF:
            raise BadRequest("the call has no message", code="invalid_tensor")
        await _others_turn(message)
        found = parsed(name, message)
        return found if name == INFER else found.request

    async def _run_stream(self, run: Handler, context: Any) -> None:
        """Run a prediction for each message of a stream, one after another.

        A stream has a place for as long as it is open: nobody knows when its next message begins to come.
        """
        owner = self._services.admit(_scope(context)).owner
        if self._streams.room(owner) < 1:
            text = "too many streams are open: end one of them, or send several requests in one"
            raise Unavailable(text, code="streams_full", retry_after=1)
        async with self._streams.of(owner):
            while True:
                try:
                    async with asyncio.timeout(STREAM_SECONDS):
                        message = await context.read()
                except TimeoutError:
                    raise RequestTimeout(f"no message came for {STREAM_SECONDS:g} seconds") from None
                if message is grpc.aio.EOF:
                    return
                self._services.admit(_scope(context))  # the key may have been revoked meanwhile
                await _others_turn(message)
                await run(parsed(STREAM, message), context)


async def _abort(context: Any, status: int, text: str, headers: dict[str, str]) -> None:
    code = _STATUSES.get(status, StatusCode.INTERNAL)
    shown = tuple((name, headers[name]) for name in _SHOWN if name in headers)
    await context.abort(code, text[:MAX_DETAILS], shown)


def _headers(metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    return {
        name: value
        for name, value in metadata
        if isinstance(value, str)
        and (name in _PASSED or (name.startswith("x-") and not name.startswith("x-forwarded")))
    }


def _scope(context: Any) -> Scope:
    """Return what says whose call it is."""
    headers = _headers(context.invocation_metadata()).items()
    return {"headers": [(name.encode(), value.encode()) for name, value in headers], "query_string": b""}


def _path(name: str, version: str, end: str) -> str:
    if not name:
        raise BadRequest("the model's name is empty: an endpoint's name is needed", code="invalid_tensor")
    of_version = f"/versions/{quote(version, safe='')}" if version else ""
    return f"{routes.INFERENCE}/models/{quote(name, safe='')}{of_version}{end}"


class Calls:
    """The methods of the service, by their names in the protocol."""

    def __init__(self, services: HttpServices) -> None:
        self._services = services
        self._background = BackgroundTasks("the connection of a client of gRPC could not be cut")

    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tell whether the server runs."""
        return METHODS["ServerLive"].answer(live=True)

    async def ServerReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tell whether the server can serve."""
        ready = await self._of(
            context, lambda: ("GET", f"{routes.INFERENCE}/health/ready", {}), (_UNAVAILABLE,)
        )
        return METHODS["ServerReady"].answer(ready=ready.status == _OK)

    async def ServerMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Describe the server."""
        found = await self._of(context, lambda: ("GET", routes.INFERENCE, {}))
        return METHODS["ServerMetadata"].answer(**json.loads(found.body))

    async def ModelReady(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Tell whether an endpoint serves; one that is not there does not."""
        found = await self._of(
            context,
            lambda: ("GET", _path(request.name, request.version, "/ready"), {}),
            (_UNAVAILABLE, _NOT_FOUND),
        )
        return METHODS["ModelReady"].answer(ready=found.status == _OK)

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Describe the tensors of an endpoint."""
        found = await self._of(context, lambda: ("GET", _path(request.name, request.version, ""), {}))
        return METHODS["ModelMetadata"].answer(**json.loads(found.body))

    async def ModelInfer(self, call: Parsed, context: Any) -> Any:  # noqa: N802
        """Run a prediction."""
        request = call.request

        def asked() -> tuple[str, str, dict[str, str], bytearray]:
            path = _path(request.model_name, request.model_version, "/infer")
            return "POST", path, *body_of(call, context.time_remaining())

        found = await self._of(context, asked)
        try:
            self._hold(context, len(found.body))
            return await _made(
                len(found.body), lambda: b"".join(infer_answer(found.headers, found.body).parts())
            )
        except APIError as full:
            self._services.counts.refused(full)
            return await _abort(context, full.status, full.message, found.headers)
        except _NO_ANSWER:  # it is the model's, which may say anything
            return await _abort(context, _FAILED, _NOT_TENSORS, found.headers)

    async def ModelStreamInfer(self, call: Parsed, context: Any) -> None:  # noqa: N802
        """Run a prediction of a stream, and send an answer for each item; why it failed is one, too."""
        request = call.request
        try:
            async with aclosing(self._answers(call, context)) as found:
                async for answer in found:
                    await self._write(context, answer)
        except APIError as error:
            self._services.counts.refused(error)
            await self._write(context, _sent(failed_answer(request, error.message[:MAX_DETAILS])))

    async def _answers(self, call: Parsed, context: Any) -> AsyncGenerator[bytes, None]:
        """Yield the answers to one request. Raise APIError where it can't be sent, or its answer is broken off."""
        request = call.request
        empty_end = wants_empty_end(request)
        path = _path(request.model_name, request.model_version, "/infer")
        more, body = body_of(call, context.time_remaining())
        headers = {**_headers(context.invocation_metadata()), **more}
        async with aclosing(
            streamed(self._services, path, headers, body, _address(context.peer()))
        ) as events:
            async for event in events:
                if isinstance(event, LocalAnswer):
                    if event.status != _OK:
                        yield _sent(failed_answer(request, _reason(event)[:MAX_DETAILS]))
                        return
                    whole = partial(_of_tensors, infer_answer, event.headers, event.body)
                    yield await _made(len(event.body), partial(_sent_of_stream, whole, is_last=True))
                    return
                if event.startswith(_FAILED_EVENT):
                    failure = json.loads(event.removeprefix(_FAILED_EVENT))
                    yield _sent(failed_answer(request, str(failure["detail"])[:MAX_DETAILS]))
                    return
                if event.startswith(_ITEM):
                    item = partial(_of_tensors, stream_item, memoryview(event)[len(_ITEM) :])
                    yield await _made(len(event), partial(_sent_of_stream, item, is_last=False))
        if empty_end:
            end = METHODS["ModelInfer"].answer(model_name=request.model_name, id=request.id)
            yield stream_answer(InferAnswer(end), is_last=True)

    async def _write(self, context: Any, answer: bytes) -> None:
        """Send an answer of a stream, which its caller has to read before long."""
        held = Held(self._services.unsent, self._services.admit(_scope(context)).owner)
        size = len(answer)
        held.resize(size)
        seconds = self._services.write_seconds + size / READ_RATE
        late = asyncio.get_running_loop().call_later(seconds, self._cut, context.peer())
        try:
            await context.write(answer)
        finally:
            late.cancel()
            held.resize(0)

    def _hold(self, context: Any, size: int) -> None:
        """Count an answer until its caller has read it, which may not take long.

        Raises Unavailable if there is no room.
        """
        owner = self._services.admit(_scope(context)).owner
        held = Held(self._services.unsent, owner)
        held.resize(size)
        seconds = self._services.write_seconds + size / READ_RATE
        late = asyncio.get_running_loop().call_later(seconds, self._cut, context.peer())

        def done(_: Any) -> None:
            late.cancel()
            held.resize(0)

        context.add_done_callback(done)

    def _cut(self, peer: str) -> None:
        if (client := _address(peer)) is not None:
            log.warning("gRPC: the client %s does not read its answer: its connection is cut", client[0])
            self._background.spawn(asyncio.to_thread(cut, client))

    async def _of(
        self,
        context: Any,
        asked: Callable[[], tuple[str, str, dict[str, str]] | tuple[str, str, dict[str, str], bytearray]],
        allowed: tuple[int, ...] = (),
    ) -> LocalAnswer:
        """Return the answer to a request; another status than 200 and those that are allowed ends the call."""
        try:
            method, path, more, *body = asked()
            headers = {**_headers(context.invocation_metadata()), **more}
            client = _address(context.peer())
            found = await answered(
                self._services, method, path, headers, body[0] if body else bytearray(), client
            )
        except APIError as error:
            self._services.counts.refused(error)
            found = LocalAnswer(error.status, {}, json.dumps({"error": error.message}).encode())
        if found.status != _OK and found.status not in allowed:
            await _abort(context, found.status, _reason(found), found.headers)
        return found


async def _others_turn(message: bytes) -> None:
    """Let others run before a large message, which was copied just now, is copied again."""
    if len(message) > LARGE_BYTES:
        await asyncio.sleep(0)


async def _made(size: int, make: Callable[[], bytes]) -> bytes:
    """Make an answer of about this size."""
    return await asyncio.to_thread(make) if size > LARGE_BYTES else make()


def _sent(answer: Any) -> bytes:
    """Return the bytes of an answer, which it may be already."""
    return answer if isinstance(answer, bytes) else bytes(answer.SerializeToString())


def _sent_of_stream(make: Callable[[], InferAnswer], *, is_last: bool) -> bytes:
    return stream_answer(make(), is_last=is_last)


def _of_tensors(make: Callable[..., InferAnswer], *given: Any) -> InferAnswer:
    """Return the answer that a worker's answer is; raise ServerError where it is not one."""
    try:
        return make(*given)
    except _NO_ANSWER:
        raise ServerError(_NOT_TENSORS) from None


def _reason(found: LocalAnswer) -> str:
    return str(json.loads(found.body)["error"])


def _address(peer: str) -> tuple[str, int] | None:
    """Return who calls, as gRPC names them: `ipv4:127.0.0.1:5000`, or `ipv6:%5B::1%5D:5000`."""
    _, _, address = peer.partition(":")
    host, _, port = address.replace("%5B", "").replace("%5D", "").rpartition(":")
    return (host, int(port)) if host and port.isdigit() else None

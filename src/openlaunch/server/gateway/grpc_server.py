"""The Open Inference Protocol over gRPC, on a port of its own: each call is a request to the routes of HTTP.

It is imported where a port is asked for, and nothing of gRPC otherwise.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

import grpc
from grpc import StatusCode

from openlaunch.background import BackgroundTasks
from openlaunch.errors import APIError, BadRequest, ConfigurationError, RequestTimeout, Unavailable
from openlaunch.server.asgi import Scope
from openlaunch.server.gateway.bodies import Held
from openlaunch.server.gateway.grpc_messages import (
    HEAD_BYTES,
    METHODS,
    SERVICE,
    body_of,
    infer_answer,
    parsed,
)
from openlaunch.server.gateway.grpc_sockets import cut
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.local_requests import LocalAnswer, answered
from openlaunch.turns import Turns
from openlaunch.wire import routes

log = logging.getLogger(__name__)

MAX_CALLS = 10_000
"""Calls at a time; further ones are refused."""

MAX_UNREAD = 1000
"""Calls at a time whose message is not read yet, of which an owner may have as many as are free."""

MIN_PLACES = 2
"""Messages that are read at a time, where no more bodies than that fit into the memory for them."""

RECEIVE_SECONDS = 60.0
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
"""What of a call's metadata the server reads; a model's context gets the rest as far as it begins with `x-`."""

_OF_ANYBODY = frozenset(("ServerLive", "ServerReady"))
_SHOWN = ("retry-after", "x-request-id")
"""Headers of an answer that a call's trailing metadata has."""

_NO_ANSWER = (ValueError, LookupError, TypeError, AttributeError, RecursionError)

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
        self._turns = Turns(max(MIN_PLACES, services.bodies.limit // services.max_body_bytes))

    def handler(self, name: str, run: Handler) -> Any:
        """Return the handler of a method, which gets its message; those that anybody may call get none."""

        async def handle(requests: Any, context: Any) -> Any:
            return await run(None if name in _OF_ANYBODY else await self._message(name, context), context)

        return grpc.stream_unary_rpc_method_handler(
            handle, response_serializer=METHODS[name].answer.SerializeToString
        )

    async def _message(self, name: str, context: Any) -> Any:
        try:
            owner = self._services.admit(_scope(context)).owner
            if self._unread.room(owner) < 1:
                text = "the messages of too many calls are still to be read: send those first"
                raise Unavailable(text, code="bodies_full", retry_after=1)
            async with asyncio.timeout(RECEIVE_SECONDS), self._unread.of(owner), self._turns.of(owner):
                message = await context.read()
            if message is grpc.aio.EOF:
                raise BadRequest("the call has no message", code="invalid_tensor")
            return parsed(name, message)
        except TimeoutError:
            error: APIError = RequestTimeout(f"the message did not come within {RECEIVE_SECONDS:g} seconds")
        except APIError as refused:
            error = refused
        self._services.counts.refused(error)
        return await _abort(context, error.status, error.message, {})


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

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Run a prediction."""

        def asked() -> tuple[str, str, dict[str, str], bytearray]:
            path = _path(request.model_name, request.model_version, "/infer")
            return "POST", path, *body_of(request, context.time_remaining())

        found = await self._of(context, asked)
        try:
            self._hold(context, len(found.body))
            return infer_answer(found.headers, found.body)
        except APIError as full:
            self._services.counts.refused(full)
            return await _abort(context, full.status, full.message, found.headers)
        except _NO_ANSWER:  # it is the model's, which may say anything
            return await _abort(context, _FAILED, "the worker's answer is not one of tensors", found.headers)

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


def _reason(found: LocalAnswer) -> str:
    return str(json.loads(found.body)["error"])


def _address(peer: str) -> tuple[str, int] | None:
    """Return who calls, as gRPC names them: `ipv4:127.0.0.1:5000`, or `ipv6:%5B::1%5D:5000`."""
    _, _, address = peer.partition(":")
    host, _, port = address.replace("%5B", "").replace("%5D", "").rpartition(":")
    return (host, int(port)) if host and port.isdigit() else None

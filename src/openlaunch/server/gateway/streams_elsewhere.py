"""Streams of other servers: behind a balancer, a client that resumes one may come to a server without it."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

from openlaunch.errors import NotFound
from openlaunch.server.asgi import STREAM_HEADERS, header, request_id_of
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.heartbeats import BEATING
from openlaunch.server.gateway.passing_on import ANY_OTHER, PASSED_ON, Reach, answer_of, request_of
from openlaunch.wire import routes
from openlaunch.wire.problems import from_response
from openlaunch.wire.sse import BEAT, LAST_EVENT_ID
from openlaunch_worker.http_body import BodyError

NAME_LENGTH: Final = 8
"""Characters of a server's name, with which the ids of its streams begin."""
MAX_PROBLEM_BYTES: Final = 64 * 1024
_OK: Final = 200


class StreamsElsewhere:
    """Passes requests for streams on to the server that has them. `name` is this server's."""

    def __init__(self, name: str, reach: Reach) -> None:
        self.name, self._reach = name, reach

    def server_of(self, exchange: Exchange, last_event_id: bytes) -> str:
        """Return the name of the server that may have a stream which this one has not; "" where there is none."""
        if header(exchange.scope, PASSED_ON) is not None:
            return ""
        name = last_event_id[:NAME_LENGTH].decode("latin-1")
        return ANY_OTHER if name == self.name else name

    async def continued(
        self, exchange: Exchange, query: bytes, last_event_id: bytes, begin: Callable[[], object]
    ) -> bool:
        """Pass back what another server has of a stream, behind this event; return False where it has none.

        `begin` is called before anything is written.
        """
        scope, client = exchange.scope, exchange.whole_scope["client"]
        transport = await self._reach("" if client is None else str(client[0]), ANY_OTHER, "")
        if transport is None:
            return False
        headers = [*scope["headers"], (LAST_EVENT_ID.encode(), last_event_id)]
        path = routes.STREAMING_TASKS.encode()
        request = request_of(b"POST", path, query, headers, request_id_of(scope), b"")
        has_begun = False
        try:
            async with aclosing(answer_of(transport, request)) as pieces:
                async for parser, piece in pieces:
                    if parser.status != _OK:
                        return False
                    if not has_begun:
                        has_begun = True
                        begin()
                        exchange.on_gone = transport.abort
                    exchange.write(piece, STREAM_HEADERS)
                    await exchange.drained()
        except BodyError:
            if not has_begun:
                return False
            exchange.drop()
        finally:
            transport.abort()
        exchange.end(b"", STREAM_HEADERS)
        return True

    async def answer(
        self, exchange: Exchange, method: bytes, server: str, name: str, unknown: NotFound
    ) -> None:
        """Answer with what that server answers, or the one that has taken up its stream of this name at nodes.

        Raise `unknown` where there is no way to either.
        """
        scope, client = exchange.scope, exchange.whole_scope["client"]
        transport = await self._reach("" if client is None else str(client[0]), server, name)
        if transport is None:
            raise unknown
        path, query = scope["raw_path"], scope["query_string"]
        request = request_of(method, path, query, scope["headers"], request_id_of(scope), exchange.body)
        try:
            await self._pass_back(exchange, transport, request)
        except BodyError:
            if not exchange.started:
                raise unknown from None
            exchange.drop()  # as if this had been the server that was lost
        finally:
            transport.abort()

    async def _pass_back(self, exchange: Exchange, transport: asyncio.Transport, request: bytes) -> None:
        document = b""
        async with aclosing(answer_of(transport, request)) as pieces:
            async for parser, piece in pieces:
                status, is_stream = parser.status, "event-stream" in parser.headers.get("content-type", "")
                if not is_stream:
                    document = (document + piece)[:MAX_PROBLEM_BYTES]
                elif piece:
                    named = parser.headers.get(LAST_EVENT_ID.lower(), "")
                    beats = BEATING if BEAT in parser.headers else {}
                    exchange.write(piece, {**STREAM_HEADERS, **beats, LAST_EVENT_ID: named})
                    await exchange.drained()
        if is_stream:
            exchange.end(b"", STREAM_HEADERS)
        elif status == _OK:
            exchange.respond(document)
        else:
            raise from_response(status, parser.headers, document)

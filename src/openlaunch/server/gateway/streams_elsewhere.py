"""Streams of other servers: behind a balancer, a client that resumes one may come to a server without it."""

import asyncio
from contextlib import aclosing
from typing import Final

from openlaunch.errors import NotFound
from openlaunch.server.asgi import STREAM_HEADERS, header, request_id_of
from openlaunch.server.gateway.exchange import Exchange
from openlaunch.server.gateway.passing_on import PASSED_ON, Reach, answer_of, request_of
from openlaunch.wire.problems import from_response
from openlaunch.wire.sse import LAST_EVENT_ID
from openlaunch_worker.http_body import BodyError

NAME_LENGTH: Final = 8
"""Of a server's name, with which the ids of its streams begin."""
MAX_PROBLEM_BYTES: Final = 64 * 1024
_OK: Final = 200


class StreamsElsewhere:
    """Passes requests for streams on to the server that has them. `name` is this server's."""

    def __init__(self, name: str, reach: Reach) -> None:
        self.name, self._reach = name, reach

    def server_of(self, exchange: Exchange, last_event_id: bytes) -> str:
        """Return the name of the server that may have a stream which this one has not; "" where there is none."""
        name = last_event_id[:NAME_LENGTH].decode("latin-1")
        is_known = name == self.name or header(exchange.scope, PASSED_ON) is not None
        return "" if is_known else name

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
                    exchange.write(piece, {**STREAM_HEADERS, LAST_EVENT_ID: named})
                    await exchange.drained()
        if is_stream:
            exchange.end(b"", STREAM_HEADERS)
        elif status == _OK:
            exchange.respond(document)
        else:
            raise from_response(status, parser.headers, document)

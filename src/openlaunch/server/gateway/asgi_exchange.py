"""One request of the control plane: uvicorn's cycle runs the application and writes its answer."""

import asyncio
import logging
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from openlaunch.server.gateway.request_reader import Head
from openlaunch.server.gateway.response import Connection

log = logging.getLogger(__name__)


class AsgiExchange:
    """One request of the control plane: uvicorn's cycle, which runs the application and writes its answer."""

    __slots__ = ("_connection", "_cycle")

    def __init__(self, connection: Connection, scope: Any, head: Head) -> None:
        self._connection = connection
        self._cycle = RequestResponseCycle(
            scope=scope,
            transport=connection.transport,
            flow=connection.flow,
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=head.expects_continue,
            keep_alive=head.keep_alive,
            on_response=connection.on_response_complete,
        )

    async def run(self, app: Any) -> None:
        """Run the application."""
        await self._cycle.run_asgi(app)

    @property
    def keep_alive(self) -> bool:
        """Whether the connection stays after the answer."""
        return self._cycle.keep_alive

    @keep_alive.setter
    def keep_alive(self, stays: bool) -> None:
        self._cycle.keep_alive = stays

    @property
    def more_body(self) -> bool:
        """Whether the body has not come whole."""
        return self._cycle.more_body

    @property
    def response_complete(self) -> bool:
        """Whether the answer is written."""
        return self._cycle.response_complete

    @property
    def started(self) -> bool:
        """Whether the answer has begun."""
        return self._cycle.response_started

    def announce(self, head: Head) -> None:
        """Do nothing: the application asks for the body, and has limits of its own."""

    def take(self, data: bytes) -> None:
        """Pass a piece of the body on, and have the client wait where the application is slower."""
        cycle = self._cycle
        if not cycle.response_complete:
            cycle.body += data
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self._connection.flow.pause_reading()
            cycle.message_event.set()

    def complete(self, body: bytes | None = None) -> None:
        """Tell the application that the body is there."""
        if body:
            self.take(body)
        self._cycle.more_body = False
        self._cycle.message_event.set()

    def gone(self) -> None:
        """Tell the application that its client went away."""
        self._cycle.disconnected = not self._cycle.response_complete
        self._cycle.message_event.set()

    def writable(self) -> None:
        """Do nothing: the application waits for the flow itself."""

    def probe(self) -> bool:
        """Give False: the application's answer is not to be written into."""
        return False

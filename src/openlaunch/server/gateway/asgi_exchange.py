"""One request of the control plane: uvicorn's cycle runs the application and writes its answer."""

import asyncio
import logging
from urllib.parse import unquote

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from openlaunch.server.asgi import HOT_METHODS, App, Scope, is_upload
from openlaunch.server.bodies import FREE_BYTES, Held
from openlaunch.server.gateway.request_reader import Head
from openlaunch.server.gateway.response import Connection
from openlaunch.server.logs import about
from openlaunch.server.proxies import Proxies
from openlaunch.turns import LoopTurns

log = logging.getLogger(__name__)


class _CycleTransport:
    """What the cycle writes to, which would lose the answer of a client that still sends by closing at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def write(self, data: bytes) -> None:
        self._connection.transport.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        self._connection.leave()


class AsgiExchange:
    """One request of the control plane: uvicorn's cycle, which runs the application and writes its answer."""

    __slots__ = ("_connection", "_cycle", "_held", "_size", "_streams", "scope")

    def __init__(
        self,
        connection: Connection,
        head: Head,
        hot_methods: list[str],
        proxies: Proxies,
        headers: list[tuple[bytes, bytes]],
    ) -> None:
        self.scope = proxies.understood(_scope(connection, head, hot_methods))
        self._connection = connection
        self._size = 0
        """Bytes of the body that have come."""
        self._held: Held | None = None
        self._streams = is_upload(self.scope["path"])
        """Whether the application passes the body on as it comes, and does not hold it."""
        self._cycle = RequestResponseCycle(
            scope=self.scope,  # type: ignore[arg-type]
            transport=_CycleTransport(connection),  # type: ignore[arg-type]
            flow=connection.flow,
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=headers,
            message_event=asyncio.Event(),
            expect_100_continue=head.expects_continue,
            keep_alive=head.keep_alive,
            on_response=self._on_response,
        )

    def _on_response(self) -> None:
        self._let_go()
        self._connection.on_response_complete()

    def _let_go(self) -> None:
        if self._held is not None:
            self._held.resize(0)
            self._held = None

    async def run(self, app: App, turns: LoopTurns) -> None:
        """Run the application, in steps for which the owners of requests take turns."""
        with about(self.scope):
            running = self._cycle.run_asgi(app)  # type: ignore[arg-type]
            await turns.run(self._connection.holder(self.scope), running)

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
        """Pass a piece of the body on, and have the client wait where the application is slower.

        Raises:
            Unavailable: there is no room for it.
        """
        cycle = self._cycle
        if not cycle.response_complete:
            cycle.body += data
            self._size += len(data)
            self._hold(len(cycle.body) if self._streams else self._size)
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self._connection.flow.pause_reading()
            cycle.message_event.set()

    def _hold(self, size: int) -> None:
        if self._held is None and size > FREE_BYTES:
            self._held = Held(self._connection.bodies, self._connection.holder(self.scope))
        if self._held is not None:
            self._held.resize(size)

    def complete(self, body: bytes | None = None) -> None:
        """Tell the application that the body is there."""
        if body:
            self.take(body)
        self._cycle.more_body = False
        self._cycle.message_event.set()

    def gone(self) -> None:
        """Tell the application that its client went away."""
        self._let_go()
        self._cycle.waiting_for_100_continue = False
        self._cycle.disconnected = not self._cycle.response_complete
        self._cycle.message_event.set()

    def writable(self) -> None:
        """Do nothing: the application waits for the flow itself."""

    def probe(self) -> bool:
        """Give False: the application's answer is not to be written into."""
        return False


def _scope(connection: Connection, head: Head, hot_methods: list[str]) -> Scope:
    path = head.path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1" if head.is_1_1 else "1.0",
        "method": head.method.decode("ascii"),
        "server": connection.server,
        "client": connection.client,
        "scheme": connection.scheme,
        "root_path": "",
        "path": unquote(path) if "%" in path else path,
        "raw_path": head.path,
        "query_string": head.query,
        "headers": list(head.headers),
        HOT_METHODS: hot_methods,
    }

"""Serves HTTP on a socket: opens connections within their limit, and closes them in order when the server stops."""

import asyncio
import contextlib
import logging
import socket
import ssl
from functools import partial
from typing import Any

from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.protocol import HttpProtocol
from openlaunch.server.operations.listener import Listener

log = logging.getLogger(__name__)

STOP_SECONDS = 5.0
"""How long requests have that are still answered when the server stops."""

POLL_SECONDS = 0.05
OPEN_SECONDS = 0.2
"""How long connections have that are being opened when the server stops: a handshake of TLS may need it."""


class HttpServer:
    """The HTTP server on one bound socket."""

    def __init__(self, services: HttpServices, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        self._services = services
        self._tls = tls
        self._listener = Listener(listener, self._take)
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Accept connections from now on."""
        self._listener.start()

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Accept nothing further, and close each connection after the answer under way, which has `seconds`."""
        self._listener.take_all()
        self._listener.close()
        if self._opening:
            await asyncio.wait(self._opening, timeout=OPEN_SECONDS)
        services = self._services
        for connection in services.connections:
            connection.shutdown()
        deadline = self._loop.time() + seconds
        while self._loop.time() < deadline:
            if not len(services.connections) and not services.tasks:
                return
            await asyncio.sleep(POLL_SECONDS)
        for task in services.tasks:
            task.cancel()
        for connection in services.connections:
            connection.close_now()

    def _take(self, sock: socket.socket) -> None:
        """Open a connection on a socket, or say that there is no room."""
        connections = self._services.connections
        if not connections.has_room(self._loop.time()):
            self._refuse(sock)
            return
        protocol = HttpProtocol(self._services)
        connections.add(protocol)
        protocol.extra = connections.over
        timeout = self._services.read_seconds if self._tls is not None else None
        opened = self._loop.connect_accepted_socket(
            lambda: protocol, sock, ssl=self._tls, ssl_handshake_timeout=timeout
        )
        protocol.opening = task = self._loop.create_task(opened)
        self._opening.add(task)
        task.add_done_callback(partial(self._opened, protocol, sock))

    def _opened(self, protocol: HttpProtocol, sock: socket.socket, task: asyncio.Task[Any]) -> None:
        self._opening.discard(task)
        error = None if task.cancelled() else task.exception()
        if not task.cancelled() and error is None:
            return
        self._services.connections.discard(protocol)
        sock.close()
        if error is not None and not isinstance(error, OSError):  # its client left, or does not speak TLS
            log.error("a connection could not be opened", exc_info=error)

    def _refuse(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is None:
                services = self._services
                sock.send(services.refuse(sock.getpeername()[:2], None, services.connections.too_many()))
        sock.close()

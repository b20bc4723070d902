"""`/metrics` without a key, on a port of its own that only this machine reaches."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from socket import socket

from openlaunch.server.access.auth import PRINCIPAL, Principal
from openlaunch.server.asgi import App, Receive, Scope, Send
from openlaunch.server.gateway.connections import Connections
from openlaunch.server.gateway.http_server import HttpServer
from openlaunch.server.gateway.http_services import HttpServices
from openlaunch.server.gateway.route_table import RouteTable
from openlaunch.wire import routes
from openlaunch.wire.keys import Role

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 16
_ANYONE = Principal("", "", Role.METRICS)
_NOT_HERE = b"this port has /metrics alone\n"


@asynccontextmanager
async def open_metrics(listener: socket, services: HttpServices) -> AsyncIterator[None]:
    """Serve `/metrics` of these services to everybody who reaches this socket."""
    own = replace(
        services,
        routes=RouteTable({}),
        app=_only_metrics(services.app),
        cors=None,
        endpoint_origins=lambda head: frozenset(),
        connections=Connections(MAX_CONNECTIONS),
        tasks=set(),
    )
    server = HttpServer(own, listener, None)
    server.start()
    log.info("metrics: http://%s:%d%s (without a key)", *listener.getsockname()[:2], routes.METRICS)
    try:
        yield
    finally:
        await server.stop(0)


def _only_metrics(app: App) -> App:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == routes.METRICS:
            scope[PRINCIPAL] = _ANYONE
            await app(scope, receive, send)
            return
        await send(
            {"type": "http.response.start", "status": 404, "headers": [(b"content-type", b"text/plain")]}
        )
        await send({"type": "http.response.body", "body": _NOT_HERE})

    return answer

"""`/metrics` without a key, on a port of its own that only this machine reaches."""

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from socket import socket

from openlaunch.server.access.auth import PRINCIPAL, Principal
from openlaunch.server.asgi import App, Receive, Scope, Send, header
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
_NO_ADDRESS = b"this port is called by an address such as 127.0.0.1, or as localhost\n"


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
        if not _names_an_address(header(scope, b"host") or b"localhost"):
            await _refuse(send, 403, _NO_ADDRESS)
        elif scope["path"] == routes.METRICS:
            scope[PRINCIPAL] = _ANYONE
            await app(scope, receive, send)
        else:
            await _refuse(send, 404, _NOT_HERE)

    return answer


def _names_an_address(host: bytes) -> bool:
    """Tell whether a Host is an address or localhost.

    A page of another origin can have its own name lead here, and then a browser lets it read what it gets.
    """
    name = host.rpartition(b":")[0] if re.search(rb":\d*$", host) else host
    with suppress(ValueError):
        return bool(ip_address(name.strip(b"[]").decode("latin-1")))
    return name == b"localhost"


async def _refuse(send: Send, status: int, text: bytes) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})

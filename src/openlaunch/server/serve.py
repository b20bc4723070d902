"""`openlaunch serve`: takes the port, has the parts start, and stops them in order."""

import contextlib
import socket
from collections.abc import Callable

import uvloop

from openlaunch.server.first_key import first_key, page_link
from openlaunch.server.gateway.http_server import STOP_SECONDS, HttpServer
from openlaunch.server.gateway.worker_calls import WorkerCalls
from openlaunch.server.http_parts import HttpParts
from openlaunch.server.operations.datadir import DataDir
from openlaunch.server.operations.listener import bound_socket, url_of
from openlaunch.server.operations.stopping import StopSignals
from openlaunch.server.operations.tls import check_certificate
from openlaunch.server.parts import started_parts
from openlaunch.server.settings import Settings
from openlaunch.server.shutdown import stop_work

Ready = Callable[[str, str], None]
"""Is called once requests are accepted, with the URL, and with the token of a link that signs in to the page once."""


def serve(settings: Settings, ready: Ready) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the data directory, the port or the certificate can't be used.
    """
    check_certificate(settings.tls_cert, settings.tls_key)
    data = DataDir(settings.data_dir)
    with data.locked(), bound_socket(settings.host, settings.port) as listener:
        uvloop.run(serve_on(settings, data, listener, ready))


async def serve_on(settings: Settings, data: DataDir, listener: socket.socket, ready: Ready) -> None:
    """Serve on a bound socket, with a locked data directory, in this thread's event loop."""
    signals = StopSignals()
    url = url_of(listener, secure=settings.tls_cert is not None)
    async with contextlib.AsyncExitStack() as stack:
        context = await stack.enter_async_context(started_parts(settings, data, url))
        key = await first_key(context, data)
        data.write_credentials(url, key)
        http = HttpParts(context, data)
        context.workers.callers.calls = WorkerCalls(http.services, context.keyring)
        server = HttpServer(http.services, listener, http.tls)
        server.start()
        await stack.enter_async_context(http.further_ports())
        ready(url, page_link(context, key))
        await http.control_plane.made
        await signals.stop.wait()
        await stop_work(context, http.resolver, signals)
        await server.stop(0 if signals.at_once.is_set() else STOP_SECONDS)
        await http.stop()

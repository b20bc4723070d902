"""HTTP servers that a test plays itself, in a thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def http_service(handler: Callable[..., BaseHTTPRequestHandler], port: int = 0) -> Iterator[Any]:
    """A server on 127.0.0.1 until the end of the block."""
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()

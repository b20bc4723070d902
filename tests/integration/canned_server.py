"""A small real HTTP server whose answers a test sets, and either client predicting against it."""

import contextlib
import json
import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from both_clients import Both

import openlaunch


class Recorded(NamedTuple):
    command: str
    path: str
    headers: Message
    body: bytes
    client_address: tuple[str, int]


class Server:
    """An HTTP server whose answers a test sets: `routes["POST /v1/sync-tasks"] = function(request)`.

    The function gives (status, headers, body); an iterable body is sent in chunks, None closes the connection.
    """

    def __init__(self):
        self.routes: dict[str, Callable] = {}
        self.requests = []
        self.handled = threading.Event()  # a connection has been closed
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_one_request(self):
                with contextlib.suppress(ConnectionError):
                    super().handle_one_request()

            def answer(self):
                outer.serve(self)

            do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

            def log_message(self, *_):
                pass

        class Listener(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def close_request(self, request):
                super().close_request(request)
                outer.handled.set()

        self.listener = Listener(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.listener.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.listener.server_address[1]}"

    def serve(self, handler):
        length = int(handler.headers.get("content-length", 0))
        handler.body = handler.rfile.read(length)
        self.requests.append(
            Recorded(handler.command, handler.path, handler.headers, handler.body, handler.client_address)
        )
        route = f"{handler.command} {handler.path.split('?')[0]}"
        answer = self.routes[route](handler)
        if answer is None:
            handler.close_connection = True
            return
        status, headers, body = answer
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if isinstance(body, bytes):
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        else:
            self.chunks(handler, body)

    def chunks(self, handler, pieces):
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        for piece in pieces:
            if piece is None:
                handler.close_connection = True
                return
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.flush()
        handler.wfile.write(b"0\r\n\r\n")

    def close(self):
        self.listener.shutdown()
        self.listener.server_close()
        self.thread.join()


def reply(document, status=200, **headers):
    return lambda request: (status, headers, json.dumps(document).encode())


def endpoint_document(kind):
    return {
        "id": "end_1",
        "name": "double",
        "endpoint_type": kind,
        "destination": "d",
        "bundle_name": "double",
        "status": "READY",
        "created_by": "me",
        "created_at": "2026-01-01T00:00:00Z",
        "last_updated_at": "2026-01-01T00:00:00Z",
    }


def success(value):
    return {
        "status": "SUCCESS",
        "result": {"result": json.dumps(value)},
        "traceback": None,
        "status_code": 200,
    }


class Predicting(Both):
    def endpoint(self, server, kind):
        server.routes["GET /v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document(kind)]})
        return self.call(self.client.get_model_endpoint, "double")

    def predict(self, endpoint, return_pickled=False, **options):
        request = openlaunch.EndpointRequest(args={"x": 1}, return_pickled=return_pickled)
        return self.call(endpoint.predict, request, **options)

    def value(self, response):
        return response.value if self.loop is None else self.call(response.load)

"""What the tests of workers share: functions that go along, and an HTTP server that inputs are fetched from."""

import contextlib
import threading
from http.server import BaseHTTPRequestHandler

import cloudpickle
import pytest
from http_service import http_service


@pytest.fixture(scope="module")
def by_value(request):
    """The functions of the module are pickled by value: workers do not have it."""
    cloudpickle.register_pickle_by_value(request.module)
    yield
    cloudpickle.unregister_pickle_by_value(request.module)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        getattr(self, path.rpartition("/")[2])(query)  # a proxy is asked with the whole URL

    def bytes(self, size):
        self.send_response(200)
        self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(b"x" * int(size))

    def echo(self, _):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.path} {self.headers['Authorization']}".encode())

    def endless(self, _):
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 1000)

    def short(self, _):
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.end_headers()
        self.wfile.write(b"x" * 10)

    def drip(self, _):
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not self.server.over.wait(0.02):
            self.wfile.write(b"x")

    def drip_headers(self, _):
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX: ")
        while not self.server.over.wait(0.02):
            self.wfile.write(b"x")

    def missing(self, _):
        self.send_error(404)

    def redirect(self, location):
        self.send_response(302)
        self.send_header("Location", location)
        self.end_headers()

    def log_message(self, *args):
        pass

    def handle(self):
        with contextlib.suppress(OSError):  # the other side may have had enough
            super().handle()


@pytest.fixture
def server():
    with http_service(Handler) as http:
        http.over = threading.Event()
        yield f"http://127.0.0.1:{http.server_port}"
        http.over.set()

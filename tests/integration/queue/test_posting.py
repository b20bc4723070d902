"""What is POSTed goes to the very address that was looked at, whatever a name means a moment later."""

import asyncio
import http.server
import socket
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress

import httpcore2
import httpx2
import pytest
import trustme

from openlaunch.server.queue.posting import Poster

NAME = "receiver.test"
METADATA = "169.254.169.254"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.hosts.append(self.headers["host"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def served(handler):
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def receiver():
    with served(Handler) as server:
        server.hosts = []
        yield server


@pytest.fixture
def name_means(monkeypatch):
    """Lets `NAME` mean these addresses, those of one lookup after those of the other."""
    real = socket.getaddrinfo

    def means(*lookups):
        left = list(lookups)

        def look_up(host, port, *args, **options):
            if host != NAME:
                return real(host, port, *args, **options)
            found = left.pop(0) if len(left) > 1 else left[0]
            return [entry for address in found for entry in real(address, port, type=socket.SOCK_STREAM)]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return means


async def body():
    yield b"{}"


def post(receiver, name=NAME, auth=None):
    url = httpx2.URL(f"http://{name}:{receiver.server_port}/done")
    poster = Poster(allow_private=True, ca_file=None)
    return asyncio.run(poster.post("ada", url, body, {"content-length": "2"}, auth or {}))


def test_a_name_that_means_another_address_a_moment_later_leads_to_the_first(receiver, name_means):
    name_means(["127.0.0.1"], [METADATA])
    assert post(receiver) == 204
    assert receiver.hosts == [f"{NAME}:{receiver.server_port}"]
    with pytest.raises(PermissionError, match="never allowed"):
        post(receiver)


def test_where_nobody_listens_at_a_names_first_address_the_next_one_is_tried(receiver, name_means):
    name_means(["::1", "127.0.0.1"])
    assert post(receiver) == 204


def test_one_address_that_is_never_allowed_spoils_the_name(receiver, name_means):
    name_means(["127.0.0.1", METADATA])
    with pytest.raises(PermissionError, match="never allowed"):
        post(receiver)
    assert receiver.hosts == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has files that are in no folder")
def test_a_private_key_is_written_into_no_folder(receiver, monkeypatch):
    mine = trustme.CA().issue_cert("ada@example.org")
    cert, key = mine.cert_chain_pems[0].bytes().decode(), mine.private_key_pem.bytes().decode()
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    auth = {"kind": "mtls", "cert": cert, "key": key}
    assert post(receiver, "127.0.0.1", auth) == 204


def test_what_is_no_client_certificate_is_said(receiver):
    auth = {"kind": "mtls", "cert": "no certificate", "key": "no key"}
    with pytest.raises(ValueError, match="the auth's cert and key are not a certificate"):
        post(receiver, "127.0.0.1", auth)
    assert receiver.hosts == []


def test_answers_before_the_answer_come_to_an_end(flood):
    """Each costs time in the event loop, and a receiver can send them as fast as they are read."""
    with pytest.raises(httpcore2.ReadError, match="the head of the answer has over 16384 bytes"):
        post(flood, "127.0.0.1")
    assert flood.sent < 100 * FLOOD


FLOOD = 1 << 20


class Flood(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with suppress(OSError):
            for _ in range(100):
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * (FLOOD // 25))
                self.server.sent += FLOOD
        self.close_connection = True


@pytest.fixture
def flood():
    with served(Flood) as server:
        server.sent = 0
        yield server

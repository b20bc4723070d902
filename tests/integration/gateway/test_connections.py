"""Many connections: what they cost, which of them go where room is needed, and who gets in all the same."""

import json
import os
import re
import resource
import select
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPResponse
from pathlib import Path

import pytest
import trustme
from server_driver import SMALL, eventually

from openlaunch import EndpointRequest, LaunchClient

OPEN_FILES = 1024
STRANGERS = 1100
PART_OF_A_HEAD = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
NO_BODY = b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
CHUNKED = b"POST /v1/keys HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
TO_PREDICT = b"POST /v1/sync-tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"
TO_UPLOAD = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"


@pytest.fixture(scope="module", autouse=True)
def files_of_its_own():
    """This process too needs a descriptor for each connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def double(x):
    return 2 * x


def wait_for(path, mark=None):
    import pathlib
    import time

    if mark is not None:
        pathlib.Path(mark).touch()
    while not pathlib.Path(path).exists():
        time.sleep(0.02)
    return 0


class Server:
    """A server with a limit of open files, and what is seen of it from outside."""

    def __init__(self, process, url, key, log):
        self.process = process
        self.url = url
        self.key = key
        self._log = log

    def connect(self, data=b""):
        host, port = self.url.partition("://")[2].split(":")
        sock = socket.create_connection((host, int(port)), timeout=30)
        sock.sendall(data)
        return sock

    def request(self, method, path, *, key="", body=b""):
        lines = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key or self.key}\r\n"
        about = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{lines}{about}\r\n".encode() + body

    def files(self):
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def memory_mib(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024

    def log(self):
        return self._log.read_text()


@contextmanager
def serving(folder, open_files="4096:4096", **settings):
    """A server that may have so many files open: soft:hard."""
    soft, hard = open_files.split(":")
    command = (
        f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec '{sys.executable}' -m openlaunch.cli serve --port 0"
    )
    environ = {f"OPENLAUNCH_{name.upper()}": str(value) for name, value in settings.items()}
    log = folder / "log"
    with log.open("wb") as errors:
        process = subprocess.Popen(
            ["sh", "-c", command],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environ, "OPENLAUNCH_DATA_DIR": str(folder / "data")},
        )
        try:
            url = process.stdout.readline().removeprefix("ready ").strip()
            assert url, log.read_text()
            key = json.loads((folder / "data" / "credentials.json").read_text())["api_key"]
            yield Server(process, url, key, log)
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module", params=[f"{OPEN_FILES}:{OPEN_FILES}"])
def small(request, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("small"), request.param) as server:
        yield server


@contextmanager
def strangers(server, number, data=b""):
    """Connections of strangers, which have sent this; those that the server closed meanwhile are among them."""
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            sock = stack.enter_context(server.connect())
            with suppress(ConnectionError):  # closed already
                sock.sendall(data)
            opened.append(sock)
        yield opened


def answer(sock):
    """The next status and JSON body."""
    with HTTPResponse(sock) as response:
        response.begin()
        return response.status, json.loads(response.read())


def status_of(sock):
    return answer(sock)[0]


def is_closed(sock):
    sock.settimeout(10)
    try:
        return sock.recv(65536) == b""
    except ConnectionResetError:
        return True


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="counts open files under /proc")


@pytest.mark.parametrize("data", [b"", PART_OF_A_HEAD, NO_BODY])
@needs_proc
def test_more_strangers_than_files_hold_nobody_up(small, data):
    """Idle ones, ones with a part of a head, ones that send no body: workers start, and predictions are answered."""
    with LaunchClient(api_key=small.key, endpoint=small.url, max_retries=0) as client:
        with strangers(small, STRANGERS, data):
            assert small.files() < OPEN_FILES - 100
            name = f"double-{len(data)}"
            endpoint = client.deploy(double, name=name, **SMALL)  # which needs a worker
            assert endpoint.predict(EndpointRequest(args={"x": 2})).value == 4
        eventually(lambda: small.files() < 200)
        assert "Traceback" not in small.log()
        assert len(small.log()) < 10_000
        client.delete_model_endpoint(name)


def test_the_limit_of_open_files_is_raised_and_said(tmp_path):
    with serving(tmp_path, "1024:2000", max_connections=1500) as server:
        limits = Path(f"/proc/{server.process.pid}/limits").read_text() if sys.platform == "linux" else "2000"
        assert "2000" in limits.partition("Max open files")[2].split("\n")[0] or limits == "2000"
        assert "1500 connections may be open at a time" in server.log()


def test_connections_are_held_against_the_limit_of_open_files(small):
    assert f"{OPEN_FILES - 256} connections may be open at a time, not 10000" in small.log()


def test_of_the_connections_that_wait_those_of_strangers_go_first_and_then_the_oldest(tmp_path):
    with serving(tmp_path, max_connections=10) as server, ExitStack() as stack:
        known = stack.enter_context(server.connect(server.request("GET", "/v1/keys")))
        assert status_of(known) == 200
        old, young = (stack.enter_context(server.connect()) for _ in range(2))
        for sock in (old, young):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status_of(sock) == 200
            time.sleep(0.01)  # the server's clock counts milliseconds: within one, none is the oldest
        stack.enter_context(strangers(server, 7))
        later = stack.enter_context(server.connect(server.request("GET", "/healthz")))
        assert status_of(later) == 200
        assert is_closed(old)
        for sock in (known, young):
            sock.sendall(server.request("GET", "/healthz"))
            assert status_of(sock) == 200


def test_where_all_are_busy_further_ones_get_503_and_admins_and_scrapes_get_in(tmp_path):
    with serving(tmp_path, max_connections=8) as server, ExitStack() as stack:
        with LaunchClient(api_key=server.key, endpoint=server.url) as client:
            endpoint = client.deploy(wait_for, name="wait", per_worker=16, **SMALL)
            path = f"/v1/sync-tasks?model_endpoint_id={endpoint.model_endpoint.id}"
        made = server.request("POST", "/v1/keys", body=b'{"owner": "admin", "role": "predict"}')
        with server.connect(made) as sock:
            key = answer(sock)[1]["api_key"]
        made = server.request("POST", "/v1/keys", body=b'{"owner": "admin", "role": "metrics"}')
        with server.connect(made) as sock:
            for_scrapes = answer(sock)[1]["api_key"]
        flag = tmp_path / "flag"
        marks = [tmp_path / f"runs-{n}" for n in range(8)]
        body = json.dumps({"args": {"path": str(flag)}}).encode()

        def running_request(mark, body):
            while True:  # it is refused while the server has not seen that an earlier connection is closed
                sock = server.connect(server.request("POST", path, key=key, body=body))
                eventually(lambda sock=sock: mark.exists() or select.select([sock], [], [], 0)[0])
                if mark.exists():
                    return sock
                sock.close()

        marked = [json.dumps({"args": {"path": str(flag), "mark": str(mark)}}).encode() for mark in marks]
        busy = [
            stack.enter_context(running_request(mark, each)) for mark, each in zip(marks, marked, strict=True)
        ]
        refused = stack.enter_context(server.connect(server.request("POST", path, key=key, body=body)))
        assert status_of(refused) == 503
        admin = stack.enter_context(server.connect(server.request("GET", "/v1/keys")))
        assert status_of(admin) == 200
        scrape = stack.enter_context(server.connect(server.request("GET", "/metrics", key=for_scrapes)))
        assert scrape.recv(12) == b"HTTP/1.1 200"
        stack.enter_context(strangers(server, 100, PART_OF_A_HEAD))
        admin = stack.enter_context(server.connect(server.request("GET", "/v1/keys")))
        assert status_of(admin) == 200
        flag.touch()
        assert all(status_of(sock) == 200 for sock in busy)

        def again():
            with server.connect(server.request("POST", path, key=key, body=body)) as sock:
                return status_of(sock) == 200

        eventually(again)  # the strangers, which only wait, make room for it


def test_an_owner_who_takes_all_connections_makes_room_for_another_owner(tmp_path):
    with serving(tmp_path, max_connections=8) as server, ExitStack() as stack:

        def key_of(owner):
            made = server.request("POST", "/v1/keys", body=b'{"owner": "%b", "role": "predict"}' % owner)
            with server.connect(made) as sock:
                return answer(sock)[1]["api_key"]

        mallory, alice = key_of(b"mallory"), key_of(b"alice")
        with LaunchClient(api_key=server.key, endpoint=server.url) as client:
            client.deploy(wait_for, name="wait", per_worker=16, public_inference=True, **SMALL)
        flag = tmp_path / "flag"
        marks = [tmp_path / f"runs-{n}" for n in range(8)]
        busy = []
        for mark in marks:
            body = json.dumps({"path": str(flag), "mark": str(mark)}).encode()
            asked = server.request("POST", "/e/admin/wait", key=mallory, body=body)
            busy.append(stack.enter_context(server.connect(asked)))
            eventually(mark.exists)
        with server.connect(server.request("GET", "/v1/whoami", key=mallory)) as sock:
            assert status_of(sock) == 503
        for _ in range(3):
            with server.connect(server.request("GET", "/v1/whoami", key=alice)) as sock:
                assert status_of(sock) == 200
        assert answer(busy[-1])[1]["code"] == "connections_shared"
        flag.touch()
        assert all(status_of(sock) == 200 for sock in busy[:5])
        assert "Traceback" not in server.log()


@needs_proc
@pytest.mark.parametrize(
    ("number", "data"),
    [
        pytest.param(2000, PART_OF_A_HEAD + b"X: " + b"x" * 60_000, id="part of a head"),
        pytest.param(200, CHUNKED + b"2\r\n  \r\n" * 9000, id="tiny chunks", marks=pytest.mark.slow),
        pytest.param(2000, TO_PREDICT + b" " * 60_000, id="part of a body", marks=pytest.mark.slow),
        pytest.param(2000, TO_UPLOAD + b" " * 60_000, id="part of an upload", marks=pytest.mark.slow),
    ],
)
def test_what_strangers_send_takes_little_memory(tmp_path, number, data):
    """Each of them sends 60 KB; the heads of all together are over their budget."""
    with serving(tmp_path) as server:
        with server.connect(server.request("GET", "/v1/keys")) as sock:  # which imports what it needs
            assert status_of(sock) == 200
        before = server.memory_mib()
        with strangers(server, number, data):
            assert server.memory_mib() - before < 100
            with server.connect(server.request("GET", "/v1/keys")) as sock:
                assert status_of(sock) == 200


def test_strangers_that_do_not_speak_tls_make_room_too(tmp_path):
    certificate = trustme.CA().issue_cert("127.0.0.1").private_key_and_cert_chain_pem
    certificate.write_to_path(tmp_path / "both.pem")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with serving(tmp_path, max_connections=50, tls_cert=tmp_path / "both.pem") as server:
        with strangers(server, 200):
            with context.wrap_socket(server.connect()) as sock:
                sock.sendall(server.request("GET", "/v1/keys"))
                assert status_of(sock) == 200
            assert server.files() < 200
        assert "Traceback" not in server.log()

"""Hostile HTTP on a bare connection: what is slow, too large, ambiguous or too deep is refused, and harms nobody."""

import gzip
import json
import re
import socket
import time
from contextlib import contextmanager, suppress

import pytest
from server_driver import SMALL, eventually, http, running, uploaded_bundle

from openlaunch import EndpointRequest

PATIENCE = 1
LIMIT = 256 * 1024
KIB = b"x" * 1024


def double(x):
    return 2 * x


def slow(seconds):
    import time

    time.sleep(seconds)
    return seconds


def slow_stream(n):
    import time

    for i in range(n):
        time.sleep(0.5)
        yield i


def echo(x):
    return x


@pytest.fixture(scope="module")
def client():
    with running(read_timeout_seconds=PATIENCE, max_body_bytes=LIMIT, max_bodies_bytes=2 * LIMIT) as client:
        for function, kind in (
            *((double, "sync"), (slow, "sync"), (echo, "sync")),
            *((slow_stream, "streaming"), (echo, "async")),
        ):
            name = f"{function.__name__}-{kind}".replace("_", "-")
            client.deploy(function, name=name, endpoint_type=kind, wait=False, **SMALL)
        for endpoint in client.list_model_endpoints():
            endpoint.wait_until_ready(60)
        yield client


@pytest.fixture
def connect(client):
    @contextmanager
    def connect():
        host, port = client.server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as sock:
            yield sock

    return connect


@pytest.fixture
def head(client):
    """The head of a request but for its empty line; of a prediction, or of a route of the control plane."""

    def make(name, *headers):
        if name == "keys":
            path = "/v1/keys"
        else:
            kind = name.rpartition("-")[2]
            endpoint = client.get_model_endpoint(name).model_endpoint
            path = f"/v1/{kind}-tasks?model_endpoint_id={endpoint.id}"
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {client.server.api_key}"]
        return "\r\n".join([*lines, *headers, ""]).encode()

    return make


def rest(sock):
    """All that comes until the connection is closed."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        pass  # closed while we still sent
    return data


def status_of(answer):
    return int(answer.split(b" ", 2)[1])


def is_fine(client):
    return client.get_model_endpoint("double-sync").predict(EndpointRequest(args={"x": 1})).value == 2


# Slow.


def test_a_connection_that_says_nothing_is_closed(connect):
    with connect() as sock:
        began = time.monotonic()
        assert rest(sock) == b""
        assert time.monotonic() - began >= PATIENCE * 0.9


@pytest.mark.parametrize("route", ["double-sync", "keys"])
def test_a_head_that_comes_byte_by_byte_is_given_up(connect, head, route):
    with connect() as sock:
        assert status_of(trickle(sock, head(route))) == 408


@pytest.mark.parametrize("route", ["double-sync", "echo-async", "keys"])
def test_a_body_that_comes_byte_by_byte_is_given_up(connect, head, route):
    with connect() as sock:
        sock.sendall(head(route, "Content-Length: 1000") + b"\r\n")
        assert status_of(trickle(sock, b" " * 1000)) == 408


@pytest.mark.parametrize("route", ["double-sync", "keys"])
def test_a_body_that_never_comes_is_given_up(connect, head, route):
    with connect() as sock:
        sock.sendall(head(route, "Content-Length: 1000") + b'\r\n{"args"')
        assert status_of(rest(sock)) == 408


def test_empty_lines_keep_no_connection_open(connect):
    with connect() as sock:
        assert trickle(sock, b"\r\n" * 1000) == b""


def trickle(sock, data):
    """Send a byte now and then, until there is an answer, which is given to its end."""
    sock.settimeout(0.1)
    answer = b""
    for i in range(len(data)):
        try:
            sock.sendall(data[i : i + 1])
            answer = sock.recv(65536)
        except TimeoutError:
            continue
        except ConnectionError:
            break
        break
    else:
        pytest.fail("all was taken")
    sock.settimeout(30)
    return answer + rest(sock)


@pytest.mark.parametrize("route", ["echo-sync", "keys"])
def test_a_body_that_comes_slowly_and_surely_is_taken(connect, head, route):
    with connect() as sock:
        body = json.dumps({"args": {"x": "x" * 8000}}).encode()
        sock.sendall(head(route, f"Content-Length: {len(body)}", "Connection: close") + b"\r\n")
        for start in range(0, len(body), 2048):
            sock.sendall(body[start : start + 2048])
            time.sleep(PATIENCE * 0.6)  # the test is about this time
        assert status_of(rest(sock)) in (200, 422)


@pytest.mark.parametrize(
    ("name", "args"), [("slow-sync", {"seconds": 2.5}), ("slow-stream-streaming", {"n": 5})]
)
def test_an_answer_may_take_longer_than_a_request(connect, head, name, args):
    with connect() as sock:
        body = json.dumps({"args": args}).encode()
        sock.sendall(head(name, f"Content-Length: {len(body)}", "Connection: close") + b"\r\n" + body)
        answer = rest(sock)
        assert status_of(answer) == 200
        assert b"2.5" in answer or b": end" in answer


def test_many_slow_connections_hold_nobody_up(client, connect, head):
    socks = []
    for _ in range(100):
        sock = socket.create_connection(("127.0.0.1", int(client.server.url.rpartition(":")[2])), timeout=30)
        sock.sendall(head("double-sync")[:30])
        socks.append(sock)
    assert is_fine(client)
    assert all(status_of(rest(sock)) == 408 for sock in socks)
    for sock in socks:
        sock.close()


# Large.


@pytest.mark.parametrize(
    "more",
    [
        b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        b"X: x\r\n" * 101 + b"\r\n",
        (b"X: " + KIB + b"\r\n") * 70 + b"\r\n",
        b"x" * 10_000_000,
        b"X: " + b"x" * 10_000_000,
    ],
    ids=["a large one", "many", "many large ones", "endless name", "endless value"],
)
@pytest.mark.parametrize("route", ["double-sync", "keys"])
def test_headers_over_the_limits_are_refused(connect, head, route, more):
    with connect() as sock:
        try:
            sock.sendall(head(route) + more)
        except ConnectionError:
            return  # closed before all was sent; what it said is lost with the rest
        answer = rest(sock)
        assert answer == b"" or status_of(answer) == 431


def test_a_long_url_is_refused(connect):
    with connect() as sock:
        sock.sendall(b"GET /healthz?" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status_of(rest(sock)) == 431


def test_headers_within_the_limits_are_taken(connect):
    with connect() as sock:
        large = b"X: " + b"x" * 600 + b"\r\n"
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + large * 98 + b"\r\n")
        assert status_of(rest(sock)) == 200


SOME, MANY = KIB * 500, KIB * 16 * 1024
CHUNKS = (b"4000\r\n" + KIB * 16 + b"\r\n") * 1024
CLOSE = "Connection: close"
REFUSED = {
    "length": (413, (CLOSE, f"Content-Length: {len(MANY)}"), MANY, b""),
    "stranger": (401, (CLOSE, "Transfer-Encoding: chunked"), CHUNKS, b"ol_wrong"),
    "chunks": (413, (CLOSE, "Transfer-Encoding: chunked"), CHUNKS, b""),
    "no chunk": (400, ("Transfer-Encoding: chunked",), b"zz\r\n" + SOME, b""),
    "two lengths": (400, ("Content-Length: 1", "Content-Length: 2"), SOME, b""),
    "long head": (431, ("X: " + "x" * 70_000,), SOME, b""),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("route", ["double-sync", "echo-async", "keys"])
def test_who_still_sends_is_refused_and_not_cut_off(client, connect, head, route, refused):
    """Also one that reads nothing before all of it is sent, and closes the connection then."""
    status, headers, body, key = refused
    with connect() as sock:
        lines = head(route, *headers).replace(
            client.server.api_key.encode(), key or client.server.api_key.encode()
        )
        sock.sendall(lines + b"\r\n" + body)
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
        assert status_of(answer) == status
        assert answer.endswith(b"}")


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("route", ["double-sync", "echo-async", "keys"])
def test_a_body_over_the_limit_is_refused(connect, head, route, chunked):
    def status():
        with connect() as sock:
            if chunked:
                sock.sendall(head(route, "Transfer-Encoding: chunked") + b"\r\n")
                with suppress(ConnectionError):
                    for _ in range(LIMIT // 1024 + 2):
                        sock.sendall(b"400\r\n" + KIB + b"\r\n")
            else:
                sock.sendall(head(route, f"Content-Length: {LIMIT + 1}") + b"\r\n" + KIB)
            sock.settimeout(30)
            return status_of(sock.recv(65536))

    # While the server still holds a part of the body of the test before, there is no room for all of this one.
    assert eventually(lambda: found if (found := status()) != 503 else None) == 413


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("route", ["double-sync", "echo-async", "keys"])
def test_a_stranger_is_refused_before_a_large_body_is_read(client, connect, head, route, chunked):
    with connect() as sock:
        wrong = head(route).replace(client.server.api_key.encode(), b"wrong")
        if chunked:
            sock.sendall(wrong + b"Transfer-Encoding: chunked\r\n\r\n")
            sock.sendall((b"400\r\n" + KIB + b"\r\n") * 70)
        else:
            sock.sendall(wrong + b"Content-Length: 100000\r\n\r\n" + KIB)
        assert status_of(sock.recv(65536)) == 401


def test_large_bodies_of_many_requests_have_a_bound_together(client, connect, head):
    body = json.dumps({"args": {"x": "x" * (LIMIT * 3 // 4)}}).encode()
    bob = client.create_api_key("bob").api_key

    def ask(key=client.server.api_key, body=body):
        asked = head("echo-sync", f"Content-Length: {len(body)}", "Connection: close")
        with connect() as sock:
            sock.sendall(asked.replace(client.server.api_key.encode(), key.encode()) + b"\r\n" + body)
            return rest(sock)

    for _ in range(5):  # what was answered is held no more
        assert status_of(ask()) == 200
    with connect() as first, connect() as second:
        for sock in (first, second):
            sock.sendall(head("echo-sync", f"Content-Length: {LIMIT}") + b"\r\n" + b" " * (LIMIT - 1))
        answer = eventually(lambda: answer if status_of(answer := ask()) != 200 else None)
        assert status_of(answer) == 503
        assert b"bodies_full" in answer
        assert b"retry-after: 1" in answer
        assert status_of(ask(bob, body[: LIMIT // 4])) == 404, (
            "another owner's is read, who has no such endpoint"
        )
    eventually(lambda: status_of(ask()) == 200)  # nor what its client has left


def test_a_body_that_is_checked_is_held_when_its_client_has_left(client, connect, head):
    """Only a request that is not stored ends with its client."""
    again = {"properties": {"c": {"$ref": "#/components/schemas/RequestSchema"}}, "required": ["z"]}
    schemas = json.dumps({"RequestSchema": {"anyOf": [again, again]}}).encode()
    with http(client) as raw:
        bundle = uploaded_bundle(raw, b"", schemas=schemas).json()["model_bundle_id"]
    client.create_model_endpoint(
        endpoint_name="costly-async",
        model_bundle=bundle,
        endpoint_type="async",
        min_workers=0,
        **SMALL,
    )
    costly = b'{"args": {"c": %b{}%b, "x": "%b"}}' % (b'{"c": ' * 40, b"}" * 40, b"x" * (LIMIT * 3 // 4))

    def ask(name, body):
        with connect() as sock:
            sock.sendall(head(name, f"Content-Length: {len(body)}", "Connection: close") + b"\r\n" + body)
            return rest(sock) if name == "echo-async" else b""

    for _ in range(2):
        ask("costly-async", costly)
    small = json.dumps({"args": {"x": "x" * (LIMIT * 3 // 4)}}).encode()
    eventually(lambda: status_of(ask("echo-async", small)) == 503)
    for _ in range(10):
        assert b"bodies_full" in ask("echo-async", small)
    eventually(lambda: status_of(ask("echo-async", small)) == 200)


def test_a_compressed_body_is_not_inflated(connect, head):
    bomb = gzip.compress(b" " * 10_000_000)
    for route in ("double-sync", "keys"):
        with connect() as sock:
            headers = (f"Content-Length: {len(bomb)}", "Content-Encoding: gzip", "Connection: close")
            sock.sendall(head(route, *headers) + b"\r\n" + bomb)
            assert status_of(rest(sock)) == 415


# Ambiguous.


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 4", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 4"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("Content-Length: 4, 4",),
        ("Content-Length: -4",),
        ("Content-Length: +4",),
        ("Content-Length: 0x4",),
        ("Content-Length: 4 4",),
        ("Content-Length: 99999999999999999999",),
        ("Content-Length: ",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Content-Length : 4",),
        ("X: a\r\n b",),
        ("X: a\x00b",),
        ("X y: z",),
    ],
)
@pytest.mark.parametrize("route", ["double-sync", "keys"])
def test_what_two_servers_could_read_differently_is_refused(connect, head, route, headers):
    with connect() as sock:
        smuggled = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        sock.sendall(head(route, *headers) + b"\r\n0\r\n\r\n" + smuggled)
        answer = rest(sock)
        assert len(re.findall(rb"HTTP/1.1 \d", answer)) == 1
        assert status_of(answer) == 400


@pytest.mark.parametrize("body", [b"zz\r\n", b"-1\r\n", b"ffffffffffffffffff\r\n", b"4\r\nabcdefgh\r\n"])
@pytest.mark.parametrize("route", ["double-sync", "keys"])
def test_chunks_that_are_none_are_refused(connect, head, route, body):
    with connect() as sock:
        sock.sendall(head(route, "Transfer-Encoding: chunked") + b"\r\n" + body)
        assert status_of(rest(sock)) == 400


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"CONNECT h:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"\x00" * 100,
        b"POST /v1/sync-tasks HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //%00%ff%2f..%2f..%2fetc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ],
)
def test_strange_requests_are_no_fault_of_the_server(client, connect, request_):
    with connect() as sock:
        sock.sendall(request_)
        sock.shutdown(socket.SHUT_WR)
        answer = rest(sock)
        assert answer == b"" or status_of(answer) < 500
    assert is_fine(client)


# Deep.


@pytest.mark.parametrize("depth", [200, 300, 900, 1000, 1020, 100_000])
def test_deep_json_is_an_answer_and_no_fault(client, depth):
    deep = "[" * depth + "]" * depth
    ids = {e.name: e.model_endpoint.id for e in client.list_model_endpoints()}
    with http(client) as raw:
        for name, path in (
            ("echo-sync", "/v1/sync-tasks"),
            ("slow-stream-streaming", "/v1/streaming-tasks"),
            ("echo-async", "/v1/async-tasks"),
        ):
            body = f'{{"args": {{"x": {deep}, "n": 0}}}}'
            answer = raw.post(path, params={"model_endpoint_id": ids[name]}, content=body)
            assert answer.status_code in (200, 400, 422), (name, answer.text)
        many = raw.post(
            "/v1/async-tasks/bulk",
            params={"model_endpoint_id": ids["echo-async"]},
            content=f'{{"requests": [{{"args": {{"x": {deep}}}}}]}}',
        )
        assert many.status_code in (200, 400), many.text
        assert raw.post("/v1/async-tasks/wait", content=deep).status_code in (400, 413, 422)
        keys = raw.post("/v1/keys", content=deep, headers={"content-type": "application/json"})
        assert keys.status_code in (400, 413)

        def ended():
            tasks = raw.get("/v1/async-tasks", params={"limit": 1000}).json()["tasks"]
            return all(task["status"] in ("SUCCESS", "FAILURE") for task in tasks)

        eventually(ended)
    assert is_fine(client)

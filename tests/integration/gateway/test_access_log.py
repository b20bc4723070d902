"""The access log: a line for each request, whatever becomes of it, and nothing secret in it."""

import json
import re
import shlex
import socket

import pytest
from server_driver import SMALL, eventually, http, running


def echo(text):
    return text


def count(n):
    yield from range(n)


@pytest.fixture(scope="module")
def log_file(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def client(log_file):
    with running(access_log=log_file, max_body_bytes=100_000) as client:
        yield client


@pytest.fixture(scope="module")
def endpoint(client):
    return client.deploy(echo, name="echo", max_workers=1, **SMALL).model_endpoint


def lines(log_file, **wanted):
    """The lines that have these fields, as mappings, once there is one."""

    def found():
        read = [
            dict(field.split("=", 1) for field in shlex.split(line))
            for line in log_file.read_text().splitlines()
        ]
        return [each for each in read if wanted.items() <= each.items()]

    return eventually(found)


def test_a_prediction_is_logged_with_all_that_there_is_to_say(client, raw, endpoint, log_file):
    answer = raw.post(
        "/v1/sync-tasks",
        params={"model_endpoint_id": endpoint.id, "token": "hidden"},
        json={"args": {"text": "the-payload"}},
        headers={"X-Request-ID": "mine-1"},
    )
    (line,) = lines(log_file, request="mine-1")
    assert (line["method"], line["status"], line["owner"]) == ("POST", "200", "admin")
    assert line["path"] == f"/v1/sync-tasks?model_endpoint_id={endpoint.id}"
    assert int(line["bytes"]) == len(answer.content)
    assert line["client"] == "127.0.0.1"
    assert line["key"].startswith("key_")
    assert 0 < float(line["ms"]) < 60_000  # also where it took less than one
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    for secret in ("hidden", "the-payload", client.server.api_key):
        assert secret not in log_file.read_text()


def test_a_stream_and_the_control_plane_are_logged(client, raw, log_file):
    stream = client.deploy(count, name="count", max_workers=1, **SMALL).model_endpoint
    answer = raw.post(
        "/v1/streaming-tasks",
        params={"model_endpoint_id": stream.id},
        json={"args": {"n": 3}},
        headers={"X-Request-ID": "stream-1"},
    )
    (line,) = lines(log_file, request="stream-1")
    assert line["status"] == "200"
    assert int(line["bytes"]) >= len(answer.content)
    answer = raw.get(
        "/v1/model-endpoints", params={"name": "secret-name"}, headers={"X-Request-ID": "list-1"}
    )
    (line,) = lines(log_file, request="list-1")
    assert (line["path"], line["owner"]) == ("/v1/model-endpoints", "admin")
    assert int(line["bytes"]) >= len(answer.content)
    uploads = [each for each in lines(log_file, method="PUT") if each["path"].startswith("/v1/artifacts/")]
    assert uploads
    assert not any("?" in each["path"] for each in uploads)


def test_errors_are_logged_with_the_id_of_their_answer(raw, client, endpoint, log_file):
    missing = raw.get("/v1/model-endpoints/end_no", headers={"X-Request-ID": "no\nline"[:2]})
    large = raw.post("/v1/sync-tasks", params={"model_endpoint_id": endpoint.id}, content=b"x" * 200_000)
    with http(client, "wrong-key") as stranger:
        denied = stranger.post("/v1/sync-tasks", params={"model_endpoint_id": endpoint.id}, json={})
    for answer, status in ((missing, 404), (large, 413), (denied, 401)):
        assert answer.status_code == status
        (line,) = lines(log_file, request=answer.headers["x-request-id"])
        assert line["status"] == str(status)
    assert lines(log_file, request=denied.headers["x-request-id"])[0]["owner"] == "-"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
        (b"BREW /pot HTTP/1.1\r\nhost: x\r\n\r\n", 501),
        (b"POST /v1/sync-tasks HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
    ],
)
def test_what_is_refused_before_it_is_routed_is_logged(client, log_file, sent, status):
    host, _, port = client.server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(sent)
        head, _, body = b"".join(iter(lambda: sock.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    (line,) = lines(log_file, request=json.loads(body)["request_id"])
    assert line["status"] == str(status)


def test_a_client_that_leaves_is_logged(client, endpoint, log_file):
    host, _, port = client.server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(
            b"POST /v1/sync-tasks HTTP/1.1\r\nhost: x\r\nx-request-id: left-1\r\ncontent-length: 9\r\n\r\n"
        )
    (line,) = lines(log_file, request="left-1")
    assert line["status"] == "499"

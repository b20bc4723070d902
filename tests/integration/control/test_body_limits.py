"""Bodies of the control plane: the caller is looked at first, then the size; and its document holds nobody up."""

import json
import socket
import threading
import time

import pytest
from server_driver import http

from openlaunch.server.control.routing import MAX_BODY_BYTES, MAX_VALUES

MIB = 1024 * 1024
CHANGES = (
    ("POST", "/v1/model-endpoints"),
    ("POST", "/v2/model-bundles"),
    ("POST", "/v1/model-bundles"),
    ("POST", "/v1/batch-jobs"),
    ("POST", "/v1/docker-image-batch-jobs"),
    ("POST", "/v1/triggers"),
    ("POST", "/v1/keys"),
)


@pytest.fixture(scope="module")
def predict_key(client):
    return client.create_api_key("caller", role="predict").api_key


def answer_before_the_body(client, method, path, key):
    """The status of the answer to a head that announces 60 MiB, of which nothing is sent."""
    url = client.server.url.removeprefix("http://")
    host, port = url.split(":")
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {60 * MIB}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode())
        return int(connection.recv(4096).split()[1])


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_role_is_refused_before_the_body_is_read(client, predict_key, method, path):
    assert answer_before_the_body(client, method, path, predict_key) == 403


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_a_stranger_is_refused_before_the_body_is_read(client, method, path):
    assert answer_before_the_body(client, method, path, "ol_unknown_key_of_nobody") == 401


@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_an_admins_body_is_bounded_too(client, method, path):
    assert answer_before_the_body(client, method, path, client.server.api_key) == 413


@pytest.mark.parametrize("metadata", ["x" * MAX_BODY_BYTES, [[]] * MAX_VALUES])
def test_what_an_endpoint_would_carry_is_bounded(client, metadata):
    body = json.dumps({"name": "fat", "metadata": {"a": metadata}}, separators=(",", ":")).encode()
    with http(client) as raw:
        answer = raw.post("/v1/model-endpoints", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_only_the_first_errors_of_a_body_are_answered(client):
    labels = {str(i): i for i in range(MAX_VALUES - 100)}
    with http(client) as raw:
        answer = raw.post("/v1/model-endpoints", json={"name": "many", "labels": labels})
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) <= 20


def test_the_first_look_at_the_document_holds_nobody_up(client):
    slowest, done = [0.0], threading.Event()

    def probe():
        with http(client) as raw:
            while not done.is_set():
                start = time.monotonic()
                raw.get("/healthz")
                slowest[0] = max(slowest[0], time.monotonic() - start)

    with http(client) as raw:
        thread = threading.Thread(target=probe)
        thread.start()
        document = raw.get("/openapi.json").json()
        done.set()
        thread.join()
    assert "/v1/sync-tasks" in document["paths"]
    assert slowest[0] < 0.5

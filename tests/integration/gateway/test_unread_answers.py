"""Answers to clients that do not read: the server's memory stays flat, their time ends, and others notice nothing."""

import json
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from server_driver import SMALL, args, eventually, http, running

MIB = 1024 * 1024
SIZE = 24 * MIB
PATIENCE = 3


def text(mib):
    return "x" * (mib * 1024 * 1024)


def resident(client):
    """The server's resident memory in MiB."""
    status = Path(f"/proc/{client.server.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024


def open_files(client):
    return len(list(Path(f"/proc/{client.server.pid}/fd").iterdir()))


@pytest.fixture(scope="module")
def client():
    with running(write_timeout_seconds=PATIENCE, max_answers_bytes=64 * MIB) as client:
        yield client


@pytest.fixture(scope="module")
def large(client):
    return client.deploy(
        text, name="large", max_workers=1, per_worker=2, cpus=0.1, memory="512Mi"
    ).model_endpoint.id


@pytest.fixture(scope="module")
def queue(client):
    endpoint = client.deploy(
        text, name="large-async", endpoint_type="async", max_workers=1, per_worker=1, cpus=0.1, memory="1Gi"
    )
    futures = [endpoint.predict(args(mib=24)) for _ in range(8)]
    for future in futures:
        assert future.get(timeout=120).status == "SUCCESS"
    return [future.async_task_id for future in futures]


@contextmanager
def unread(client, path, body):
    """A connection with a request on it, whose answer is not read."""
    host, _, port = client.server.url.removeprefix("http://").partition(":")
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.server.api_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect((host, int(port)))
        connection.sendall(head.encode() + data)
        yield connection


def size_of_answer(connection):
    """Read the whole answer on a connection; return how many characters its text has."""
    received, size = bytearray(), None
    while size is None or len(received) < size:
        received += connection.recv(1 << 20)
        if size is None and (end := received.find(b"\r\n\r\n")) > 0:
            size = end + 4 + int(re.search(rb"content-length: (\d+)", received)[1])
    return received.count(b"x")


def peak_while(client, seconds):
    deadline, peak = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        peak = max(peak, resident(client))
        time.sleep(0.05)
    return peak


def test_many_large_answers_are_not_held_in_memory(client, large):
    before = resident(client)
    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(
                unread(client, f"/v1/sync-tasks?model_endpoint_id={large}", {"args": {"mib": 24}})
            )
        peak = peak_while(client, 5)
    assert peak - before < 250  # of 384


def test_a_wait_for_many_large_results_holds_a_piece_of_them(client, queue):
    before = resident(client)
    with unread(client, "/v1/async-tasks/wait", {"task_ids": queue, "wait": 1}):
        assert peak_while(client, 2) - before < 60  # of 192


def test_a_wait_gives_all_results_to_a_client_that_reads(client, queue):
    with http(client) as raw:
        answer = raw.post("/v1/async-tasks/wait", json={"task_ids": queue, "wait": 1}).json()
    assert answer["pending"] == 0
    assert {task["task_id"] for task in answer["tasks"]} == set(queue)
    assert {len(task["result"]["result"]) for task in answer["tasks"]} == {SIZE + 2}


@pytest.mark.parametrize("mib", [1, 24])
def test_a_client_that_reads_in_its_time_gets_all(client, large, mib):
    body = {"args": {"mib": mib}}
    with unread(client, f"/v1/sync-tasks?model_endpoint_id={large}", body) as connection:
        time.sleep(1)
        received = 0
        while received < mib * MIB:
            received += len(connection.recv(1 << 20))


def test_large_items_of_a_stream_come_whole_and_in_order(client):
    """Items that the server receives in memory of their own, the last one with the end of the stream behind it."""

    def items(sizes):
        for size in sizes:
            yield "x" * size

    endpoint = client.deploy(items, name="items", endpoint_type="streaming", **SMALL)
    sizes = [3 * MIB, 10, MIB, 0, MIB // 2]
    for resume in (False, True):
        got = [item.value for item in endpoint.predict(args(sizes=sizes), resume=resume)]
        assert [len(item) for item in got] == sizes


def test_a_client_that_does_not_read_is_ended(client, large):
    body = {"args": {"mib": 24}}
    with unread(client, f"/v1/sync-tasks?model_endpoint_id={large}", body) as connection:
        time.sleep(1)
        connection.recv(1000)

        def closed():
            try:
                connection.send(b"\r\n")
            except OSError:
                return True
            return False

        eventually(closed, 60)


def test_half_an_answer_is_no_reason_to_end_it(client, large):
    """A client that has closed its own side gets all of its answer, without anything between its parts."""
    body = {"args": {"mib": 24}}
    with unread(client, f"/v1/sync-tasks?model_endpoint_id={large}", body) as connection:
        connection.recv(1000)
        connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        while data := connection.recv(1 << 20):
            received += data
    assert b":\n\n" not in received
    assert len(received) > SIZE - 1000


def test_requests_behind_an_answer_that_is_not_read_wait(client):
    """Many small requests whose answers nobody reads do not fill the memory."""
    null = client.deploy(lambda **_: "x" * 50_000, name="fifty", **SMALL).model_endpoint.id
    before = resident(client)
    body = b'{"args": {}}'
    head = (
        f"POST /v1/sync-tasks?model_endpoint_id={null} HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {client.server.api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with unread(client, f"/v1/sync-tasks?model_endpoint_id={null}", {"args": {}}) as connection:
        connection.settimeout(1)
        with pytest.raises((TimeoutError, ConnectionError)):
            connection.sendall((head + body) * 200_000)
        assert resident(client) - before < 60


def test_answers_on_their_way_from_workers_are_not_all_held_in_memory(client):
    """Workers that answer at the same time are read one after the other; each client gets all of its answer."""
    many = client.deploy(
        text, name="many", min_workers=6, max_workers=6, per_worker=1, cpus=0.1, memory="512Mi"
    )
    eventually(lambda: client.explain_endpoint("many").ready_workers == 6, 60)
    before = resident(client)
    body = {"args": {"mib": 24}}
    with ExitStack() as stack, ThreadPoolExecutor(6) as threads:
        path = f"/v1/sync-tasks?model_endpoint_id={many.model_endpoint.id}"
        connections = [stack.enter_context(unread(client, path, body)) for _ in range(6)]
        answers = [threads.submit(size_of_answer, connection) for connection in connections]
        peak = peak_while(client, 0)
        while not all(answer.done() for answer in answers):
            peak = max(peak, peak_while(client, 0.02))
    assert {answer.result() for answer in answers} == {SIZE}, "every answer has come whole"
    assert peak - before < 100  # of 144


@contextmanager
def unread_file(client, made):
    """A connection on which a file is asked for, of which the beginning has come."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", int(client.server.url.rpartition(":")[2])))
        connection.sendall(
            f"GET /v1/files/{made}/content HTTP/1.1\r\nHost: x\r\nAccept: application/binary\r\n"
            f"Authorization: Bearer {client.server.api_key}\r\n\r\n".encode()
        )
        assert connection.recv(12) == b"HTTP/1.1 200"
        yield connection


def test_what_waits_for_many_slow_clients_has_a_bound_together():
    """Also of answers that are sent in pieces, of which each connection holds one."""
    with running(max_answers_bytes=MIB // 2) as client, http(client) as raw, ExitStack() as stack:
        made = raw.post("/v1/files", files={"file": ("a", b"x" * SIZE)}).json()["id"]
        bob = client.create_api_key("bob").api_key
        before = open_files(client)
        for _ in range(40):
            stack.enter_context(unread_file(client, made))
        eventually(lambda: open_files(client) < before + 20)  # the others are closed, without more in memory
        with http(client, bob) as other:
            own = other.post("/v1/files", files={"file": ("a", b"x" * SIZE)}).json()["id"]
            answer = other.get(f"/v1/files/{own}/content", headers={"accept": "application/binary"})
        assert len(answer.content) == SIZE


def test_a_download_that_is_left_leaves_no_file_open(client):
    with http(client) as raw:
        made = raw.post("/v1/files", files={"file": ("a", b"x" * SIZE)}).json()["id"]
    before = open_files(client)
    for _ in range(30):
        with unread_file(client, made):
            pass
    eventually(lambda: open_files(client) < before + 5, 20)  # sooner than the garbage collector comes by

"""A bundle that writes frames of its own to the server: it ends its worker, and harms nobody else."""

import json
import socket
import sys
import threading
from pathlib import Path

import pytest
from server_driver import DEADLINE, SMALL, args, eventually, http, running

from openlaunch import LaunchClient
from openlaunch.errors import WorkerDied
from openlaunch_worker.frames import HEADER, Kind, Outcome, encode

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors and memory are read from /proc")
MIB = 1 << 20


def write_frames(frames, times=1, fill=0):
    """Write these bytes to the worker's connection, `times` times, and then `fill` MiB."""
    import os
    import socket

    for fd in range(3, 64):
        try:
            sock = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        with sock:
            if sock.family != socket.AF_UNIX or not sock.getpeername():
                continue
            sock.setblocking(True)
            for _ in range(times):
                sock.sendall(bytes.fromhex(frames))
            for _ in range(fill):
                sock.sendall(b"x" * (1 << 20))
    return "written"


def write_large(count):
    """Answer with as many empty arrays, and not in the form of answers."""
    from openlaunch_worker.frames import Kind, Outcome, encode

    body = b'{"status": "SUCCESS", "result": {"a": [' + b"[]," * count + b"[]]}}"
    return write_frames(encode(Kind.RESULT, 1, bytes([Outcome.SUCCESS]) + body).hex())


def stream_frames(frames, times):
    write_frames(frames, times)
    yield "written"


def echo(x):
    return x


@pytest.fixture(scope="module")
def client():
    with running(task_max_attempts=1, isolation="off") as client:
        yield client


@pytest.fixture(scope="module")
def victim(client):
    """The async endpoint of another owner."""
    with http(client) as raw:
        key = raw.post("/v1/keys", json={"owner": "bob", "role": "user"}).json()["api_key"]
    with LaunchClient(endpoint=client.server.url, api_key=key, max_retries=0) as bob:
        yield bob.deploy(echo, name="victim", endpoint_type="async", min_workers=1, **SMALL)


def memory(client):
    status = Path(f"/proc/{client.server.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024


class Peak(threading.Thread):
    """The most memory that the server holds until `stop`, beside what it holds now."""

    def __init__(self, client):
        super().__init__()
        self._client, self._before, self._over = client, memory(client), threading.Event()
        self.bytes = 0
        self.start()

    def run(self):
        while not self._over.wait(0.02):
            self.bytes = max(self.bytes, memory(self._client) - self._before)

    def stop(self):
        self._over.set()
        self.join()
        return self.bytes


def messages(client, name):
    return [event.message for event in client.list_endpoint_events(name).events]


def failure(code):
    document = {"status": "FAILURE", "result": None, "traceback": "no", "status_code": code}
    return bytes([Outcome.FAILURE]) + json.dumps(document).encode()


def result(body, request_id=1):
    return encode(Kind.RESULT, request_id, body).hex()


def test_a_status_code_that_is_not_a_number_fails_no_task_of_others(client, victim):
    evil = client.deploy(write_frames, name="code", endpoint_type="async", min_workers=1, **SMALL)
    good = victim.predict_many([args(x=n) for n in range(300)])
    bad = evil.predict(args(frames=result(failure({}))))
    good += victim.predict_many([args(x=n) for n in range(300)])
    assert "broke the protocol" in bad.get(DEADLINE).traceback
    assert {future.get(DEADLINE).status for future in good} == {"SUCCESS"}


def test_a_task_that_is_given_back_unasked_does_not_run_for_ever(client):
    evil = client.deploy(write_frames, name="back", endpoint_type="async", min_workers=1, **SMALL)
    response = evil.predict(args(frames=result(bytes([Outcome.CANCELLED])))).get(DEADLINE)
    assert "broke the protocol" in response.traceback


def test_an_answer_that_says_something_of_other_tasks_is_not_given_out(client, victim):
    evil = client.deploy(write_frames, name="forge", endpoint_type="async", min_workers=1, **SMALL)
    forged = b'{"status": "SUCCESS", "result": null}, {"task_id": "another", "status": "SUCCESS"}'
    future = evil.predict(args(frames=result(bytes([Outcome.SUCCESS]) + forged)))
    response = future.get(DEADLINE)
    assert response.status == "FAILURE"
    assert "does not have the form" in response.traceback


def test_a_large_answer_of_another_form_is_not_read(client, victim):
    """By name, the value would be taken out of it."""
    evil = client.deploy(write_large, name="other-form", min_workers=1, **SMALL)
    with http(client) as raw:
        answer = raw.post(f"/e/{evil.name}", json={"count": 2_000_000})
    assert answer.status_code == 500
    assert "the worker's answer is not one" in answer.text
    assert victim.predict(args(x=1)).get(DEADLINE).value == 1


def test_a_large_result_is_refused_by_its_head(client, victim):
    evil = client.deploy(write_frames, name="large", min_workers=1, **SMALL)
    peak = Peak(client)
    with pytest.raises(WorkerDied, match="broke the protocol: a frame RESULT of 943718400 bytes"):
        evil.predict(args(frames=HEADER.pack(900 * MIB, 1, Kind.RESULT).hex(), fill=900))
    assert peak.stop() < 50 * MIB
    assert victim.predict(args(x=1)).get(DEADLINE).value == 1
    eventually(lambda: [m for m in messages(client, "large") if "broke the protocol" in m])


def test_a_stream_without_credit_to_a_client_that_does_not_read_is_not_kept(client, victim):
    evil = client.deploy(stream_frames, name="stream", endpoint_type="streaming", min_workers=1, **SMALL)
    chunks = encode(Kind.CHUNK, 1, b":" + b"x" * 10_000 + b"\n\n") * 100
    body = json.dumps({"args": {"frames": chunks.hex(), "times": 200}}).encode()
    path = f"/v1/streaming-tasks?model_endpoint_id={evil.model_endpoint.id}"
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.server.api_key}\r\n"
    host, port = client.server.url.removeprefix("http://").split(":")
    peak = Peak(client)
    with socket.create_connection((host, int(port)), timeout=DEADLINE) as sock:
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        broke = "broke the protocol: a CHUNK beyond the credit of its stream"
        eventually(lambda: [m for m in messages(client, "stream") if broke in m])
    assert peak.stop() < 50 * MIB
    assert victim.predict(args(x=1)).get(DEADLINE).value == 1


def test_the_next_worker_serves(client):
    evil = client.deploy(write_frames, name="again", min_workers=1, **SMALL)
    with pytest.raises(WorkerDied):
        evil.predict(args(frames=encode(Kind.READY, 0).hex()))
    assert evil.predict(args(frames="")).value == "written"


def hoard(count):
    """Open this number of connections to the server's socket for workers, and keep them."""
    import os
    import resource
    import socket

    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    for fd in range(3, 64):
        try:
            own = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        if own.family == socket.AF_UNIX and own.getpeername():
            break
    hoard.kept = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    for sock in hoard.kept:
        sock.connect(own.getpeername())
    return len(hoard.kept)


def test_connections_of_a_worker_that_say_nothing_keep_no_worker_out(client, victim):
    evil = client.deploy(hoard, name="hoard", min_workers=1, **SMALL)
    assert evil.predict(args(count=900)).value == 900
    files = Path(f"/proc/{client.server.pid}/fd")
    eventually(lambda: len(list(files.iterdir())) < 200)
    good = client.deploy(echo, name="beside", min_workers=1, **SMALL)
    assert good.predict(args(x=1)).value == 1
    assert victim.predict(args(x=1)).get(DEADLINE).value == 1

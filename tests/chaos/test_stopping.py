"""What nobody wants any more stops: cancelled, left by its client, past its deadline; whatever it is doing."""

import asyncio
import contextlib
import ctypes
import os
import socket
import statistics
import struct
import time
from pathlib import Path

import pytest
from server_driver import DEADLINE, SMALL, args, eventually, is_alive, running

from openlaunch.errors import DeadlineExceeded
from openlaunch.wire import routes

GRACE_SECONDS = 0.5
WASTE_BOUND_SECONDS = 1.0
ROUNDS = 5


@pytest.fixture(scope="module")
def client():
    with running(interrupt_grace_seconds=GRACE_SECONDS, drain_seconds=1.5) as client:
        yield client


def burn(path):
    """Compute for ever, and keep the time of the last step in a file."""
    with Path(path).open("wb", buffering=0) as file:
        while True:
            os.pwrite(file.fileno(), struct.pack("d", time.monotonic()), 0)


def burn_between_items(path):
    yield 1
    burn(path)


def last_step(path):
    data = path.read_bytes() if path.exists() else b""
    return struct.unpack("d", data)[0] if len(data) == 8 else None


class Visitor:
    """A client that sends a request and goes away without a word."""

    def __init__(self, client, endpoint, route, body):
        host, port = client.server.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        head = (
            f"POST {route}?model_endpoint_id={endpoint.model_endpoint.id} HTTP/1.1\r\nHost: x\r\n"
            f"Authorization: Bearer {client.server.api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body.encode())

    def leave(self):
        self._socket.close()


def visit_sync(client, endpoint, path):
    return Visitor(client, endpoint, routes.SYNC_TASKS, f'{{"args": {{"path": "{path}"}}}}').leave


def visit_stream(client, endpoint, path):
    return Visitor(client, endpoint, routes.STREAMING_TASKS, f'{{"args": {{"path": "{path}"}}}}').leave


def submit(client, endpoint, path):
    return endpoint.predict(args(path=str(path))).cancel


@pytest.mark.parametrize(
    ("kind", "predict", "begin"),
    [
        ("sync", burn, visit_sync),
        ("streaming", burn_between_items, visit_stream),
        ("async", burn, submit),
    ],
)
def test_little_is_computed_after_nobody_wants_it(client, tmp_path, kind, predict, begin, record_property):
    endpoint = client.deploy(
        predict, name=f"st-{kind}", endpoint_type=kind, max_workers=1, per_worker=1, **SMALL
    )
    wasted = []
    for index in range(ROUNDS):
        path = tmp_path / str(index)
        leave = begin(client, endpoint, path)
        eventually(lambda path=path: last_step(path))  # one slot: so the last round's has ended, too
        left = time.monotonic()
        leave()
        eventually(lambda path=path: time.monotonic() - last_step(path) > 0.3)
        wasted.append(max(0.0, last_step(path) - left))
    text = f"{kind}: {statistics.median(wasted) * 1000:.1f} ms computed in vain, at most {max(wasted) * 1000:.1f} ms"
    print(text)
    record_property("figure", text)
    assert max(wasted) < WASTE_BOUND_SECONDS


def sleeps_in_c(path=None, seconds=0.0):
    if path is not None:
        Path(path).touch()
        seconds = 60.0
    time.sleep(seconds)
    return os.getcwd()


async def refuses_to_be_cancelled(path=None, seconds=0.0):
    while path is not None:
        Path(path).touch()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
    await asyncio.sleep(seconds)
    return os.getcwd()


@pytest.mark.parametrize("predict", [sleeps_in_c, refuses_to_be_cancelled])
def test_what_does_not_stop_has_its_worker_replaced_and_others_there_may_finish(client, tmp_path, predict):
    name = "st-" + predict.__name__.replace("_", "-")
    endpoint = client.deploy(predict, name=name, max_workers=1, per_worker=2, **SMALL)
    victim = endpoint.predict(args(seconds=0)).value
    visitor = Visitor(client, endpoint, routes.SYNC_TASKS, f'{{"args": {{"path": "{tmp_path / "runs"}"}}}}')
    eventually((tmp_path / "runs").exists)
    visitor.leave()
    assert endpoint.predict(args(seconds=1.2)).value == victim
    assert endpoint.predict(args(seconds=0)).value != victim
    eventually(lambda: not is_alive(victim))
    reason = f"a request did not stop within {GRACE_SECONDS} s of its cancellation or deadline"
    assert f"is replaced: {reason}" in client.read_endpoint_creation_logs(name)
    eventually(lambda: reason in (endpoint.refresh().model_endpoint.status_reason or ""))
    assert endpoint.model_endpoint.status == "READY"


def test_a_task_that_hangs_fails_at_its_deadline_and_the_one_beside_it_runs_again_without_blame(client):
    def work(hang):
        if hang:
            ctypes.PyDLL(None).sleep(60)  # it holds the interpreter: nothing of the worker goes on
        time.sleep(1)
        return "done"

    endpoint = client.deploy(
        work,
        name="st-hang",
        endpoint_type="async",
        max_workers=1,
        per_worker=2,
        timeout_seconds=5,
        **SMALL,
    )
    beside = endpoint.predict(args(hang=False))
    hangs = endpoint.predict(args(hang=True), timeout=0.5)
    response = hangs.get(DEADLINE)
    assert (response.status, response.status_code) == ("FAILURE", 504)
    assert "deadline" in response.traceback
    assert "0.5 s" in response.traceback
    details = client.get_task_details(hangs.async_task_id)
    assert (details.status_code, details.reason) == (504, response.traceback)
    assert beside.get(DEADLINE).value == "done"
    assert client.get_task_details(beside.async_task_id).attempts == 1


def test_an_endless_loop_ends_at_its_deadline_and_its_worker_goes_on(client):
    def work(loop):
        while loop:
            pass
        return os.getcwd()

    endpoint = client.deploy(
        work, name="st-loop", endpoint_type="async", max_workers=1, per_worker=1, timeout_seconds=0.3, **SMALL
    )
    pid = endpoint.predict(args(loop=False)).get(DEADLINE).value
    response = endpoint.predict(args(loop=True)).get(DEADLINE)
    assert (response.status, response.status_code) == ("FAILURE", 504)
    assert endpoint.predict(args(loop=False)).get(DEADLINE).value == pid


def test_the_endpoints_timeout_bounds_requests_that_ask_for_more(client):
    def spin():
        while True:
            time.sleep(0.001)

    endpoint = client.deploy(spin, name="st-timeout", timeout_seconds=0.3, **SMALL)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        endpoint.predict(args(), timeout=60)
    assert time.monotonic() - began < 10
    assert endpoint.model_endpoint.timeout_seconds == 0.3

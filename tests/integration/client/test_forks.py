"""A client, and what it has begun, in a process that was forked from the one that made it."""

import asyncio
import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
from canned_server import Server, reply, success
from server_driver import eventually, is_alive

import openlaunch
from openlaunch.client.local import LocalServer
from openlaunch.wire.sse import END_EVENT


@pytest.fixture
def server():
    server = Server()
    server.routes["POST /v1/sync-tasks"] = lambda r: reply(success(json.loads(r.body)["args"]["x"]))(r)
    yield server
    server.close()


@contextlib.contextmanager
def forked(function):
    """Run a function in a forked process; gives a function that waits for what it returned or raised."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # there are threads, but none that the child needs
        pid = os.fork()
    if pid == 0:
        try:
            outcome = function()
        except BaseException as error:
            outcome = error
        os.write(writing, pickle.dumps(outcome))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as results:
        yield lambda: pickle.loads(results.read())
    os.waitpid(pid, 0)


def ask(endpoint, who, count=50):
    """The wrong answers among some predictions."""
    wrong = []
    for number in range(count):
        x = f"{who}-{number}"
        value = endpoint.predict(openlaunch.EndpointRequest(args={"x": x})).value
        if value != x:
            wrong.append((x, value))
    return wrong


async def ask_in_a_loop(endpoint, who, count=50):
    values = [
        (await endpoint.predict(openlaunch.EndpointRequest(args={"x": f"{who}-{number}"}))).value
        for number in range(count)
    ]
    return [value for number, value in enumerate(values) if value != f"{who}-{number}"]


def test_forked_processes_get_their_own_answers(both, server):
    endpoint = both.endpoint(server, "sync")
    both.predict(endpoint)
    asked = ask if both.loop is None else lambda *args: asyncio.run(ask_in_a_loop(*args))
    parent = ask if both.loop is None else lambda *args: both.call(ask_in_a_loop, *args)
    with forked(lambda: asked(endpoint, "one")) as one, forked(lambda: asked(endpoint, "two")) as two:
        assert (parent(endpoint, "parent"), one(), two()) == ([], [], [])


def test_a_stream_stays_with_the_process_that_began_it(both, server):
    go_on = threading.Event()

    def pieces():
        yield b'data: {"status": "SUCCESS", "result": {"result": 1}}\n\n'
        assert go_on.wait(10)
        yield b'data: {"status": "SUCCESS", "result": {"result": 2}}\n\n' + END_EVENT

    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {"last-event-id": "e0"}, pieces())
    server.routes["DELETE /v1/streaming-tasks"] = reply({"cancelled": True})
    stream = both.predict(both.endpoint(server, "streaming"))
    first = both.call(next if both.loop is None else anext, stream)

    def read():
        try:
            both.items(stream)
        finally:
            both.call(stream.close)

    with forked(read) as outcome:
        assert "forked" in str(outcome())
    go_on.set()
    assert [first.value, *(item.value for item in both.items(stream))] == [1, 2]
    assert "DELETE" not in {request.command for request in server.requests}


def test_callbacks_are_called_in_the_process_that_asked_for_them(server):
    done = {"task_id": "t", **success(1)}
    go_on = threading.Event()
    server.routes["POST /v1/async-tasks/wait"] = lambda r: go_on.wait(10) and reply({"tasks": [done]})(r)
    with openlaunch.LaunchClient("key", server.url) as client:
        called = threading.Event()
        client.future("t").add_done_callback(lambda future: called.set())

        def wait_in_the_child():
            again = threading.Event()
            client.future("t").add_done_callback(lambda future: again.set())
            go_on.set()
            return again.wait(10), called.is_set()

        with forked(wait_in_the_child) as outcome:
            go_on.set()
            assert outcome() == (True, False)
        assert called.wait(10)


PROGRAM = """
import os, sys, time
from openlaunch.client.local import LocalServer
server = LocalServer()
if os.fork() == 0:
    sys.exit(0)  # runs what is registered for the end of the program
os.wait()
print(server.pid, server._process.poll(), server.data_dir, flush=True)
if os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(600)
time.sleep(600)
"""


def test_a_private_server_outlives_forked_processes_and_ends_with_its_killed_program():
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        pid, code, folder = program.stdout.readline().split()
        child = int(program.stdout.readline())
        assert (code, Path(folder).exists()) == ("None", True)
        program.send_signal(signal.SIGKILL)
    try:
        eventually(lambda: not Path(folder).exists() and not is_alive(int(pid)))
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_folder_that_was_named_stays_when_the_program_is_killed(tmp_path):
    with LocalServer(tmp_path / "data") as server:
        server._process.stdin.close()  # as the kernel does when the program is killed
        server._process.wait(60)
        assert (tmp_path / "data" / "openlaunch.db").exists()

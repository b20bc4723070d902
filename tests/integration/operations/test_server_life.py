"""A server's life: start, credentials, one data directory each, a stop in good order, a kill without warning."""

import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx2
import pytest
from server_driver import DEADLINE, SMALL, args, eventually, is_alive, running

from openlaunch import EndpointResponseFuture, LaunchClient
from openlaunch.errors import Unavailable
from openlaunch.testing import LocalServer

pytestmark = pytest.mark.slow


def nap(seconds=0.0):
    time.sleep(seconds)
    return f"{os.getcwd()}:{os.getpid()}"


STARTED = []


@pytest.fixture(autouse=True)
def nothing_left():
    """End what a failed test has left."""
    yield
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


def start(data_dir, **environ):
    process = subprocess.Popen(
        [sys.executable, "-m", "openlaunch.cli", "serve", "--port", "0", "--data-dir", str(data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environ},
    )
    STARTED.append(process)
    return process


def end(process):
    process.terminate()
    return process.communicate(timeout=DEADLINE)


def test_one_line_on_stdout_says_where_it_listens_and_stderr_the_rest(tmp_path):
    process = start(tmp_path, OPENLAUNCH_MAX_BODY_BYTE="1", OPENLAUNCH_SOMETHING="1")
    line = process.stdout.readline()
    url = line.removeprefix("ready ").strip()
    assert httpx2.get(f"{url}/healthz", timeout=DEADLINE).json() == {"status": "ok"}
    rest, errors = end(process)
    assert rest == ""
    assert process.returncode == 0
    for said in (
        f"data: {tmp_path}\n",
        f"key:  {tmp_path}/credentials.json",
        f"page: {url}/ (openlaunch ui opens it)",
        "openlaunch docs",
        f"{url}/docs",
    ):
        assert said in errors
    assert "OPENLAUNCH_MAX_BODY_BYTE is set" in errors
    assert "did you mean OPENLAUNCH_MAX_BODY_BYTES?" in errors
    assert "OPENLAUNCH_SOMETHING is set, and there is no such setting" in errors
    assert "stopping: no request or task runs" in errors


def test_credentials_are_for_the_owner_alone_and_stay_the_same(tmp_path):
    keys = []
    for _ in range(2):
        with LocalServer(tmp_path) as server:
            path = tmp_path / "credentials.json"
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert json.loads(path.read_text()) == {"url": server.url, "api_key": server.api_key}
            keys.append(server.api_key)
    assert keys[0] == keys[1]


def test_no_file_of_the_data_directory_is_for_others(tmp_path):
    data_dir = tmp_path / "data"
    with LocalServer(data_dir):
        assert stat.S_IMODE((data_dir / "openlaunch.db").stat().st_mode) == 0o600
        assert stat.S_IMODE((data_dir / "url-secret").stat().st_mode) == 0o600
        assert stat.S_IMODE((data_dir / "artifacts").stat().st_mode) == 0o700


def test_the_first_key_can_be_given_and_is_refused_once_it_was_revoked(tmp_path):
    key = "a-key-of-my-own-choice"
    with running(tmp_path, api_key=key) as client:
        assert client.server.api_key == key
        assert client.list_model_endpoints() == []
        client.create_api_key("ann", "admin")
        client.revoke_api_key(client.list_api_keys()[0].id)
    process = start(tmp_path, OPENLAUNCH_API_KEY=key)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert "OPENLAUNCH_API_KEY is a key that was revoked" in err
    assert "Traceback" not in err


def test_a_key_that_is_too_short_is_refused_without_being_shown(tmp_path):
    process = start(tmp_path, OPENLAUNCH_API_KEY="short-secret")
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert out == ""
    assert "OPENLAUNCH_API_KEY" in err
    assert "16" in err
    assert "short-secret" not in err


def test_a_second_server_on_the_directory_is_refused_with_the_firsts_process_id(tmp_path):
    with LocalServer(tmp_path) as first:
        process = start(tmp_path)
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 2
        assert out == ""
        assert str(first.pid) in err
        assert str(tmp_path) in err


def test_a_taken_port_is_refused_with_what_to_do(tmp_path):
    with LocalServer(tmp_path / "one") as first:
        port = first.url.rpartition(":")[2]
        process = subprocess.run(
            [
                sys.executable,
                "-m",
                "openlaunch.cli",
                "serve",
                "--port",
                port,
                "--data-dir",
                str(tmp_path / "two"),
            ],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    assert process.returncode == 2
    assert f"127.0.0.1:{port}" in process.stderr
    assert "--port" in process.stderr


def test_sigterm_lets_what_runs_end_and_refuses_what_comes(tmp_path):
    with running(tmp_path) as client:
        endpoint = client.deploy(nap, name="life", min_workers=1, max_workers=1, per_worker=2, **SMALL)
        worker = endpoint.predict(args()).value
        answers = []
        thread = threading.Thread(target=lambda: answers.append(endpoint.predict(args(seconds=1.5)).value))
        thread.start()
        eventually(lambda: endpoint.predict(args()).value)
        began = time.monotonic()
        os.kill(client.server.pid, signal.SIGTERM)
        with pytest.raises(Unavailable):
            eventually(lambda: endpoint.predict(args()) is None)
        thread.join()
        assert answers == [worker]
        assert client.server._process.wait(DEADLINE) == 0
        assert time.monotonic() - began < 10
        assert not is_alive(worker)


def test_a_request_that_is_on_its_way_when_the_server_stops_is_answered(tmp_path):
    """On a kept connection, either it has an answer, or its client sees the end of the connection before it sends."""
    process = start(tmp_path)
    host, port = process.stdout.readline().removeprefix("ready http://").strip().split(":")

    def ask_until_the_end(connection, line):
        request = f"{line} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
        answers = []
        while not select.select([connection], [], [], 0)[0]:
            with suppress(ConnectionError):  # what came before is there all the same
                connection.sendall(request)
            answers.append(connection.recv(65536))
            if b"connection: close" in answers[-1]:
                break
            time.sleep(0.001)
        return answers

    lines = ["GET /healthz", "POST /v1/sync-tasks", "GET /v1/model-endpoints", "GET /v1/async-tasks/x"] * 2
    with ExitStack() as stack, ThreadPoolExecutor(8) as threads:
        idle, *connections = [
            stack.enter_context(socket.create_connection((host, int(port)), DEADLINE)) for _ in range(9)
        ]
        asking = [
            threads.submit(ask_until_the_end, each, line)
            for each, line in zip(connections, lines, strict=True)
        ]
        process.terminate()
        answers = [answer for thread in asking for answer in thread.result()]
        assert all(answer.startswith(b"HTTP/1.1 ") for answer in answers), answers[-3:]
        assert b'"code": "stopping"' in idle.recv(65536)
        assert not idle.recv(1)
    process.communicate(timeout=DEADLINE)


def test_the_first_interrupt_says_what_it_waits_for_and_the_second_ends_at_once(tmp_path):
    process = start(tmp_path, OPENLAUNCH_DRAIN_SECONDS="600")
    url = process.stdout.readline().removeprefix("ready ").strip()
    key = json.loads((tmp_path / "credentials.json").read_text())["api_key"]
    client = LaunchClient(key, endpoint=url, max_retries=0)
    endpoint = client.deploy(nap, name="nap", max_workers=1, **SMALL)
    refused = []

    def predict():
        try:
            endpoint.predict(args(seconds=600))
        except Unavailable as error:
            refused.append(error)

    waiting = threading.Thread(target=predict)
    waiting.start()
    eventually(lambda: client.explain_endpoint("nap").in_flight)
    process.send_signal(signal.SIGINT)
    eventually(lambda: _is_stopping(url))
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=DEADLINE)
    waiting.join()
    assert "stopping: waiting up to 600 s for what runs (requests and tasks: 1)" in errors
    assert refused


def _is_stopping(url):
    said = [httpx2.get(f"{url}/readyz{query}", timeout=DEADLINE) for query in ("", "?failed_status=404")]
    return [each.status_code for each in said] == [503, 404]


def test_tasks_that_wait_at_the_stop_run_after_the_start(tmp_path):
    with running(tmp_path) as client:
        endpoint = client.deploy(
            nap, name="later", endpoint_type="async", max_workers=1, per_worker=1, **SMALL
        )
        futures = endpoint.predict_many([args(seconds=0.3) for _ in range(6)])
        futures[0].get(DEADLINE)
    with running(tmp_path) as client:
        again = [EndpointResponseFuture(client, "later", future.async_task_id) for future in futures]
        assert [future.get(DEADLINE).status for future in again] == ["SUCCESS"] * 6


def test_a_killed_server_loses_no_task_and_leaves_no_worker(tmp_path):
    server = LocalServer(tmp_path)
    with server, LaunchClient(server.api_key, server.url, max_retries=0) as client:
        endpoint = client.deploy(
            nap, name="killed", endpoint_type="async", max_workers=1, per_worker=2, **SMALL
        )
        worker = endpoint.predict(args()).get(DEADLINE).value
        futures = endpoint.predict_many([args(seconds=0.3) for _ in range(8)])
        futures[0].get(DEADLINE)
        os.kill(server.pid, signal.SIGKILL)
        eventually(lambda: not is_alive(worker))
    with running(tmp_path) as client:
        again = [EndpointResponseFuture(client, "killed", future.async_task_id) for future in futures]
        assert [future.get(DEADLINE).status for future in again] == ["SUCCESS"] * 8
        assert len(list((tmp_path / "workers").iterdir())) <= 1


def test_a_data_directory_that_is_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    process = start(tmp_path / "file" / "below")
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert "can't be used" in err
    assert "--data-dir" in err


def test_a_setting_that_is_not_allowed_is_named_with_its_value(tmp_path):
    process = start(tmp_path, OPENLAUNCH_MAX_QUEUED_TASKS="-7")
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 2
    assert "OPENLAUNCH_MAX_QUEUED_TASKS" in err
    assert "-7" in err

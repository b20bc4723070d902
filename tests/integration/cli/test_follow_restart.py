"""`openlaunch endpoints logs --follow` outlasts a restart of the server, and ends with the endpoint."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager

import pytest
from server_driver import DEADLINE, SMALL, args

from openlaunch import LaunchClient

CLI = [sys.executable, "-m", "openlaunch.cli"]


@pytest.fixture
def serve(tmp_path):
    """Return what starts a server of this folder, on the same port each time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    @contextmanager
    def started():
        command = [*CLI, "serve", "--port", str(port), "--data-dir", str(tmp_path / "data")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        with subprocess.Popen(command, **pipes) as process:
            try:
                assert process.stdout.readline().startswith("ready ")
                yield
            finally:
                process.send_signal(signal.SIGTERM)
                assert process.wait(DEADLINE) == 0

    return started


@contextmanager
def following(tmp_path, name):
    """The lines of the command's stdout and of its stderr, as they come, and its process."""
    lines = queue.Queue(), queue.Queue()
    environ = {**os.environ, "OPENLAUNCH_DATA_DIR": str(tmp_path / "data"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*CLI, "endpoints", "logs", name, "--follow"],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for stream, found in zip((process.stdout, process.stderr), lines, strict=True):
            threading.Thread(
                target=lambda s=stream, f=found: [f.put(x.strip()) for x in s], daemon=True
            ).start()
        try:
            yield *lines, process
        finally:
            process.kill()
            process.wait()


def say(text):
    print(text, flush=True)


def until(lines, text):
    """Read lines up to the first with this text."""
    while text not in lines.get(timeout=DEADLINE):
        pass


@pytest.mark.slow
def test_following_goes_over_a_restart(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENLAUNCH_DATA_DIR", str(tmp_path / "data"))
    with ExitStack() as stack:
        with serve(), LaunchClient() as client:
            client.deploy(say, name="said", max_workers=1, **SMALL).predict(args(text="the first"))
            out, err, process = stack.enter_context(following(tmp_path, "said"))
            until(out, "the first")
        until(err, "the server is away, waiting up to 60 s for it")
        with serve(), LaunchClient() as client:
            until(err, "the server is back")
            client.get_model_endpoint("said").predict(args(text="the second"))
            until(out, "the second")
            client.delete_model_endpoint("said")
            assert process.wait(DEADLINE) == 0
        assert not [line for line in out.queue if "the first" in line]

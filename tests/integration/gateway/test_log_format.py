"""The server's log as JSON, with the ids of requests, and an access log of failures alone."""

import json
import os
import subprocess
import sys

import httpx2
import pytest
from server_driver import SMALL, eventually

from openlaunch import LaunchClient

KEY = "olk_" + "k" * 40
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


def divide(number):
    return 1 / number


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server that logs JSON and what fails, its client and plain HTTP to it, and its stderr."""
    folder = tmp_path_factory.mktemp("logs")
    command = [sys.executable, "-m", "openlaunch.cli", "serve", "--port", "0", "--data-dir", folder / "data"]
    command += ["--log-format", "json", "--access-log", "errors"]
    environ = {**os.environ, "OPENLAUNCH_API_KEY": KEY, "PYTHONUNBUFFERED": "1"}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environ) as process,
    ):
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().split()[1]
            with (
                LaunchClient(KEY, url) as client,
                httpx2.Client(base_url=url, auth=(KEY, ""), timeout=60) as raw,
            ):
                yield client, raw, folder
        finally:
            process.terminate()


def lines(folder):
    """Each line of the log, every one of which is an object."""
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def of(folder, request):
    return eventually(lambda: [line for line in lines(folder) if line.get("request") == request])


def test_failures_alone_are_in_the_access_log_those_of_models_among_them(served):
    client, raw, folder = served
    endpoint = client.deploy(divide, name="divide", max_workers=1, **SMALL).model_endpoint
    for number, request in ((1, "good-1"), (0, "bad-1")):
        answer = raw.post(
            "/v1/sync-tasks",
            params={"model_endpoint_id": endpoint.id},
            json={"args": {"number": number}},
            headers={"X-Request-ID": request, **TRACED},
        )
        assert answer.status_code == 200
    raw.get("/v1/model-endpoints/end_no", headers={"X-Request-ID": "missing-1"})
    (line,) = of(folder, "missing-1")
    assert (line["status"], line["method"], line["trace"]) == (404, "GET", None)
    (line,) = of(folder, "bad-1")
    assert (line["status"], line["trace"], line["owner"]) == (200, TRACE, "admin")
    assert isinstance(line["ms"], float)
    assert not [line for line in lines(folder) if line.get("request") == "good-1"]


def test_every_line_of_the_log_is_an_object_with_its_time_and_level(served):
    _, _, folder = served
    own = [line for line in lines(folder) if "status" not in line]
    assert own
    for line in own:
        assert line.keys() >= {"time", "level", "logger", "message"}
    assert [line for line in own if line["message"].startswith("data: ")]

"""A sample of requests and answers is kept as JSON lines, and takes neither time nor room beyond its bounds."""

import json
import time

import pytest
from server_driver import SMALL, args, eventually, http, running
from typer.testing import CliRunner

from openlaunch.cli.app import app
from openlaunch.errors import Unprocessable


def divide(number):
    return 1 / number


def count(n):
    yield from range(n)


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with running(tmp_path_factory.mktemp("recorded")) as client:
        yield client


@pytest.fixture(scope="module")
def divided(client):
    """An endpoint of which two predictions are recorded, the second one a failure."""
    endpoint = client.deploy(divide, name="divide", record={"share": 1, "days": 7}, max_workers=1, **SMALL)
    endpoint.predict(args(number=2))
    assert endpoint.predict(args(number=0)).status == "FAILURE"
    return endpoint


def recorded(client, endpoint, number, **part):
    def read():
        lines = [json.loads(line) for line in client.read_recordings(endpoint, **part).splitlines()]
        return lines if len(lines) == number else None

    return eventually(read)


def test_requests_and_answers_of_every_kind_are_recorded(client, divided):
    good, bad = recorded(client, divided, 2)
    assert good["input"] == {"args": {"number": 2}}
    assert good["outcome"] == "SUCCESS"
    assert json.loads(good["answer"]["result"]["result"]) == 0.5
    assert (bad["outcome"], bad["owner"]) == ("FAILURE", "admin")
    assert "ZeroDivisionError" in json.dumps(bad["answer"])
    assert bad["request"].startswith("req_")

    stream = client.deploy(count, name="count", record={"share": 1}, max_workers=1, **SMALL)
    assert len(list(stream.predict(args(n=3)))) == 3
    (line,) = recorded(client, stream, 1)
    assert len(line["answer"]) == 3
    assert line["input"] == {"args": {"n": 3}}

    queued = client.deploy(
        divide, name="queued", endpoint_type="async", record={"share": 1}, max_workers=1, **SMALL
    )
    task = queued.predict(args(number=4))
    task.get(timeout=60)
    (line,) = recorded(client, queued, 1)
    assert line["task"] == task.async_task_id


def test_what_is_recorded_is_shown_and_part_of_it_can_be_read(client, divided, monkeypatch):
    described = client.get_model_endpoint("divide").model_endpoint
    assert (described.record.share, described.record.days) == (1, 7)
    entry = next(e for e in client.list_audit_log().entries if e.summary.get("record.share") is not None)
    assert entry.action in ("create_model_endpoint", "deploy_model_endpoint")
    at = recorded(client, "divide", 2)[1]["at"]
    assert len(recorded(client, "divide", 1, since=at)) == 1
    assert len(recorded(client, "divide", 1, until=at)) == 1
    monkeypatch.setenv("OPENLAUNCH_URL", client.server.url)
    monkeypatch.setenv("OPENLAUNCH_API_KEY", client.server.api_key)
    shown = CliRunner().invoke(app, ["endpoints", "recordings", "divide"])
    assert len(shown.stdout.splitlines()) == 2
    assert "of all requests and answers" in CliRunner().invoke(app, ["endpoints", "get", "divide"]).stdout


def test_nothing_is_recorded_unless_that_is_asked_for(client):
    ended = client.deploy(divide, name="ended", record={"share": 1}, max_workers=1, **SMALL)
    client.edit_model_endpoint(model_endpoint=ended, record={"share": 0})
    ended.predict(args(number=5))
    assert client.read_recordings(ended) == b""
    plain = client.deploy(divide, name="plain", max_workers=1, **SMALL)
    plain.predict(args(number=1))
    assert client.read_recordings(plain) == b""
    assert plain.model_endpoint.record is None


@pytest.mark.parametrize("record", [{"share": 2}, {"days": 0}, {"max_bytes": 5}, {"shares": 1}])
def test_settings_that_make_no_sense_are_refused(client, divided, record):
    with pytest.raises(Unprocessable, match="record"):
        client.edit_model_endpoint(model_endpoint="divide", record=record)


def test_another_owner_sees_none_of_it(client, divided):
    key = client.create_api_key("ann").api_key
    with http(client, key) as other:
        path = f"/v1/model-endpoints/{divided.model_endpoint.id}/recordings"
        assert other.get(path).status_code == 404


def test_a_disk_that_is_full_ends_recording_and_no_request(client):
    folder = client.server.data_dir / "artifacts" / "recordings"
    endpoint = client.deploy(divide, name="full", record={"share": 1}, max_workers=1, **SMALL)
    endpoint_id = endpoint.model_endpoint.id
    blocked = folder / endpoint_id
    blocked.parent.mkdir(exist_ok=True)
    blocked.write_text("a file where a folder is needed")
    assert endpoint.predict(args(number=1)).status == "SUCCESS"
    began = time.monotonic()
    with http(client) as raw:
        raw.get(f"/v1/model-endpoints/{endpoint_id}/recordings")
    assert endpoint.predict(args(number=1)).status == "SUCCESS"
    assert time.monotonic() - began < 30
    eventually(
        lambda: any(
            "recording has stopped" in e.message for e in client.list_endpoint_events(endpoint).events
        )
    )

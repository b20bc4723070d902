"""What a function may know of its request, and what a task says before its end, by every way to see it."""

from __future__ import annotations

import asyncio
import http.server
import json

import pytest
from http_service import http_service
from server_driver import SMALL, args, eventually, problem, running

import openlaunch
from openlaunch import EndpointRequest, aio
from openlaunch.cli.app import run
from openlaunch.errors import EndpointFailed, WaitTimeout


def about(x: int, context: openlaunch.Context) -> dict:
    return {
        "x": x,
        "headers": dict(context.headers),
        "request_id": context.request_id,
        "caller": context.caller,
        "left": context.time_left(),
        "trace": context.trace,
        "cancelled": context.cancelled,
    }


async def about_on_loop(name, context: openlaunch.Context):
    return {"x": name, "headers": dict(context.headers), "caller": context.caller}


def each(context: openlaunch.Context, to: int = 2):
    for number in range(to):
        context.partial("dropped")
        yield {"number": number, "id": context.request_id}


def steps(go: str, context: openlaunch.Context, last: str = ""):
    import pathlib
    import time

    for number, word in enumerate(["one", "two", "three"]):
        context.progress(number / 3, word)
        context.partial({"word": word})
    while not pathlib.Path(go).exists():
        time.sleep(0.01)
    if last:
        context.partial(last)
    return "done"


def batched(inputs, context: openlaunch.Context):
    return inputs


@pytest.fixture(scope="module")
def endpoints(client):
    client.deploy(about, name="co-about", **SMALL)
    client.deploy(about, name="co-later", endpoint_type="async", **SMALL)
    client.deploy(about_on_loop, name="co-loop", **SMALL)
    client.deploy(each, name="co-each", **SMALL)
    client.deploy(steps, name="co-steps", endpoint_type="async", per_worker=4, max_workers=1, **SMALL)
    return client


SENT = {"X-Tenant": "a", "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-00", "X-Request-ID": "mine"}


def test_a_function_knows_its_request(raw, endpoints):
    got = raw.post("/e/co-about", json={"x": 1}, headers=SENT).json()
    assert (got["x"], got["request_id"], got["cancelled"]) == (1, "mine", False)
    assert got["headers"]["x-tenant"] == "a"
    assert "authorization" not in got["headers"]
    assert got["caller"] == raw.get("/v1/whoami").json()["owner"]
    assert 0 < got["left"] <= 300
    assert got["trace"] == SENT["traceparent"]


def test_a_coroutine_and_a_generator_know_theirs(raw, endpoints):
    assert raw.post("/e/co-loop", json={"name": 2}, headers=SENT).json()["headers"]["x-tenant"] == "a"
    lines = raw.post("/e/co-each", json={}, headers={**SENT, "accept": "application/x-ndjson"}).text
    assert [json.loads(line) for line in lines.splitlines()] == [{"number": n, "id": "mine"} for n in (0, 1)]


def test_a_task_knows_the_headers_of_its_request(raw, endpoints):
    path = f"/v1/async-tasks?model_endpoint_id={endpoints.get_model_endpoint('co-later').model_endpoint.id}"
    task_id = raw.post(path, json={"args": {"x": 3}}, headers=SENT).json()["task_id"]
    got = endpoints.future(task_id).get(60).value
    assert (got["request_id"], got["headers"]["x-tenant"]) == (task_id, "a")
    assert "authorization" not in got["headers"]
    many = endpoints.get_model_endpoint("co-later").predict_many([args(x=4)])
    assert many[0].get(60).value["x"] == 4


def test_the_context_is_not_an_argument_of_requests(raw, endpoints):
    described = raw.get("/e/co-about").json()
    assert "context" not in json.dumps(described)
    problem(raw.post("/e/co-about", json={"x": 1, "context": {}}), 422)


def test_a_function_with_a_context_can_be_called_without_a_server():
    context = openlaunch.Context(headers={"a": "b"})
    context.progress(0.5, "half")
    context.partial([1])
    assert about(1, context)["headers"] == {"a": "b"}
    with pytest.raises(ValueError, match="from 0 to 1"):
        context.progress(2)


def test_batches_have_no_context(endpoints):
    with pytest.raises(EndpointFailed, match="batches of several requests"):
        endpoints.deploy(batched, name="co-batch", max_batch_size=4, **SMALL)


def test_progress_and_partial_values_are_seen_as_they_come(endpoints, tmp_path, raw):
    go = tmp_path / "go"
    future = endpoints.get_model_endpoint("co-steps").predict(args(go=str(go), last="last"))
    parts = future.partials(timeout=60)
    assert [next(parts) for _ in range(3)] == [{"word": word} for word in ("one", "two", "three")]
    progress = eventually(lambda: (p := future.progress()) and p.fraction > 0.6 and p)
    assert str(progress) == "67% three"
    polled = raw.get(f"/v1/async-tasks/{future.async_task_id}").json()
    assert polled["progress"] == {"fraction": pytest.approx(2 / 3), "text": "three"}
    go.touch()
    assert list(parts) == ["last"]
    assert future.get(60).value == "done"
    assert list(future.partials())[-1] == "last"
    assert "progress" not in raw.get(f"/v1/async-tasks/{future.async_task_id}").json()


def test_partial_values_as_events(endpoints, tmp_path, raw):
    go = tmp_path / "go"
    future = endpoints.get_model_endpoint("co-steps").predict(args(go=str(go)))
    path = f"/v1/async-tasks/{future.async_task_id}/progress"
    seen = []
    with raw.stream("GET", path, headers={"accept": "text/event-stream"}) as response:
        for line in response.iter_lines():
            seen.append(line)
            if line == 'data: {"word":"three"}' or "three" in line:
                go.touch()
    assert seen[-3:-1] == ["event: end", 'data: {"status": "SUCCESS"}']
    values = [json.loads(line[6:]) for line in seen if line.startswith("data: ")]
    assert {"word": "two"} in values
    assert any(value.get("text") == "three" for value in values)
    numbers = [int(line[4:]) for line in seen if line.startswith("id: ")]
    assert numbers == sorted(numbers)
    again = raw.get(path, params={"after": numbers[0]}).json()
    assert [each["value"]["word"] for each in again["partials"]][-1] == "three"


def test_the_awaitable_twin_follows_too(endpoints, tmp_path):
    go = tmp_path / "go"
    go.touch()

    async def follow():
        async with aio.LaunchClient(endpoints.server.api_key, endpoints.server.url) as client:
            endpoint = await client.get_model_endpoint("co-steps")
            future = await endpoint.predict(args(go=str(go)))
            parts = [part async for part in future.partials(timeout=60)]
            return parts, await future.progress()

    parts, progress = asyncio.run(follow())
    assert [part["word"] for part in parts] == ["one", "two", "three"]
    assert progress.text == "three"


def test_following_has_an_end(endpoints, tmp_path):
    future = endpoints.get_model_endpoint("co-steps").predict(args(go=str(tmp_path / "never")))
    with pytest.raises(WaitTimeout, match="it keeps running"):
        list(future.partials(timeout=0.2))
    future.cancel()


def test_a_task_of_somebody_else_is_not_followed(raw, endpoints):
    problem(raw.get("/v1/async-tasks/unknown/progress"), 404)
    problem(raw.get("/v1/async-tasks/unknown/progress?after=-1"), 422)


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.server.signed.append(self.headers["webhook-signature"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_callback_that_asks_for_it_gets_what_a_task_says(endpoints, tmp_path):
    go = tmp_path / "go"
    with http_service(Receiver) as server:
        server.received, server.signed = [], []
        url = f"http://127.0.0.1:{server.server_port}/"
        request = EndpointRequest(args={"go": str(go)}, callback_url=url, callback_progress=True)
        endpoints.get_model_endpoint("co-steps").predict(request)
        eventually(lambda: any(each.get("progress") for each in server.received))
        go.touch()
        eventually(lambda: server.received[-1]["status"] == "SUCCESS")
        assert server.received[0]["status"] == "STARTED"
        assert {"word": "one"} in [each["value"] for each in server.received[0]["partials"]]
        assert all(server.signed)


def test_the_command_shows_how_far_a_task_is(endpoints, tmp_path, monkeypatch, capfd):
    future = endpoints.get_model_endpoint("co-steps").predict(args(go=str(tmp_path / "never")))
    eventually(lambda: (p := future.progress()) and p.text == "three")
    monkeypatch.setenv("OPENLAUNCH_URL", endpoints.server.url)
    monkeypatch.setenv("OPENLAUNCH_API_KEY", endpoints.server.api_key)
    assert run(["tasks", "get", future.async_task_id]) == 0
    assert capfd.readouterr().out == "STARTED █████████████░░░░░░░  67% three\n"
    future.cancel()


@pytest.mark.slow
def test_what_a_task_has_said_last_survives_the_server(tmp_path):
    go = tmp_path / "go"
    with running(tmp_path / "data", drain_seconds=0) as client:
        client.deploy(steps, name="co-again", endpoint_type="async", **SMALL)
        future = client.get_model_endpoint("co-again").predict(args(go=str(go)))
        eventually(lambda: (p := future.progress()) and p.text == "three")
        client.edit_model_endpoint(model_endpoint="co-again", min_workers=0, max_workers=0)
    with running(tmp_path / "data") as client:
        again = client.future(future.async_task_id)
        assert again.progress().text == "three"
        client.edit_model_endpoint(model_endpoint="co-again", max_workers=1)
        go.touch()
        assert {"word": "three"} in list(again.partials(timeout=60))
        assert again.get(60).value == "done"

"""A function calls other endpoints: as their caller it has the deadline, the trace and the end of its own request."""

from __future__ import annotations

import asyncio
import os
import pathlib
import time

import pytest
from server_driver import SMALL, args, eventually, problem

import openlaunch


def inner(x: int, context: openlaunch.Context, mode: str = "", file: str = "") -> dict:
    if file:
        with pathlib.Path(file).open("a") as log:
            log.write("inner\n")
    if mode == "refuse":
        raise openlaunch.errors.InvalidInput("x is refused", 404)
    if mode == "fail":
        raise ValueError("no")
    try:
        while mode == "wait":
            time.sleep(0.01)
    finally:
        if mode == "wait":
            pathlib.Path(file).with_suffix(".over").touch()
    left = context.time_left()
    return {"x": x + 1, "caller": context.caller, "left": left, "trace": context.trace}


def count(to: int):
    for number in range(to):
        if number == 5:
            raise ValueError("five")
        yield number


def outer(x: int = 1, name: str = "cm-inner", mode: str = "", file: str = "") -> object:
    called = openlaunch.endpoint(name)
    if mode == "caught":
        try:
            return called.predict(x=x, mode="refuse")
        except openlaunch.CallFailed as error:
            return [error.status_code, error.code, str(error)]
    if mode == "again":
        got = called.predict(x=x, file=file)
        if not pathlib.Path(file).with_suffix(".died").exists():
            pathlib.Path(file).with_suffix(".died").touch()
            os._exit(1)
        return got
    if mode == "admin":
        from openlaunch_worker.calling import _head, _Line

        with _Line() as line:
            answer = line.ask(_head("GET", "/v1/keys", "*/*", "Authorization: Bearer x\r\n"))
            return answer.parser.status
    if name == "cm-count":
        return [called.predict(to=2), list(called.stream(to=x))]
    return called.predict(x=x, mode=mode, file=file)


async def outer_on_loop(x: int, to: int = 0):
    called = openlaunch.aio.endpoint("cm-inner")
    both = await asyncio.gather(called.predict(x=x), called.predict(x=x + 1))
    items = [item async for item in openlaunch.aio.endpoint("cm-count").stream(to=to)]
    return [[each["x"] for each in both], items]


def passed_on(to: int):
    yield from openlaunch.endpoint("cm-count").stream(to=to)


def circle(depth: int) -> int:
    return 0 if depth == 0 else 1 + openlaunch.endpoint("cm-circle").predict(depth=depth - 1)


def later(depth: int, name: str = "cm-later") -> int:
    other = "cm-asks" if name == "cm-later" else "cm-later"
    return 0 if depth == 0 else 1 + openlaunch.endpoint(name).predict(depth=depth - 1, name=other)


@pytest.fixture(scope="module")
def endpoints(client):
    more = {"per_worker": 4, "max_workers": 1}
    client.deploy(inner, name="cm-inner", wait=False, **more, **SMALL)
    client.deploy(count, name="cm-count", wait=False, **more, **SMALL)
    client.deploy(outer, name="cm-outer", wait=False, **more, **SMALL)
    client.deploy(outer_on_loop, name="cm-loop", wait=False, **SMALL)
    client.deploy(passed_on, name="cm-passed", wait=False, **SMALL)
    client.deploy(circle, name="cm-circle", max_workers=1, per_worker=2, wait=False, **SMALL)
    for name in ("inner", "count", "outer", "loop", "passed", "circle"):
        client.get_model_endpoint(f"cm-{name}").wait_until_ready(100)
    return client


def test_a_function_calls_another_as_its_owner(raw, endpoints):
    trace = "00-" + "1" * 32 + "-" + "2" * 16 + "-00"
    got = raw.post("/e/cm-outer", json={"x": 5}, headers={"traceparent": trace}).json()
    assert got["x"] == 6
    assert got["caller"] == raw.get("/v1/whoami").json()["owner"]
    assert got["trace"] == trace
    assert [raw.post("/e/cm-outer", json={"x": n}).json()["x"] for n in range(3)] == [1, 2, 3]


def test_coroutines_call_several_at_a_time(raw, endpoints):
    assert raw.post("/e/cm-loop", json={"x": 1, "to": 2}).json() == [[2, 3], [0, 1]]


def test_streams_pass_through(raw, endpoints):
    assert raw.post("/e/cm-outer", json={"x": 3, "name": "cm-count"}).json() == [[0, 1], [0, 1, 2]]
    lines = raw.post("/e/cm-passed", json={"to": 3}, headers={"accept": "application/x-ndjson"}).text
    assert lines == "0\n1\n2\n"
    items = list(endpoints.get_model_endpoint("cm-passed").predict(args(to=7)))
    assert [item.value for item in items[:5]] == [0, 1, 2, 3, 4]
    assert "five" in items[5].traceback


def test_a_failure_says_whose_it_is(raw, endpoints):
    status, _, text = raw.post("/e/cm-outer", json={"mode": "caught"}).json()
    assert (status, text) == (404, "the endpoint 'cm-inner' answered 404: x is refused")
    failed = problem(raw.post("/e/cm-outer", json={"mode": "fail"}), 500)
    assert "the endpoint 'cm-inner' answered 500" in failed["detail"]
    assert (
        "neither an endpoint of yours"
        in problem(raw.post("/e/cm-outer", json={"name": "none"}), 500)["detail"]
    )


def test_a_call_may_predict_and_nothing_else(raw, endpoints):
    assert raw.post("/e/cm-outer", json={"mode": "admin"}).json() == 403


def test_a_call_has_the_deadline_of_its_request(endpoints):
    outer_endpoint = endpoints.get_model_endpoint("cm-outer")
    assert outer_endpoint.predict(args(x=1), timeout=30).value["left"] <= 30


@pytest.mark.parametrize("late", [True, False])
def test_a_call_ends_with_its_request(endpoints, tmp_path, late):
    file = tmp_path / "log"
    later = endpoints.get_model_endpoint("cm-outer")
    if late:
        with pytest.raises(openlaunch.errors.DeadlineExceeded):
            later.predict(args(mode="wait", file=str(file)), timeout=1)
    else:
        path = "/e/cm-outer"
        import httpx2

        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(
                endpoints.server.url + path,
                json={"mode": "wait", "file": str(file)},
                auth=(endpoints.server.api_key, ""),
                timeout=2,
            )
    eventually(lambda: file.with_suffix(".over").exists())


def test_what_would_wait_for_itself_is_refused_with_a_sentence(raw, endpoints):
    assert raw.post("/e/cm-circle", json={"depth": 1}).json() == 1
    failed = problem(raw.post("/e/cm-circle", json={"depth": 2}), 500)
    assert "would wait for ever" in failed["detail"]
    assert raw.post("/e/cm-circle", json={"depth": 1}).json() == 1


def test_a_circle_through_tasks_is_refused_at_once(raw, endpoints):
    alone = {"max_workers": 1, "per_worker": 1, **SMALL}
    endpoints.deploy(later, name="cm-later", endpoint_type="async", **alone)
    endpoints.deploy(later, name="cm-asks", **alone)
    wait = {"Prefer": "wait=60"}
    for name, depth, other in (
        ("cm-later", 1, "cm-later"),
        ("cm-asks", 2, "cm-later"),
        ("cm-later", 2, "cm-asks"),
    ):
        failed = problem(raw.post(f"/e/{name}", json={"depth": depth, "name": other}, headers=wait), 500)
        assert "would wait for ever" in failed["detail"]
        assert raw.post(f"/e/{name}", json={"depth": 0}, headers=wait).json() == 0
    assert raw.post("/e/cm-asks", json={"depth": 1}).json() == 1


def test_a_task_that_runs_again_makes_no_call_twice(raw, endpoints, tmp_path):
    file = tmp_path / "log"
    got = raw.post(
        "/e/cm-outer", json={"mode": "again", "file": str(file)}, headers={"prefer": "wait=60"}
    ).json()
    assert got.get("x") == 2, got
    assert file.read_text() == "inner\n"


def test_elsewhere_than_in_a_worker_it_says_what_to_use():
    with pytest.raises(RuntimeError, match="LaunchClient"):
        openlaunch.endpoint("cm-inner").predict(x=1)

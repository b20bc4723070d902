"""Predictions by the name of their endpoint: the body is the args, the answer is the value."""

import gzip
import json
import sys
import time
import zlib

import httpx2
import pytest
from server_driver import DEADLINE, SMALL, eventually, http, problem

from openlaunch_worker import InvalidInput

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def add(a, b=1):
    if a == "refuse":
        raise InvalidInput(f"b is {b}, below 1", *([] if b == 0 else [b]))
    if a == "raise":
        raise ValueError("no such number")
    if a == "long":
        return 'x"\\é' * 400_000
    if a == "slow":
        time.sleep(b)
    return {"sum": [a, b]}


def count(to, fail=False):
    for number in range(to):
        yield {"n": number, "text": 'a"\n'}
    if fail:
        raise ValueError("ran out")


def large_items(size):
    yield 0
    yield 'a"\n' * size
    yield 1


@pytest.fixture(scope="module")
def endpoints(client):
    client.deploy(add, name="bn-add", public_inference=True, per_worker=4, **SMALL)
    client.deploy(add, name="bn-later", endpoint_type="async", **SMALL)
    client.deploy(count, name="bn-count", endpoint_type="streaming", **SMALL)
    return client


@pytest.fixture(scope="module")
def other(client, endpoints):
    """Plain HTTP with the key of another owner."""
    with http(client, client.create_api_key(owner="bn-other", role="user").api_key) as raw:
        yield raw


def test_the_body_is_the_args_and_the_answer_the_value(raw, endpoints):
    answer = raw.post("/e/bn-add", json={"a": 2, "b": 3})
    assert (answer.status_code, answer.json()) == (200, {"sum": [2, 3]})
    assert answer.headers["content-type"] == "application/json"
    assert raw.post("/e/admin/bn-add", json={"a": 2}).json() == {"sum": [2, 1]}
    assert raw.post("/e/bn-add", json={"a": "long"}).json() == 'x"\\é' * 400_000
    # What curl sends with -d alone.
    typed = {"content-type": "application/x-www-form-urlencoded"}
    assert raw.post("/e/bn-add", content=b'{"a": 1}', headers=typed).json() == {"sum": [1, 1]}


@pytest.mark.parametrize("body", [b"{", b'1, "args": {"a": 1}', b'{"a": 1}, "url": "http://x/"', b"nonsense"])
def test_a_body_that_is_not_json_is_400(raw, endpoints, body):
    for name in ("bn-add", "bn-later", "bn-count"):
        assert problem(raw.post(f"/e/{name}", content=body), 400)["code"] == "invalid_json"


def test_what_else_is_wrong_has_its_status(raw, endpoints):
    assert "null" in problem(raw.post("/e/bn-add", content=b"null"), 422)["title"]
    assert problem(raw.post("/e/bn-none", json={}), 404)["code"] == "endpoint_not_found"
    assert problem(raw.post("/e/nobody/bn-add", json={}), 404)["code"] == "endpoint_not_found"
    assert "application/json" in problem(raw.post("/e/bn-add", files={"a": b"1"}), 415)["detail"]
    problem(raw.post("/e/bn-add", json={"a": 1}, headers={"accept": "image/png"}), 406)
    problem(httpx2.post(f"{raw.base_url}/e/bn-add", json={"a": 1}), 401)
    assert raw.put("/e/bn-add", json={}).status_code == 405


def test_an_exception_is_500_with_the_traceback_for_the_owner_only(raw, other):
    mine = problem(raw.post("/e/bn-add", json={"a": "raise"}, headers={"x-request-id": "r-1"}), 500)
    assert (mine["detail"], mine["request_id"]) == ("ValueError: no such number", "r-1")
    assert "Traceback" in mine["traceback"]
    assert mine["error"] == {"type": "ValueError", "message": "no such number"}
    foreign = problem(other.post("/e/admin/bn-add", json={"a": "raise"}), 500)
    assert "ValueError" in foreign["detail"]
    assert "no such number" not in json.dumps(foreign)
    assert "traceback" not in foreign


def test_a_name_is_ones_own_first_and_then_a_public_one(client, raw, other, endpoints):
    assert other.post("/e/bn-add", json={"a": 5}).json() == {"sum": [5, 1]}
    problem(other.post("/e/bn-later", json={"a": 5}), 404)
    problem(other.post("/e/admin/bn-later", json={"a": 5}), 404)


def test_a_task_is_202_and_its_location_long_polls(raw, endpoints):
    accepted = raw.post("/e/bn-later", json={"a": 4})
    assert accepted.status_code == 202, accepted.text
    location = accepted.headers["location"]
    assert location == accepted.json()["location"]
    assert location.startswith(f"{str(raw.base_url).rstrip('/')}/e/bn-later/tasks/")
    assert raw.get(location).json() == {"sum": [4, 1]}
    failed = raw.post("/e/bn-later", json={"a": "raise"}).headers["location"]
    assert problem(raw.get(failed), 500)["detail"] == "ValueError: no such number"
    long = raw.post("/e/bn-later", json={"a": "long"}).headers["location"]
    assert raw.get(long).json() == 'x"\\é' * 400_000
    problem(raw.get("/e/bn-later/tasks/none"), 404)


@pytest.mark.parametrize("name", ["bn-later", "bn-add"])
def test_prefer_works_on_any_kind(raw, endpoints, name):
    now = raw.post(f"/e/{name}", json={"a": 4}, headers={"prefer": f"wait={DEADLINE:.0f}"})
    assert (now.status_code, now.json()) == (200, {"sum": [4, 1]})
    later = raw.post(f"/e/{name}", json={"a": "slow", "b": 0.5}, headers={"prefer": "respond-async, wait=0"})
    assert (later.status_code, later.json()["status"] in ("PENDING", "STARTED")) == (202, True)
    asked = raw.get(later.headers["location"], headers={"prefer": "wait=0"})
    assert asked.status_code == 202
    assert asked.headers["location"] == later.headers["location"]
    assert raw.get(later.headers["location"]).json() == {"sum": ["slow", 0.5]}


def test_where_the_value_will_be_is_answered_even_if_it_is_there(raw, endpoints):
    headers = {"idempotency-key": "bn-ended"}
    first = raw.post("/e/bn-later", json={"a": 4}, headers=headers)
    assert raw.get(first.headers["location"]).json() == {"sum": [4, 1]}
    again = raw.post("/e/bn-later", json={"a": 4}, headers=headers)
    assert (again.status_code, again.headers["location"]) == (202, first.headers["location"])


def test_a_cancelled_task_is_410(raw, endpoints):
    task = raw.post("/e/bn-later", json={"a": "slow", "b": 30}).json()
    assert raw.post(f"/v1/async-tasks/{task['task_id']}/cancel").json()["cancelled"]
    problem(raw.get(task["location"]), 410)


ITEMS = [{"n": number, "text": 'a"\n'} for number in range(3)]


def test_a_stream_of_events(raw, endpoints):
    answer = raw.post("/e/bn-count", json={"to": 3})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [event for event in answer.text.split("\n\n") if event and event != ":"]
    assert [json.loads(event.removeprefix("data: ")) for event in events[:-1]] == ITEMS
    assert events[-1] == "event: end\ndata: {}"
    *_, last = [e for e in raw.post("/e/bn-count", json={"to": 3, "fail": True}).text.split("\n\n") if e]
    assert last.startswith("event: error\ndata: ")
    assert json.loads(last.partition("data: ")[2])["detail"] == "ValueError: ran out"


@pytest.mark.parametrize(
    ("accept", "read"),
    [
        ("application/x-ndjson", lambda text: [json.loads(line) for line in text.splitlines()]),
        ("application/json", json.loads),
    ],
)
def test_a_stream_of_lines_and_a_list(raw, endpoints, accept, read):
    asked = {"accept": accept}
    answer = raw.post("/e/bn-count", json={"to": 3}, headers=asked)
    assert (answer.headers["content-type"], read(answer.text)) == (accept, ITEMS)
    assert read(raw.post("/e/bn-count", json={"to": 0}, headers=asked).text) == []
    # A failure is never taken for the end: the body is cut off, or has not begun, and has a status.
    with pytest.raises(httpx2.RemoteProtocolError):
        raw.post("/e/bn-count", json={"to": 3, "fail": True}, headers=asked)
    assert problem(raw.post("/e/bn-count", json={"to": 0, "fail": True}, headers=asked), 500)
    problem(raw.post("/e/bn-count", json={"to": 1}, headers={"accept": "image/png"}), 406)


def test_a_stream_by_name_is_not_resumed(raw, endpoints):
    problem(raw.post("/e/bn-count", json={"to": 1}, headers={"openlaunch-resume": "true"}), 400)


@pytest.mark.parametrize("prefer", ["", "respond-async"])
def test_a_repeated_request_has_the_first_answer(raw, endpoints, prefer):
    headers = {"idempotency-key": f"bn-{prefer}", "prefer": prefer}
    first, again = (raw.post("/e/bn-add", json={"a": "long"}, headers=headers) for _ in range(2))
    assert first.status_code == again.status_code == (202 if prefer else 200)
    assert first.json().get("task_id") == again.json().get("task_id") if prefer else first.text == again.text
    problem(raw.post("/e/bn-add", json={"a": 2}, headers=headers), 422)


def test_a_client_that_leaves_frees_its_slot(raw, endpoints):
    with pytest.raises(httpx2.ReadTimeout):
        raw.post("/e/bn-add", json={"a": "slow", "b": 60}, timeout=0.5)
    eventually(lambda: raw.post("/e/bn-add", json={"a": 1}).status_code == 200)


def test_the_description_of_an_endpoint(client, raw, other, endpoints):
    url = f"{str(raw.base_url).rstrip('/')}/e/admin/bn-add"
    expected = {"name": "bn-add", "owner": "admin", "endpoint_type": "sync", "status": "READY", "url": url}
    for asker, path in ((raw, "/e/bn-add"), (other, "/e/admin/bn-add"), (other, "/e/bn-add")):
        answer = asker.get(path).json()
        assert answer.items() >= expected.items()
        assert answer["openapi_url"] == f"{url}/openapi.json"
    problem(other.get("/e/bn-later"), 404)
    problem(httpx2.get(url), 401)


@pytest.mark.parametrize("name", ["bn-add", "bn-later", "bn-count"])
def test_the_document_of_an_endpoint(raw, endpoints, name):
    document = raw.get(f"/e/{name}/openapi.json").json()
    assert document == raw.get(f"/e/admin/{name}/openapi.json").json()
    assert document["paths"][f"/e/admin/{name}"]["post"]["operationId"] == "predict"
    assert document["servers"] == [{"url": str(raw.base_url).rstrip("/")}]


@pytest.mark.parametrize(("given", "status"), [(0, 422), (404, 404), (413, 413), (418, 400), (200, 500)])
def test_a_model_refuses_an_input_with_a_status_and_all_see_why(raw, other, endpoints, given, status):
    for asker in (raw, other):
        refused = problem(asker.post("/e/bn-add", json={"a": "refuse", "b": given}), status)
        if status < 500:
            assert refused["detail"] == f"b is {given}, below 1"
            assert "traceback" not in refused
    task = raw.post("/e/bn-later", json={"a": "refuse", "b": given}).json()
    problem(raw.get(task["location"]), status)


CODINGS = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("name", ["bn-add", "bn-later"])
def test_a_body_may_be_compressed(raw, endpoints, name, coding):
    compress = CODINGS[coding]

    def post(body, coding=coding):
        return raw.post(f"/e/{name}", content=body, headers={"content-encoding": coding, "prefer": "wait=60"})

    large = compress(json.dumps({"a": "x" * 500_000}).encode())
    assert post(large).json() == {"sum": ["x" * 500_000, 1]}
    assert post(compress(b'{"a": ') + compress(b"7}")).json() == {"sum": [7, 1]}
    assert "cut off" in problem(post(large[:-20]), 400)["detail"]
    problem(post(b"nonsense"), 400)
    assert problem(post(compress(b"nonsense")), 400)["code"] == "invalid_json"
    refused = post(b"{}", "br")
    assert "gzip" in problem(refused, 415)["detail"]
    assert refused.headers["accept-encoding"] == "gzip, deflate, zstd"
    bomb = compress(b" " * 1024 * 1024) * 200
    problem(post(bomb), 413)
    problem(post(compress(b"") * 2000), 400)


def test_a_zstd_body_may_not_ask_for_much_memory(raw, endpoints):
    options = {zstd.CompressionParameter.window_log: 27}
    body = zstd.compress(b'{"a": "' + b"x" * 9_000_000 + b'"}', options=options)
    answer = raw.post("/e/bn-add", content=body, headers={"content-encoding": "zstd"})
    assert "not zstd" in problem(answer, 400)["detail"]


def test_pages_of_an_endpoints_origins_may_call_it_by_name_alone(client, raw):
    origin = "https://app.example"
    client.deploy(add, name="bn-page", cors_origins=[origin], **SMALL)

    def post(name, origin, method="POST"):
        preflight = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        }
        headers = {"origin": origin, **(preflight if method == "OPTIONS" else {})}
        return raw.request(method, f"/e/{name}", json={"a": 1}, headers=headers)

    asked = post("bn-page", origin, "OPTIONS")
    assert asked.status_code < 300
    assert asked.headers["access-control-allow-origin"] == origin
    assert asked.headers["access-control-allow-headers"] == "authorization"
    answer = post("bn-page", origin)
    assert (answer.json(), answer.headers["access-control-allow-origin"]) == ({"sum": [1, 1]}, origin)
    assert "Location" in answer.headers["access-control-expose-headers"].split(", ")
    for below in ("bn-page/tasks/none", "admin/bn-page/tasks/none", "bn-page/openapi.json"):
        for method in ("OPTIONS", "GET"):
            found = post(below, origin, method).headers.get("access-control-allow-origin")
            assert (below, method, found) == (below, method, origin)
    for name, other in (("bn-page", "https://other.example"), ("bn-add", origin), ("bn-none", origin)):
        assert "access-control-allow-origin" not in post(name, other).headers
    client.edit_model_endpoint(model_endpoint="bn-page", cors_origins=["*"])
    assert (
        post("bn-page", "https://other.example").headers["access-control-allow-origin"]
        == "https://other.example"
    )
    wrong = raw.put(
        f"/v1/model-endpoints/{client.get_model_endpoint('bn-page').model_endpoint.id}",
        json={"cors_origins": ["app.example"]},
    )
    assert wrong.status_code == 422


@pytest.mark.parametrize("kind", ["text/event-stream", "application/x-ndjson", "application/json"])
def test_large_items_stay_whole(client, kind):
    client.deploy(large_items, name="bn-large", endpoint_type="streaming", **SMALL)
    with http(client) as raw:
        text = raw.post("/e/bn-large", json={"size": 200_000}, headers={"accept": kind}).text
    if kind == "application/json":
        items = json.loads(text)
    elif kind == "application/x-ndjson":
        items = [json.loads(line) for line in text.splitlines()]
    else:
        items = [json.loads(line[6:]) for line in text.split("\n\n") if line.startswith("data: ")]
    assert items == [0, 'a"\n' * 200_000, 1]

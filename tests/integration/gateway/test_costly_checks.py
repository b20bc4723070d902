"""What is costly to parse or to check is parsed and checked in another process, and holds nobody up."""

import json
import threading
import time

import pytest
from pydantic import BaseModel
from server_driver import SMALL, http, problem, running, uploaded_bundle

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
SOON = 0.5
"""Far above what a null prediction takes, and far below what these checks take in the event loop's thread."""


@pytest.fixture(scope="module")
def client():
    with running(max_body_bytes=32 * MIB) as client:
        client.deploy(lambda **_: None, name="null", **SMALL)
        yield client


def endpoint_of(client, **settings):
    return client.deploy(lambda **_: None, **{**SMALL, **settings}).model_endpoint.id


class Beside:
    """Null predictions of another owner, one after another, while the block runs; `worst` is in seconds."""

    def __init__(self, client):
        self._client = client
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._predict)
        self.seconds = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _predict(self):
        endpoint = self._client.get_model_endpoint("null").model_endpoint.id
        with http(self._client) as raw:
            while not self._done.is_set():
                start = time.monotonic()
                answer = raw.post(f"/v1/sync-tasks?model_endpoint_id={endpoint}", json={"args": {}})
                assert answer.status_code == 200
                self.seconds.append(time.monotonic() - start)
                self._done.wait(0.005)  # the checks need the processor, too

    @property
    def worst(self):
        return max(self.seconds, default=0)


def small_elements(size):
    return b"[" + b"[]," * (size // 3) + b"[]]"


@pytest.mark.parametrize("route", ["sync", "async", "bulk", "wait"])
def test_a_body_of_small_elements_holds_nobody_up(client, raw, route):
    kind = "async" if route in ("bulk", "wait") else route
    # With room for the lists: this is about the server.
    endpoint = endpoint_of(client, name=f"elements-{route}", endpoint_type=kind, memory="2Gi")
    one = b'{"args": {"x": ' + small_elements(16 * MIB) + b"}}"
    body = b'{"requests": [%b]}' % one if route == "bulk" else one
    path = {"bulk": "/v1/async-tasks/bulk", "wait": "/v1/async-tasks/wait"}.get(route, f"/v1/{route}-tasks")
    with Beside(client) as beside:
        answer = raw.post(path, params={"model_endpoint_id": endpoint}, content=body)
    assert answer.status_code in (200, 413, 422), answer.text[:300]
    assert beside.worst < SOON


def tree():
    again = {"properties": {"c": {"$ref": "#/components/schemas/RequestSchema"}}, "required": ["z"]}
    return {"anyOf": [again, again]}


@pytest.mark.parametrize(
    ("schema", "args"),
    [
        (tree(), json.loads('{"c": ' * 40 + "{}" + "}" * 40)),
        ({"items": {"anyOf": [{"const": i} for i in range(8000)]}}, [-1] * 1000),
        ({"items": {"enum": [{"a": i} for i in range(15_000)]}}, [{"a": -1}] * 5000),
    ],
)
def test_a_check_that_would_take_for_ever_is_refused(client, raw, schema, args):
    bundle = uploaded_bundle(raw, b"", schemas=json.dumps({"RequestSchema": schema}).encode())
    assert bundle.status_code == 200, bundle.text
    endpoint = client.create_model_endpoint(
        endpoint_name="for-ever", model_bundle=bundle.json()["model_bundle_id"], min_workers=0, **SMALL
    )
    with Beside(client) as beside:
        answer = raw.post(
            "/v1/sync-tasks",
            params={"model_endpoint_id": endpoint.model_endpoint.id},
            json={"args": args, "timeout_seconds": 5},
        )
    client.delete_model_endpoint(endpoint)
    assert problem(answer, 422)["code"] in ("too_costly", "request_schema")
    assert beside.worst < SOON


def test_a_schema_that_explodes_is_refused_when_its_bundle_is_made(client, raw):
    levels = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(40)}
    schema = {"$ref": "#/$defs/a0", "$defs": {**levels, "a40": {}}}
    with Beside(client) as beside:
        answer = uploaded_bundle(raw, b"", schemas=json.dumps({"RequestSchema": schema}).encode())
    assert "once its references are followed" in json.dumps(problem(answer, 422))
    assert beside.worst < SOON


class Node(BaseModel):
    value: int
    left: "Node | None" = None
    right: "Node | None" = None


def test_a_recursive_model_is_checked_and_says_where_it_does_not_fit(client, raw):
    def value(value, **_):
        return value

    endpoint = client.deploy(value, name="recursive", request_schema=Node, **SMALL).model_endpoint.id
    path = f"/v1/sync-tasks?model_endpoint_id={endpoint}"
    good = raw.post(path, json={"args": {"value": 7, "left": {"value": 8}}})
    assert good.json()["result"] == {"result": "7"}
    bad = problem(raw.post(path, json={"args": {"value": 7, "left": {"value": "x"}}}), 422)
    assert bad["code"] == "request_schema"


def test_many_owners_checks_end_with_their_clients(client, raw):
    """A client that leaves leaves no check behind: the next one is served at once."""
    endpoint = endpoint_of(client, name="leaving")
    body = b'{"args": {"x": ' + small_elements(16 * MIB) + b"}}"
    for _ in range(4):
        with pytest.raises(Exception, match="timed out"):
            raw.post(f"/v1/sync-tasks?model_endpoint_id={endpoint}", content=body, timeout=0.5)
    start = time.monotonic()
    good = raw.post(
        f"/v1/sync-tasks?model_endpoint_id={endpoint}", content=b'{"args": {"x": [%b1]}}' % (b"1," * MIB)
    )
    assert good.status_code == 200
    assert time.monotonic() - start < 15

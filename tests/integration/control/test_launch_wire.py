"""The wire as Launch's own client uses it: a new connection for each call, an endpoint looked up by its name before
every prediction, results polled for, streams read as plain text, bundles in their first form.
"""

import base64
import csv
import io
import json
import sys
import urllib.request

import cloudpickle
import pytest
from server_driver import eventually, running


class LaunchWire:
    """What that client's methods send. Every call opens a connection, and closes it."""

    def __init__(self, url, key):
        self.url = url
        self.auth = "Basic " + base64.b64encode(f"{key}:".encode()).decode()

    def call(self, method, path, body=None, **query):
        if query:
            path += "?" + "&".join(f"{name}={value}" for name, value in query.items())
        headers = {"Authorization": self.auth, "Content-Type": "application/json", "Connection": "close"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.read()

    def json(self, method, path, body=None, **query):
        return json.loads(self.call(method, path, body, **query))

    def upload(self, route, data):
        where = self.json("POST", f"/v1/hosted_inference/{route}", {})
        request = urllib.request.Request(where["signedUrl"], data, method="PUT")
        with urllib.request.urlopen(request, timeout=30) as response:
            assert response.status == 200
        return f"s3://{where['bucket']}/{where['key']}"

    def create_bundle(self, name, functions, **changes):
        body = {
            "name": name,
            "location": self.upload("model_bundle_upload", cloudpickle.dumps(functions)),
            "requirements": [],
            "env_params": {"framework_type": "pytorch", "pytorch_image_tag": "2.0.0"},
            "packaging_type": "cloudpickle",
            "metadata": {"load_predict_fn": "source", "load_model_fn": "source"},
            **changes,
        }
        self.call("POST", "/v1/model-bundles", body)
        return self.json("GET", "/v1/model-bundles/latest", model_name=name)

    def create_endpoint(self, name, bundle, kind):
        body = {
            "name": name,
            "model_bundle_id": bundle["id"],
            "endpoint_type": kind,
            "cpus": 1,
            "gpus": 0,
            "memory": "64Mi",
            "storage": "64Mi",
            "min_workers": 1,
            "max_workers": 1,
            "per_worker": 4,
            "labels": {"team": "a"},
            "metadata": {},
        }
        assert self.json("POST", "/v1/model-endpoints", body)["endpoint_creation_task_id"]

    def endpoint(self, name):
        (found,) = self.json("GET", "/v1/model-endpoints", name=name)["model_endpoints"]
        return found

    def predict(self, kind, name, **args):
        body = {"args": args, "return_pickled": False}
        return self.call("POST", f"/v1/{kind}-tasks", body, model_endpoint_id=self.endpoint(name)["id"])


def load_predict(model):
    return lambda x: [model, x]


def load_generator(model):
    def generate(n):
        yield from range(n)
        if n > 2:
            raise ValueError("too many")

    return generate


def load_model():
    return "model"


PAIR = {"load_model_fn": load_model, "load_predict_fn": load_predict}


@pytest.fixture(scope="module")
def wire():
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with running() as client:
        wire = LaunchWire(client.server.url, client.server.api_key)
        bundle = wire.create_bundle("pair", PAIR)
        wire.create_endpoint("wire-sync", bundle, "sync")
        wire.create_endpoint("wire-async", bundle, "async")
        streaming = {"load_model_fn": load_model, "load_predict_fn": load_generator}
        wire.create_endpoint("wire-stream", wire.create_bundle("generator", streaming), "streaming")
        for name in ("wire-sync", "wire-async", "wire-stream"):
            eventually(lambda name=name: wire.endpoint(name)["status"] == "READY")
        yield wire
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_a_sync_prediction(wire):
    answer = json.loads(wire.predict("sync", "wire-sync", x=1))
    assert answer["status"] == "SUCCESS"
    assert json.loads(answer["result"]["result"]) == ["model", 1]


def test_an_async_prediction_is_polled_for(wire):
    task_id = json.loads(wire.predict("async", "wire-async", x=2))["task_id"]

    def done():
        answer = wire.json("GET", f"/v1/async-tasks/{task_id}")
        return answer if answer["status"] not in ("PENDING", "STARTED") else None

    answer = eventually(done)
    assert (answer["status"], json.loads(answer["result"]["result"])) == ("SUCCESS", ["model", 2])


def test_a_stream_is_read_as_plain_text(wire):
    def items(n):
        """As a reader that knows only of `data` lines takes them."""
        text = wire.predict("streaming", "wire-stream", n=n).decode()
        return [
            json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")
        ]

    assert [item["result"]["result"] for item in items(2)] == [0, 1]
    assert all(item["status"] == "SUCCESS" for item in items(2))
    *good, bad = items(3)
    assert [item["result"]["result"] for item in good] == [0, 1, 2]
    assert bad["status"] == "FAILURE"
    assert "too many" in bad["traceback"]


@pytest.mark.parametrize(
    "functions",
    [{"model": "model", "load_predict_fn": load_predict}, load_predict("model")],
    ids=["a model", "a predict function"],
)
def test_the_first_clients_pickles_are_served(wire, functions):
    name = "wire-" + type(functions).__name__
    wire.create_endpoint(name, wire.create_bundle(name, functions), "sync")
    answer = json.loads(wire.predict("sync", name, x=3))
    assert json.loads(answer["result"]["result"]) == ["model", 3]
    wire.call("DELETE", f"/v1/model-endpoints/{wire.endpoint(name)['id']}")


def test_an_endpoint_is_edited_and_its_creation_log_is_read(wire):
    found = wire.endpoint("wire-sync")
    wire.call("PUT", f"/v1/model-endpoints/{found['id']}", {"max_workers": 3, "high_priority": False})
    changed = wire.endpoint("wire-sync")
    assert changed["deployment_state"]["max_workers"] == 3
    assert changed["resource_state"]["memory"] == "64Mi"
    log = wire.json("GET", "/v1/hosted_inference/endpoints/creation_logs/wire-sync")["content"]
    assert "is ready" in log


def test_a_batch_job_of_a_csv(wire):
    file = io.StringIO()
    writer = csv.DictWriter(file, fieldnames=["id", "args"], quotechar="'")
    writer.writeheader()
    for number, text in enumerate(("a", "it's, quoted")):
        writer.writerow({"id": number, "args": json.dumps({"x": text})})
    body = {
        "model_bundle_id": wire.json("GET", "/v1/model-bundles/latest", model_name="pair")["id"],
        "input_path": wire.upload("batch_task_input_upload", file.getvalue().encode()),
        "serialization_format": "JSON",
        "labels": {},
        "resource_requests": {"cpus": 0.1, "memory": "64Mi"},
    }
    job_id = wire.json("POST", "/v1/batch-jobs", body)["job_id"]

    def done():
        job = wire.json("GET", f"/v1/batch-jobs/{job_id}")
        return job if job["status"] not in ("PENDING", "RUNNING") else None

    job = eventually(done)
    assert job["status"] == "SUCCESS"
    with urllib.request.urlopen(job["result"], timeout=30) as response:
        values = [json.loads(entry["result"]["result"]) for entry in json.load(response)]
    assert values == [["model", "a"], ["model", "it's, quoted"]]

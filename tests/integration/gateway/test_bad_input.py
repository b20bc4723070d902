"""What is wrong gets an error that names the value and what is allowed, and leaves nothing behind."""

import io
import json
import re
import zipfile

import pytest
from pydantic import BaseModel
from server_driver import SMALL, args, eventually, http, problem, running, uploaded_bundle

from openlaunch import EndpointRequest
from openlaunch.errors import EndpointFailed

LIMIT = 64 * 1024


class Point(BaseModel):
    x: int
    y: float


@pytest.fixture(scope="module")
def client():
    with running(max_body_bytes=LIMIT) as client:
        yield client


@pytest.fixture(scope="module")
def sync(client):
    return client.deploy(lambda x=0, y=0: x, name="in-sync", **SMALL).model_endpoint.id


@pytest.fixture(scope="module")
def queue(client):
    endpoint = client.deploy(lambda x=0: x, name="in-async", endpoint_type="async", **SMALL)
    return endpoint.model_endpoint.id


@pytest.fixture(scope="module")
def checked(client):
    def norm(x, y):
        return x + y

    return client.deploy(norm, name="in-checked", request_schema=Point, **SMALL).model_endpoint.id


def predict(raw, endpoint_id, body, route="sync", **headers):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return raw.post(
        f"/v1/{route}-tasks", params={"model_endpoint_id": endpoint_id}, content=content, headers=headers
    )


@pytest.mark.parametrize("route", ["sync", "async", "streaming"])
def test_an_unknown_endpoint_is_not_found(raw, route):
    assert "'end_nothing'" in problem(predict(raw, "end_nothing", {"args": {}}, route), 404)["detail"]


def test_another_type_of_endpoint_is_named_with_its_route(raw, sync):
    detail = problem(predict(raw, sync, {"args": {}}, "async"), 400)["detail"]
    assert "is sync, not async" in detail
    assert "/v1/sync-tasks" in detail


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "neither of url and args"),
        ({"args": {"x": 1}, "url": "http://127.0.0.1/"}, "both of url and args"),
        ([1], "it is list"),
        ({"url": "file:///etc/passwd"}, "not an http"),
        ({"args": {}, "return_pickled": "yes"}, "return_pickled"),
        ({"args": {}, "timeout_seconds": -1}, "-1"),
        ({"args": {}, "callback_url": "ftp://127.0.0.1/"}, "callback_url"),
        ({"args": {}, "callback_url": "http://h/", "callback_auth": {"kind": "basic"}}, "callback_auth"),
    ],
)
def test_a_body_that_does_not_fit_is_refused(raw, sync, queue, body, message):
    for endpoint, route in ((sync, "sync"), (queue, "async")):
        assert message in json.dumps(problem(predict(raw, endpoint, body, route), 422)["detail"])


@pytest.mark.parametrize("route", ["sync", "async"])
def test_invalid_json_is_a_bad_request(raw, sync, queue, route):
    response = predict(raw, sync if route == "sync" else queue, b'{"args": ', route)
    assert "not valid JSON" in problem(response, 400)["detail"]


@pytest.mark.parametrize("route", ["sync", "async"])
def test_a_body_over_the_limit_is_too_large(raw, sync, queue, route):
    body = {"args": {"x": "a" * LIMIT}}
    detail = problem(predict(raw, sync if route == "sync" else queue, body, route), 413)["detail"]
    assert str(LIMIT) in detail


def test_a_body_over_the_limit_without_a_length_is_too_large(raw, sync):
    def pieces():
        for _ in range(100):
            yield b" " * 1024

    response = raw.post("/v1/sync-tasks", params={"model_endpoint_id": sync}, content=pieces())
    problem(response, 413)


@pytest.mark.parametrize("key", ["wrong-key-of-some-length", "ü", ":"])
def test_a_wrong_key_is_unauthorized(client, sync, key):
    with http(client, key) as raw:
        problem(predict(raw, sync, {"args": {}}), 401)
        problem(raw.get("/v1/model-endpoints"), 401)


def test_no_key_is_unauthorized_and_says_how_to_give_one(client, sync):
    with http(client) as raw:
        raw.auth = None
        response = raw.post("/v1/sync-tasks", params={"model_endpoint_id": sync}, content=b"{}")
        problem(response, 401)
        assert response.headers["www-authenticate"].startswith("Basic")


def test_a_bearer_token_is_as_good_as_basic_auth(client, sync):
    with http(client) as raw:
        raw.auth = None
        headers = {"authorization": f"Bearer {client.server.api_key}"}
        assert predict(raw, sync, {"args": {"x": 1}}, **headers).status_code == 200


def test_what_belongs_to_somebody_else_is_not_found(client, sync, queue):
    task_id = client.get_model_endpoint("in-async").predict(args()).async_task_id
    bundle_id = client.get_model_endpoint("in-sync").model_endpoint.bundle_id
    with http(client, client.create_api_key("stranger").api_key) as raw:
        problem(predict(raw, sync, {"args": {}}), 404)
        problem(predict(raw, queue, {"args": {}}, "async"), 404)
        for path in (
            f"/v1/model-endpoints/{sync}",
            f"/v1/model-endpoints/{sync}/logs",
            f"/v1/async-tasks/{task_id}",
            f"/v2/model-bundles/{bundle_id}",
            "/v1/hosted_inference/endpoints/creation_logs/in-sync",
        ):
            problem(raw.get(path), 404)
        problem(raw.delete(f"/v1/model-endpoints/{sync}"), 404)
        problem(raw.put(f"/v1/model-endpoints/{sync}", json={"min_workers": 0}), 404)
        problem(raw.post(f"/v1/async-tasks/{task_id}/cancel"), 404)
        assert raw.get("/v1/model-endpoints").json() == {"model_endpoints": []}
        assert raw.get("/v1/async-tasks").json()["tasks"] == []


def test_keys_are_the_admins_alone(client):
    with http(client, client.create_api_key("nobody-special").api_key) as raw:
        problem(raw.get("/v1/keys"), 403)
        problem(raw.post("/v1/keys", json={"owner": "me", "role": "admin"}), 403)


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"name": "Has Blanks"}, "name", "a name has letters, digits"),
        ({"name": "a" * 64}, "name", "63"),
        ({"min_workers": -1}, "min_workers", "at least 0 is needed"),
        ({"min_workers": 3, "max_workers": 2}, None, "max_workers is 2"),
        ({"per_worker": 0}, "per_worker", "a number above 0 is needed"),
        ({"cpus": "many"}, "cpus", "many"),
        ({"memory": "-1Gi"}, "memory", "-1Gi"),
        ({"endpoint_type": "batch"}, "endpoint_type", "'async', 'sync' or 'streaming'"),
        ({"gpus": 999}, None, "999 GPUs"),
        ({"default_callback_url": "127.0.0.1"}, "default_callback_url", "http://"),
        ({"post_inference_hooks": ["insights"]}, "post_inference_hooks", "insights"),
        ({"nodes_per_worker": 2}, "nodes_per_worker", "1 node"),
    ],
)
def test_endpoint_settings_that_are_not_allowed_are_refused(client, raw, sync, change, field, message):
    body = {
        "name": "not-made",
        "model_bundle_id": client.get_model_endpoint("in-sync").model_endpoint.bundle_id,
        "endpoint_type": "sync",
        "metadata": {},
        "labels": {},
        "cpus": 1,
        "gpus": 0,
        "memory": "1Gi",
        "storage": "1Gi",
        "min_workers": 0,
        "max_workers": 1,
        "per_worker": 1,
    }
    document = problem(raw.post("/v1/model-endpoints", json={**body, **change}), 422)
    said = json.dumps(document)
    assert message in said
    assert field is None or field in said
    names = [e["name"] for e in raw.get("/v1/model-endpoints").json()["model_endpoints"]]
    assert "not-made" not in names


def test_a_second_endpoint_of_one_name_is_a_conflict(client, raw, sync):
    made = raw.get(f"/v1/model-endpoints/{sync}").json()
    body = {
        **{key: made["resource_state"][key] for key in ("cpus", "gpus", "memory", "storage")},
        **{key: made["deployment_state"][key] for key in ("min_workers", "max_workers", "per_worker")},
        "name": "in-sync",
        "model_bundle_id": made["bundle_id"],
        "endpoint_type": "sync",
        "metadata": {},
        "labels": {},
    }
    assert "'in-sync' exists" in problem(raw.post("/v1/model-endpoints", json=body), 409)["detail"]


def test_a_bundle_of_bytes_that_were_never_uploaded_is_refused(raw):
    flavor = {
        "flavor": "cloudpickle_artifact",
        "location": "s3://openlaunch/bundles/nothing",
        "requirements": [],
        "load_model_fn": "",
        "load_predict_fn": "",
    }
    flavor |= {
        "framework": {"framework_type": "custom_base_image", "image_repository": "r", "image_tag": "t"}
    }
    response = raw.post("/v2/model-bundles", json={"name": "empty", "schema_location": "", "flavor": flavor})
    assert 400 <= response.status_code < 500
    assert "s3://openlaunch/bundles/nothing" in json.dumps(response.json())


def climbing_zip():
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("../outside.py", "x = 1")
        return file.getvalue()


@pytest.mark.parametrize(
    ("flavor", "data", "reason"),
    [
        ("cloudpickle_artifact", b"no pickle", "unpickling the bundle failed"),
        ("zip_artifact", b"no zip", "the bundle is not a zip that can be read"),
        ("zip_artifact", climbing_zip(), "the zip's member '../outside.py' lies outside of the bundle"),
    ],
)
def test_a_bundle_of_bytes_that_can_not_be_loaded_fails_with_the_reason(client, raw, flavor, data, reason):
    bundle_id = uploaded_bundle(raw, data, flavor).json()["model_bundle_id"]
    endpoint = client.create_model_endpoint(endpoint_name="in-unloadable", model_bundle=bundle_id, **SMALL)
    with pytest.raises(EndpointFailed, match=f"is UPDATE_FAILED: .*{re.escape(reason)}"):
        endpoint.wait_until_ready(60)
    state = endpoint.deployment_state()
    assert (state.available_workers, state.unavailable_workers) == (0, 0)
    client.delete_model_endpoint(endpoint)
    eventually(lambda: raw.get(f"/v1/model-endpoints/{endpoint.model_endpoint.id}").status_code == 404)


@pytest.mark.parametrize(
    ("schemas", "reason"),
    [
        (b"no JSON", "not valid JSON"),
        (b"[]", "RequestSchema and ResponseSchema"),
        (b'{"RequestSchema": {"type": "nonsense"}}', "RequestSchema is not a JSON schema"),
        (b'{"ResponseSchema": {"$ref": "file:///etc/passwd"}}', "ResponseSchema is not a JSON schema"),
    ],
)
def test_a_schema_that_is_none_is_refused(raw, schemas, reason):
    assert reason in json.dumps(problem(uploaded_bundle(raw, b"", schemas=schemas), 422))


def test_a_signed_url_is_good_for_its_own_bytes_alone(raw, client):
    upload = raw.post("/v1/hosted_inference/model_bundle_upload", json={}).json()
    url = upload["signedUrl"]
    with http(client) as other:
        other.auth = None
        assert other.put(url, content=b"bytes").status_code == 200
        problem(other.get(url), 403)
        problem(other.put(url.replace("expires=", "expires=9"), content=b"bytes"), 403)
        problem(other.put(url.replace(upload["key"], "bundles/other"), content=b"bytes"), 403)
        problem(other.put(url.partition("?")[0], content=b"bytes"), 422)


def test_input_that_does_not_fit_the_schema_names_the_field(raw, checked):
    document = problem(predict(raw, checked, {"args": {"x": "one", "y": 2}}), 422)
    assert document["detail"][0]["loc"] == ["body", "args", "x"]


def test_input_without_a_field_of_the_schema_names_it(raw, checked):
    document = problem(predict(raw, checked, {"args": {"x": 1}}), 422)
    assert "y" in json.dumps(document["detail"])


def test_a_result_that_is_no_json_fails_and_points_to_return_pickled(client):
    endpoint = client.deploy(lambda: 2j, name="in-complex", **SMALL)
    response = endpoint.predict(EndpointRequest(args={}))
    assert response.status == "FAILURE"
    assert "complex" in response.traceback
    assert "return_pickled" in response.traceback
    assert endpoint.predict(EndpointRequest(args={}, return_pickled=True)).value == 2j


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("bulk", {"requests": []}, "1 to 1000"),
        ("bulk", {"requests": [{"args": {}}] * 1001}, "1001"),
        ("bulk", {"requests": [{"args": {}}, {"url": 3}]}, "request 1"),
        ("bulk", {"requests": 7}, "int"),
        ("wait", {"task_ids": []}, "task_ids"),
        ("wait", {"task_ids": ["a"], "wait": 1e9}, "wait"),
    ],
)
def test_bulk_bodies_that_do_not_fit_are_refused(raw, queue, path, body, message):
    response = raw.post(f"/v1/async-tasks/{path}", params={"model_endpoint_id": queue}, json=body)
    assert message in json.dumps(problem(response, 422))


def test_a_wrong_wait_is_a_bad_request(raw, client, queue):
    task_id = client.get_model_endpoint("in-async").predict(args()).async_task_id
    for wait in ("soon", "-1", "nan", "1e9"):
        assert wait in problem(raw.get(f"/v1/async-tasks/{task_id}?wait={wait}"), 400)["detail"]


def test_wrong_input_never_reaches_the_model(client, raw, tmp_path):
    seen = tmp_path / "seen"

    def note(x, y):
        with seen.open("a") as file:
            file.write(f"{x} {y}\n")

    endpoint = client.deploy(note, name="in-note", request_schema=Point, **SMALL)
    for body in ({"args": {"x": "a", "y": 1}}, {"args": {}}, {"url": "http://127.0.0.1:1/", "args": {}}):
        problem(predict(raw, endpoint.model_endpoint.id, body), 422)
    assert not seen.exists()


def test_an_endpoint_whose_deletion_was_asked_for_is_not_found(client, raw):
    endpoint = client.deploy(lambda: 1, name="in-gone", **SMALL).model_endpoint
    assert client.delete_model_endpoint("in-gone") is True
    problem(predict(raw, endpoint.id, {"args": {}}), 404)
    eventually(lambda: raw.get(f"/v1/model-endpoints/{endpoint.id}").status_code == 404)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_list_of_bundles_is_refused_before_it_begins(raw, version):
    answer = raw.get(f"/{version}/model-bundles", params={"model_name": "nobody/anything"})
    assert "there is no owner 'nobody'" in problem(answer, 404)["detail"]

"""The Open Inference Protocol: tensors in and out, by plain HTTP and by the unmodified `tritonclient`."""

import gzip
import json

import numpy as np
import pytest
from server_driver import DEADLINE, SMALL, http
from triton_driver import BATCHES, NUMPY, batched, boom, called, check, image, named, pair, same, scaled, slow

from openlaunch import EndpointRequest

pytestmark = pytest.mark.slow

BINARY = "inference-header-content-length"
RUNS = []


def counted(x: np.ndarray):
    RUNS.append(1)
    return {"runs": len(RUNS), "x": x}


def items(x: np.ndarray):
    yield x


@pytest.fixture(scope="module")
def endpoints(client):
    for function in (counted, scaled, image):
        client.deploy(function, name=f"ti-{function.__name__}", requirements=NUMPY, max_workers=1, **SMALL)
    client.deploy(same, name="ti-same", requirements=NUMPY, public_inference=True, **SMALL)
    client.deploy(same, name="ti-later", requirements=NUMPY, endpoint_type="async", **SMALL)
    client.deploy(items, name="ti-items", requirements=NUMPY, endpoint_type="streaming", **SMALL)
    client.deploy(lambda x: x, name="ti-plain", **SMALL)
    return client


def tensor(**more):
    return {"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2], **more}


def asked(raw, *inputs, data=b"", model="ti-same", headers=None, **more):
    """Send a request; with `data`, this is behind its JSON."""
    head = json.dumps({"inputs": inputs or [tensor()], **more}).encode()
    sizes = {BINARY: str(len(head))} if data else {}
    return raw.post(f"/v2/models/{model}/infer", content=head + data, headers={**sizes, **(headers or {})})


def error(answer, status=400):
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert list(document) == ["error"]
    return document["error"]


def test_tensors_are_json_or_bytes_behind_it(raw, endpoints):
    answer = asked(raw, id="one")
    version = endpoints.get_model_endpoint("ti-same").model_endpoint.bundle_id
    output = {"name": "output", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}
    head = {"model_name": "ti-same", "model_version": version, "id": "one", "outputs": [output]}
    assert (answer.status_code, answer.json()) == (200, head)
    data = np.array([1, 2], np.float32).tobytes()
    sent = {"name": "x", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
    answer = asked(raw, sent, data=data, parameters={"binary_data_output": True})
    size = int(answer.headers[BINARY])
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.content[size:] == data
    assert json.loads(answer.content[:size])["outputs"][0]["parameters"] == {"binary_data_size": 8}


def test_nested_json_and_text_are_tensors(raw, endpoints):
    assert asked(raw, tensor(shape=[2, 1], data=[[1], [2]])).json()["outputs"][0]["data"] == [1.0, 2.0]
    texts = tensor(datatype="BYTES", data=["a\0", "\u00fc"])
    assert asked(raw, texts).json()["outputs"][0]["data"] == ["a\0", "\u00fc"]
    large = asked(raw, tensor(shape=[50_000], data=[1.5] * 50_000))  # is read in a process of its own
    assert large.json()["outputs"][0]["data"] == [1.5] * 50_000


def test_a_body_may_be_compressed(raw, endpoints):
    body = gzip.compress(json.dumps({"inputs": [tensor()]}).encode())
    answer = raw.post("/v2/models/ti-same/infer", content=body, headers={"content-encoding": "gzip"})
    assert answer.json()["outputs"][0]["data"] == [1.0, 2.0]
    bomb = gzip.compress(bytes(200 * 2**20), 1)
    answer = raw.post("/v2/models/ti-same/infer", content=bomb, headers={"content-encoding": "gzip"})
    assert "inflates to over" in error(answer, 413)


def test_a_shape_that_no_array_has_is_refused_by_the_worker(raw, endpoints):
    sent = tensor(shape=[2**40, 2**40, 0], data=[])
    assert "cannot reshape" in error(asked(raw, sent), 422)


@pytest.mark.parametrize("length", ["-1", "999999999", "9" * 5000, "abc", "0x1", ""])
def test_a_length_of_json_that_is_none_is_refused(raw, endpoints, length):
    said = error(asked(raw, headers={BINARY: length}))
    assert f"the header Inference-Header-Content-Length is '{length[:30]}': a number up to" in said


def test_many_tensors_are_refused(raw, endpoints):
    assert "at most 1000 items are allowed" in error(asked(raw, *[tensor()] * 50_000))


def test_deep_json_is_refused(raw, endpoints):
    for count in (1100, 200_000):
        deep = b"[" * count + b"1" + b"]" * count
        body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": %b}]}' % deep
        assert "depth limit exceeded" in error(raw.post("/v2/models/ti-same/infer", content=body))


def test_a_name_is_shown_without_its_control_characters(raw, endpoints):
    said = error(asked(raw, tensor(name="y\r\n\0\u202e")), 422)
    assert said == r"'y\r\n\x00\u202e': the function takes no such tensor, it takes x"
    assert r"no output '\r\n'" in error(asked(raw, outputs=[{"name": "\r\n"}]))


def test_another_shape_or_type_is_refused_before_it_reaches_a_worker(raw, endpoints):
    said = error(asked(raw, tensor(), model="ti-scaled"), 422)
    assert said == "'x': a tensor of FP32 and shape [-1, 3] is needed, and one of FP32 and shape [2] came"
    wrong = tensor(datatype="INT8", shape=[1, 3], data=[1, 2, 3])
    assert "and one of INT8 and shape [1, 3] came" in error(asked(raw, wrong, model="ti-scaled"), 422)
    good = tensor(shape=[1, 3], data=[1, 2, 3])
    assert "factor" in error(asked(raw, good, model="ti-scaled", parameters={"factor": "two"}), 422)
    assert "unexpected" in error(asked(raw, good, model="ti-scaled", parameters={"sequence_id": 1}), 422)
    answer = asked(raw, good, model="ti-scaled", parameters={"factor": 3})
    assert answer.json()["outputs"][0]["data"] == [3.0, 6.0, 9.0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xff\xff\xffab", "the last element of BYTES is cut off"),
        (b"\0\0\0\0" * 3, "3 elements of BYTES came for the shape (2,)"),
        (b"\0\0\0\0\0", "the last element of BYTES is cut off"),
    ],
)
def test_elements_of_bytes_have_their_lengths(raw, endpoints, data, said):
    sent = {"name": "x", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(data)}}
    assert said in error(asked(raw, sent, data=data), 422)


def test_a_file_is_one_element_of_bytes(raw, endpoints):
    weights = tensor(name="weights")
    for data, outcome in ((b"\2\0\0\0ab", 2), (b"\2\0\0\0abc", None), (b"\2", None)):
        size = {"binary_data_size": len(data)}
        sent = {"name": "data", "datatype": "BYTES", "shape": [1], "parameters": size}
        answer = asked(raw, sent, weights, data=data, model="ti-image")
        if outcome is None:
            assert "'data': one element of BYTES is needed" in error(answer)
        else:
            assert answer.json()["outputs"][0]["data"] == [outcome]


def test_a_repeated_idempotency_key_has_the_first_answer(raw, endpoints):
    headers = {"idempotency-key": "one"}
    wanted = {"parameters": {"binary_data_output": True}}
    first, second = (asked(raw, model="ti-counted", headers=headers, **wanted) for _ in range(2))
    assert first.status_code == 200
    assert (first.content, first.headers[BINARY]) == (second.content, second.headers[BINARY])
    assert asked(raw, model="ti-counted", **wanted).content != first.content


def test_an_endpoint_without_tensors_is_refused_and_says_what_to_do(raw, endpoints):
    assert "the function of 'ti-plain' takes no tensors: annotate" in error(asked(raw, model="ti-plain"))
    assert "by ModelStreamInfer, over gRPC" in error(asked(raw, model="ti-items"))
    said = error(asked(raw, model="ti-same/versions/2"), 404)
    assert "'ti-same' has no version '2', its version is its bundle's id: bun_" in said


def test_an_async_endpoint_answers_at_once_beside_its_tasks(raw, endpoints):
    later = endpoints.get_model_endpoint("ti-later")
    task = later.predict(EndpointRequest(args={"x": np.array([3], np.float32)}))
    assert asked(raw, model="ti-later").json()["outputs"][0]["data"] == [1.0, 2.0]
    assert list(task.get(DEADLINE).value) == [3.0]
    assert raw.get("/v2/models/ti-later/ready").json()["ready"] is True


def test_a_model_of_another_owner_has_their_name_before_its_own(raw, endpoints):
    guest = endpoints.create_api_key("guest", "predict").api_key
    with http(endpoints, guest) as caller:
        for model in ("ti-same", "admin/ti-same", "admin%2Fti-same"):
            answer = asked(caller, model=model)
            assert answer.json()["model_name"] == model.replace("%2F", "/")
            assert caller.get(f"/v2/models/{model}/ready").json()["ready"]
        assert "neither an endpoint of yours" in error(asked(caller, model="ti-scaled"), 404)


def test_a_key_without_room_is_refused_in_the_protocols_shape(raw, endpoints):
    made = endpoints.create_api_key("admin", "predict", requests_per_day=1)
    with http(endpoints, made.api_key) as caller:
        assert asked(caller).status_code == 200
        answer = asked(caller)
        assert "retry-after" in answer.headers
        assert "requests" in error(answer, 429)
        assert caller.get("/v2/models/ti-same").status_code == 200  # is no prediction


def test_the_metadata_says_what_is_known(raw, endpoints):
    found = raw.get("/v2/models/ti-scaled").json()
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert found["outputs"] == [{"name": "output", "datatype": "ANY", "shape": [-1]}]
    assert raw.get(f"/v2/models/ti-scaled/versions/{found['versions'][0]}").json() == found
    image = raw.get("/v2/models/ti-image").json()
    assert image["inputs"][0] == {"name": "data", "datatype": "BYTES", "shape": [1]}
    assert image["outputs"] == [{"name": "output", "datatype": "INT64", "shape": []}]


def test_health_needs_no_key(raw, endpoints):
    with http(endpoints) as stranger:
        stranger.auth = None
        assert stranger.get("/v2/health/live").json() == {"live": True}
        assert stranger.get("/v2/health/ready").json() == {"ready": True}
        assert "no API key was sent" in error(stranger.get("/v2"), 401)
    assert raw.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert raw.get("/v2/model-bundles").status_code == 200  # is another API below the same path


@pytest.fixture(scope="module")
def all_endpoints(endpoints):
    for function in (pair, named, boom, slow):
        endpoints.deploy(function, name=f"ti-{function.__name__}", requirements=NUMPY, max_workers=1, **SMALL)
    endpoints.deploy(batched, name="ti-batched", requirements=NUMPY, max_workers=1, **BATCHES, **SMALL)
    return endpoints


def test_the_unmodified_client_gets_what_it_sent_to_the_bit(all_endpoints):
    server = all_endpoints.server
    found = called("http", server.url.removeprefix("http://"), server.api_key)
    statuses = check(found)
    assert [name for name, is_equal in found["json"].items() if not is_equal] == []
    assert len(found["json"]) == 14
    assert found["gzip"] == found["deflate"] == [[1.0] * 3] * 2
    assert [output["name"] for output in found["pair"]["outputs"]] == ["output_1"]
    assert found["pair"]["id"] == "r1"
    wrong = dict.fromkeys(("shape", "datatype", "name"), "422")
    refused = dict.fromkeys(("output", "plain"), "400")
    missing = dict.fromkeys(("unknown", "version"), "404")
    assert statuses == {**wrong, **refused, **missing, "raises": "500", "timeout": "504", "key": "401"}

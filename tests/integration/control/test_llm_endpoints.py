"""Endpoints of language models, made and changed by the unmodified `scale-llm-engine` package."""

import pytest
from llm_engine_driver import llm_engine
from server_driver import SMALL, http

HARDWARE = {"cpus": 1, "memory": "512Mi", "storage": "1Gi", "gpus": 0, "min_workers": 0, "max_workers": 1}
NONE = "0.0.0"
"""A version of the engine that there is not, so that no test fetches gigabytes."""

PATH = "/v1/llm/model-endpoints"


@pytest.fixture(scope="module")
def call(client):
    with llm_engine(client.server.url, client.server.api_key) as call:
        yield call


@pytest.fixture(scope="module")
def raw(client):
    with http(client) as raw:
        yield raw


def create(call, name, **given):
    usual = {"model": "org/model", "inference_framework_image_tag": NONE, "per_worker": 8, **HARDWARE}
    return call("Model", "create", name=name, **usual | given)


def flavor(raw, name):
    spec = raw.get(f"{PATH}/{name}").json()["spec"]
    return raw.get(f"/v2/model-bundles/{spec['bundle_id']}").json()["flavor"]


def test_a_model_is_made_changed_and_deleted(call, raw):
    made = create(call, "made", max_model_len=512, labels={"team": "night"})
    assert made["answer"]["endpoint_creation_task_id"]
    model = call("Model", "get", model="made")["answer"]
    assert (model["model_name"], model["source"], model["inference_framework"]) == (
        "org/model",
        "hugging_face",
        "vllm",
    )
    assert (model["spec"]["labels"], model["spec"]["public_inference"]) == ({"team": "night"}, True)
    served = flavor(raw, "made")
    assert served["requirements"] == [f"vllm=={NONE}"]
    assert served["command"][:3] == ["vllm", "serve", "$OPENLAUNCH_CACHE/hf/org/model@main"]
    assert "--max-model-len 512" in " ".join(served["command"])
    assert "made" in [each["name"] for each in call("Model", "list")["answer"]["model_endpoints"]]
    changed = call("Model", "update", name="made", checkpoint_path="file:///models/new", per_worker=9)
    assert changed["answer"] == made["answer"]
    again = flavor(raw, "made")
    assert again["command"][2] == "/models/new"
    assert "--max-model-len 512" in " ".join(again["command"])  # it was not given, and stays
    spec = raw.get(f"{PATH}/made").json()["spec"]
    assert (spec["deployment_state"]["per_worker"], spec["prefetch"]) == (9, [])
    assert call("Model", "delete", model_endpoint_name="made")["answer"] == {"deleted": True}


def test_what_changes_nothing_of_the_engine_keeps_its_bundle(call, raw):
    create(call, "kept")
    before = raw.get(f"{PATH}/kept").json()["spec"]
    assert call("Model", "update", name="kept", per_worker=3)["answer"]
    after = raw.get(f"{PATH}/kept").json()["spec"]
    assert (after["bundle_id"], after["deployment_state"]["per_worker"]) == (before["bundle_id"], 3)
    assert after["prefetch"] == before["prefetch"] == ["hf://org/model@main"]
    call("Model", "update", name="kept", force_bundle_recreation=True)
    assert raw.get(f"{PATH}/kept").json()["spec"]["bundle_id"] != before["bundle_id"]


def test_shards_and_quantization_are_arguments_of_the_engine(raw):
    body = {
        "name": "split",
        "model_name": "org/model",
        "inference_framework": "sglang",
        "inference_framework_image_tag": NONE,
        "num_shards": 2,
        "quantize": "awq",
        "served_model_name": "another",
        "max_gpu_memory_utilization": 0.8,
        **HARDWARE,
    }
    assert raw.post(PATH, json=body).status_code == 200
    served = flavor(raw, "split")
    assert "--tp-size 2 --quantization awq --mem-fraction-static 0.8" in " ".join(served["command"])
    assert served["openai"]["models"] == ["another"]
    listed = [
        [each["name"] for each in raw.get(PATH, params=params).json()["model_endpoints"]]
        for params in ({}, {"sglang": True})
    ]
    assert ["split" in names for names in listed] == [False, True]
    refused = raw.post(PATH, json={**body, "name": "sync", "endpoint_type": "sync"})
    assert (refused.status_code, "'streaming'" in refused.text) == (422, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"model": "llama-2-7b"}, "give that, or checkpoint_path"),
        ({"checkpoint_path": "/weights"}, "file:///PATH"),
        ({"inference_framework": "text_generation_inference"}, "'vllm' or 'sglang'"),
        ({"inference_framework_image_tag": "newest"}, "inference_framework_image_tag"),
        ({"chat_template_override": "\0"}, "a null"),
        ({"gpus": 1, "num_shards": 2}, "more than gpus"),
        ({"max_workers": 1, "min_workers": 2}, "less than min_workers"),
    ],
)
def test_what_can_not_be_served_is_refused_before_anything_is_made(call, raw, given, words):
    assert words in create(call, "refused", **given)["error"]
    assert raw.get("/v2/model-bundles", params={"model_name": "refused", "commands": True}).json() == {
        "model_bundles": []
    }


def test_a_name_that_is_taken_leaves_no_bundle(call, raw):
    create(call, "taken")
    assert "taken" in create(call, "taken")["error"]
    found = raw.get("/v2/model-bundles", params={"model_name": "taken", "commands": True}).json()
    assert len(found["model_bundles"]) == 1


def test_endpoints_of_another_kind_are_not_models(call, client):
    client.deploy(lambda x: x, name="function", **SMALL)
    for method, name in (("get", "model"), ("delete", "model_endpoint_name")):
        got = call("Model", method, **{name: "function"})
        assert (got["kind"], "/v1/model-endpoints has it" in got["error"]) == ("NotFoundError", True)
    assert "function" not in [each["name"] for each in call("Model", "list")["answer"]["model_endpoints"]]
    assert call("Model", "get", model="nothing")["kind"] == "NotFoundError"


def test_what_is_not_served_says_what_to_use(call, raw):
    create(call, "remote")
    got = call("Model", "download", model_name="remote")["error"]
    assert "download hf://org/model from there" in got
    for method, path in (
        ("POST", ""),
        ("GET", ""),
        ("GET", "/x"),
        ("GET", "/x/events"),
        ("PUT", "/x/cancel"),
    ):
        answer = raw.request(method, f"/v1/llm/fine-tunes{path}")
        assert answer.status_code == 501
        assert "image job" in answer.json()["detail"]

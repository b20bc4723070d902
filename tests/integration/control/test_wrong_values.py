"""Each value of a good request is replaced by each of many extreme ones: no answer is the server's fault.

Where `test_openapi_fuzz.py` makes requests up, these are always the same, and reach what lies behind the first check:
what is checked once more, stored, compared or written.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from server_driver import SMALL, args, http, running

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ASKED_FOR = ("scaled_to_zero", "endpoint_failed", "deadline_exceeded", "prediction_failed")


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


EXTREMES = (
    *(-1, 0.5, 2**63, 1e308, float("nan"), True, None, "", "\0", "\ud800", "é" * 5000),
    *("9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00Z", [], {}, {"\0": "\ud800"}, {"a": 2**70}),
    *(nested(300), nested(900)),
)


def same(x=0):
    return x


@pytest.fixture(scope="module")
def client():
    with running(max_body_bytes=1024 * 1024) as client:
        yield client


@pytest.fixture(scope="module")
def raw(client) -> Iterator[httpx2.Client]:
    with http(client) as raw:
        yield raw


@pytest.fixture(scope="module")
def requests(client, raw):
    """Good requests: the method, the path and the body."""
    sync, later = (
        client.deploy(same, name=kind, endpoint_type=kind, **SMALL).model_endpoint
        for kind in ("sync", "async")
    )
    task = client.get_model_endpoint("async").predict(args(x=1)).async_task_id
    upload = raw.post("/v1/hosted_inference/batch_task_input_upload", json={}).json()
    raw.put(upload["signedUrl"], content=b"[]", auth=None)
    inputs = f"s3://{upload['bucket']}/{upload['key']}"
    file = raw.post("/v1/files", files={"file": ("name", b"content")}).json()["id"]
    jobs = "/v1/docker-image-batch-job-bundles"
    image = {
        "name": "image",
        "image_repository": "none",
        "image_tag": "none",
        "command": ["x"],
        "env": {"A": "b"},
    }
    image_id = raw.post(jobs, json=image).json()["docker_image_batch_job_bundle_id"]
    key = client.create_api_key("somebody").id
    at = {"name": "nightly", "cron_schedule": "0 0 1 1 *"}
    trigger = raw.post("/v1/triggers", json={**at, "endpoint": "async"}).json()["trigger_id"]

    resources = {"cpus": 1, "memory": "1Gi", "storage": "1Gi", "gpus": 0}
    workers = {**resources, "min_workers": 0, "max_workers": 1, "per_worker": 1}
    settings = {
        "labels": {"a": "b"},
        "metadata": {"a": 1},
        "post_inference_hooks": ["callback"],
        "env": {"A": "b"},
        "secrets": [],
        "prefetch": ["hf://a/b"],
        "billing_tags": {"a": "b"},
        "timeout_seconds": 5,
        "default_callback_url": "http://127.0.0.1:1/",
        "cors_origins": ["https://a.b"],
        "default_callback_auth": {"kind": "basic", "username": "u", "password": "p"},
        "queue_message_timeout_seconds": 60,
        "task_expires_seconds": 60,
        "rollback_after_failures": 1,
        "probation_requests": 10,
        "max_requests_per_worker": 5,
        "max_worker_age": 50,
        "health_interval": 1,
        "health_timeout": 1,
        "shutdown_timeout": 1,
        "record": {"share": 0.5, "days": 3},
        "concurrent_requests_per_worker": 1,
        "forwarder_max_concurrency": 1,
    }
    limits = {"requests_per_second": 1.5, "burst": 1, "requests_per_day": 5, "tokens_per_minute": 4}
    limits |= {"tokens_per_day": 4, "expires_at": "2030-01-01T00:00:00Z"}
    callback = {"callback_url": "http://127.0.0.1:1/", "callback_auth": settings["default_callback_auth"]}
    predict = {"args": {"x": 1}, "return_pickled": False, "timeout_seconds": 3}
    quotas = (
        "endpoints",
        "workers",
        "cpus",
        "memory",
        "gpus",
        "queued_tasks",
        "stored_bytes",
        "tokens_per_day",
    )
    command = {"flavor": "command", "command": ["x"], "env": {"A": "b"}, "requirements": ["a"], "sleep": {}}
    command |= {"routes": ["/a"], "openai": {"routes": ["/v1/completions"], "models": ["m"]}}
    served = {
        "flavor": "runnable_image",
        "repository": "a/b",
        "tag": "t",
        "command": ["x"],
        "env": {"A": "b"},
    }
    served |= {"protocol": "http", "readiness_initial_delay_seconds": 5, "worker_env": {"A": "b"}}
    endpoint = f"/v1/model-endpoints/{sync.id}"
    return [
        (
            "POST",
            "/v2/model-bundles",
            {"name": "n", "metadata": {"a": 1}, "schema_location": "", "flavor": command},
        ),
        ("POST", "/v2/model-bundles", {"name": "n", "schema_location": "", "flavor": served}),
        (
            "POST",
            "/v2/model-bundles/clone-with-changes",
            {"original_model_bundle_id": sync.bundle_id, "new_app_config": {"a": 1}},
        ),
        (
            "POST",
            "/v1/model-endpoints",
            {
                "name": "made",
                "model_bundle_id": sync.bundle_id,
                "endpoint_type": "async",
                **workers,
                **settings,
            },
        ),
        ("PUT", endpoint, {"model_bundle_id": sync.bundle_id, "reset": False, **settings}),
        ("PUT", endpoint, workers),
        (
            "POST",
            endpoint + "/canary",
            {"model_bundle_id": later.bundle_id, "percent": 5, "first_item_seconds": 1.5},
        ),
        ("POST", endpoint + "/hand-over", {"owner": "somebody-else"}),
        ("POST", f"/v1/async-tasks?model_endpoint_id={later.id}", {**predict, **callback, "priority": 1}),
        (
            "POST",
            f"/v1/async-tasks/bulk?model_endpoint_id={later.id}",
            {"requests": [{**predict, "priority": 1}]},
        ),
        ("POST", "/v1/async-tasks/wait", {"task_ids": [task], "wait": 0}),
        ("POST", f"/v1/sync-tasks?model_endpoint_id={sync.id}", {**predict, "num_retries": 1}),
        ("POST", "/e/async", {"x": 1}),
        (
            "POST",
            "/v1/batch-jobs",
            {
                "bundle_id": sync.bundle_id,
                "input_path": inputs,
                "serialization_format": "JSON",
                "labels": {"a": "b"},
                "timeout_seconds": 5,
                "resource_requests": {
                    **resources,
                    "max_workers": 1,
                    "max_batch_size": 2,
                    "max_batch_wait": 0.1,
                },
            },
        ),
        (
            "POST",
            "/v1/batches",
            {
                "input_file_id": file,
                "endpoint": "/v1/completions",
                "completion_window": "24h",
                "metadata": {"a": "b"},
            },
        ),
        ("POST", jobs, {**image, "resource_requests": resources, "mount_location": "/a"}),
        (
            "POST",
            "/v1/docker-image-batch-jobs",
            {
                "docker_image_batch_job_bundle_id": image_id,
                "labels": {"a": "b"},
                "resource_requests": resources,
                "override_job_max_runtime_s": 5,
            },
        ),
        ("POST", "/v1/triggers", {**at, "bundle_id": image_id, "default_job_metadata": {"a": "b"}}),
        ("POST", "/v1/triggers", {**at, "endpoint": "async", "args": {"x": 1}}),
        (
            "PUT",
            f"/v1/triggers/{trigger}",
            {"cron_schedule": "0 0 1 1 *", "args": {"x": 1}, "suspended": False},
        ),
        ("POST", "/v1/keys", {"owner": "x", "role": "user", **limits}),
        ("PUT", f"/v1/keys/{key}", limits),
        ("PUT", "/v1/quotas/somebody", dict.fromkeys(quotas, "unlimited")),
        ("PUT", "/v1/secrets/A", {"value": "v"}),
        ("POST", "/v1/subscriptions", {"url": "http://127.0.0.1:1/", "kinds": ["task.finished"]}),
        (
            "POST",
            "/v1/llm/model-endpoints",
            {
                "name": "llm",
                "model_name": "a/b",
                "inference_framework_image_tag": "1",
                "num_shards": 1,
                "quantize": "awq",
                "checkpoint_path": "hf://a/b",
                "chat_template_override": "x",
                "max_model_len": 5,
                "another": {"a": [1]},
                "gpus": 1,
                "labels": {"a": "b"},
            },
        ),
        ("POST", "/v1/chat/completions", {"model": "sync", "messages": [{"role": "user"}], "max_tokens": 5}),
        (
            "POST",
            "/v2/models/sync/infer",
            {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}]},
        ),
    ]


LISTS = (
    "model-endpoints",
    "model-bundles",
    "batch-jobs",
    "batches",
    "triggers",
    "keys",
    "quotas",
    "files",
    "audit-log",
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def check_log(client) -> None:
    log = (Path(client.server.data_dir) / "server.log").read_text()
    assert log.partition("Traceback")[2] == ""


def is_fault(answer: httpx2.Response) -> bool:
    return answer.status_code >= 500 and answer.json()["code"] not in ASKED_FOR


def test_no_value_of_a_request_is_the_servers_fault(client, raw, requests):
    for method, path, body in requests:
        for place in places(body):
            for extreme in EXTREMES:
                sent = json.dumps(replaced(body, place, extreme))
                answer = raw.request(method, path, content=sent, headers={"content-type": "application/json"})
                assert not is_fault(answer), (method, path, place, repr(extreme)[:50], answer.text[:200])
    for name in LISTS:  # of what was made
        assert not is_fault(answer := raw.get(f"/v1/{name}")), (name, answer.text[:200])
    check_log(client)


TEXTS = (
    *("", "%00", "%FF", "%ED%A0%80", "x" * 3000, "-1", "9223372036854775808", "1e308", "nan"),
    *("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00%2B14:00", "a%3D%00", "W251bGwsbnVsbF0"),
)


def test_no_text_of_a_url_is_the_servers_fault(client, raw):
    for path, operations in raw.get("/openapi.json").json()["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", ()):
            name = parameter["name"]
            if parameter["in"] not in ("query", "path") or name == "follow":
                continue
            for text in TEXTS:
                query = f"?{name}={text}" if parameter["in"] == "query" else ""
                url = path.replace("{" + name + "}", text) + query
                assert not is_fault(answer := raw.get(url)), (url[:200], answer.text[:200])
    check_log(client)

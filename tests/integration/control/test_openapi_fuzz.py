"""Requests made from the OpenAPI document, with values that its schemas allow and then some, find no fault.

CI makes the same requests each time, so that a failure is the work of the change that it is seen with. To look for
what nobody has found yet, with other requests each time:
`OPENLAUNCH_FUZZ_EXAMPLES=500 pytest -m slow tests/integration/control/test_openapi_fuzz.py`.
"""

import os
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from server_driver import SMALL, args, http, running

from openlaunch.wire.tasks import MAX_WAIT_SECONDS

ASKED = os.environ.get("OPENLAUNCH_FUZZ_EXAMPLES")
EXAMPLES = int(ASKED or 8)
DEADLINE = MAX_WAIT_SECONDS + 30  # a wait may be asked for
FOLLOWING_SECONDS = 10  # a log that is followed has no end
ASKED_FOR = ("scaled_to_zero", "endpoint_failed", "deadline_exceeded", "prediction_failed")
"""What requests may ask for that can only be answered with 500, 503 or 504: no workers, a bundle that fails, no time,
and arguments that the model does not have.
"""


@pytest.fixture(scope="module")
def client():
    with running(max_body_bytes=1024 * 1024) as client:
        yield client


@pytest.fixture(scope="module")
def existing(client):
    """Values by the name of the parameter or field, so that requests reach what lies behind the search for it."""
    functions = {"sync": same, "async": same, "streaming": items}
    endpoints = [
        client.deploy(function, name=kind, endpoint_type=kind, **SMALL)
        for kind, function in functions.items()
    ]
    task = endpoints[1].predict(args(x=1))
    task.get(30)
    with http(client) as raw:
        file_id = raw.post("/v1/files", files={"file": ("name", b"content")}).json()["id"]
        upload = raw.post("/v1/hosted_inference/batch_task_input_upload", json={}).json()
        raw.put(upload["signedUrl"], content=b"[]", auth=None)
        image = {"name": "image", "image_repository": "nothing", "image_tag": "none", "command": ["x"]}
        made = raw.post("/v1/docker-image-batch-job-bundles", json={**image, "env": {}}).json()
    bundle = endpoints[0].model_endpoint.bundle_id
    image_id = made["docker_image_batch_job_bundle_id"]
    return {
        "model_endpoint_id": [endpoint.model_endpoint.id for endpoint in endpoints],
        "model_bundle_id": [bundle],
        "original_model_bundle_id": [bundle],
        "bundle_id": [image_id],
        "docker_image_batch_job_bundle_id": [image_id],
        "task_id": [task.async_task_id],
        "file_id": [file_id],
        "key_id": [client.create_api_key("somebody").id],
        "input_path": [f"s3://{upload['bucket']}/{upload['key']}"],
        "name": ["sync", "async"],
    }


def same(x=0):
    return x


def items(x=0):
    yield x


def with_existing(data, case, existing):
    """Replace some values by such that are there."""
    for where in (case.path_parameters, case.query, case.body):
        if isinstance(where, dict):
            for name in set(where) & set(existing):
                if data.draw(st.booleans()):
                    where[name] = data.draw(st.sampled_from(existing[name]))


def fuzz(client, operation, existing, faults):
    right, wrong = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=ASKED is None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(right | wrong, st.data())
    def look(case, data):
        if case.method != "DELETE":
            with_existing(data, case, existing)
        headers = {"Authorization": f"Bearer {client.server.api_key}"}
        timeout = FOLLOWING_SECONDS if "follow" in case.query else DEADLINE
        answer = case.call(base_url=client.url, headers=headers, timeout=timeout)
        if answer.status_code >= 500 and answer.json()["code"] not in ASKED_FOR:
            faults.setdefault((operation.label, answer.status_code), case.as_curl_command())

    look()


@pytest.mark.slow
@pytest.mark.timeout(400 + 20 * EXAMPLES)
def test_no_request_is_the_servers_fault(client, existing):
    schema = schemathesis.openapi.from_url(f"{client.url}/openapi.json", timeout=DEADLINE)
    faults = {}
    for result in schema.get_all_operations():
        fuzz(client, result.ok(), existing, faults)
    assert faults == {}
    assert "Traceback" not in (Path(client.server.data_dir) / "server.log").read_text()

"""Real answers of a running server, held against the schemas of the existing Launch system."""

import json
from pathlib import Path

import jsonschema_rs
import pytest
from server_driver import DEADLINE, SMALL, args, http

DATA = json.loads((Path(__file__).parents[2] / "data" / "launch-openapi.json").read_text())


def json_schema(schema):
    """The same in JSON Schema's words: OpenAPI 3.0 says `nullable` for "or null"."""
    if isinstance(schema, list):
        return [json_schema(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {
        key: json_schema(value) for key, value in schema.items() if key not in ("nullable", "discriminator")
    }
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain


COMPONENTS = {name: json_schema(schema) for name, schema in DATA["components"]["schemas"].items()}


def check(response, name):
    assert response.status_code == 200, response.text
    schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": COMPONENTS}}
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(response.json())
    return response.json()


@pytest.fixture(scope="module")
def endpoint(client):
    return client.deploy(lambda x=0: [x], name="la-sync", labels={"team": "a"}, **SMALL).model_endpoint


def test_bundles(raw, endpoint):
    listed = check(
        raw.get("/v2/model-bundles", params={"model_name": "la-sync"}), "ListModelBundlesV2Response"
    )
    bundle = check(raw.get(f"/v2/model-bundles/{endpoint.bundle_id}"), "ModelBundleV2Response")
    assert listed["model_bundles"] == [bundle]
    check(raw.get("/v2/model-bundles/latest", params={"model_name": "la-sync"}), "ModelBundleV2Response")
    body = {"original_model_bundle_id": bundle["id"], "new_app_config": {"a": 1}}
    check(raw.post("/v2/model-bundles/clone-with-changes", json=body), "CreateModelBundleV2Response")
    fields = ("name", "metadata", "schema_location", "flavor")
    body = {name: bundle[name] for name in fields}
    check(raw.post("/v2/model-bundles", json=body), "CreateModelBundleV2Response")


def test_bundles_in_their_first_form(raw, endpoint):
    listed = check(raw.get("/v1/model-bundles"), "ListModelBundlesV1Response")
    bundle = check(raw.get(f"/v1/model-bundles/{endpoint.bundle_id}"), "ModelBundleV1Response")
    assert bundle in listed["model_bundles"]
    check(raw.get("/v1/model-bundles/latest", params={"model_name": "la-sync"}), "ModelBundleV1Response")
    body = {"original_model_bundle_id": bundle["id"]}
    check(raw.post("/v1/model-bundles/clone-with-changes", json=body), "CreateModelBundleV1Response")
    fields = ("location", "requirements", "env_params", "packaging_type", "metadata")
    body = {"name": "la-first-form", **{name: bundle[name] for name in fields}}
    made = check(raw.post("/v1/model-bundles", json=body), "CreateModelBundleV1Response")
    again = check(raw.get(f"/v1/model-bundles/{made['model_bundle_id']}"), "ModelBundleV1Response")
    assert {name: again[name] for name in body} == body


IMAGE = {
    "repository": "registry.example/echo",
    "tag": "1",
    "command": ["serve"],
    "protocol": "http",
    "env": {"A": "b"},
    "readiness_initial_delay_seconds": 60,
}
TRITON = {"triton_model_repository": "models", "triton_num_cpu": 1, "triton_commit_tag": "24.12-py3"}


@pytest.mark.parametrize(
    ("flavor", "more"),
    [
        ("runnable_image", {}),
        ("streaming_enhanced_runnable_image", {"streaming_command": ["stream"]}),
        ("triton_enhanced_runnable_image", TRITON),
    ],
)
def test_bundles_of_images_in_both_forms(raw, flavor, more):
    name = f"la-{flavor}"
    given = {"flavor": flavor, **IMAGE, **more}
    body = {"name": name, "schema_location": "", "flavor": given}
    made = check(raw.post("/v2/model-bundles", json=body), "CreateModelBundleV2Response")
    bundle = check(raw.get(f"/v2/model-bundles/{made['model_bundle_id']}"), "ModelBundleV2Response")
    assert given.items() <= bundle["flavor"].items()
    # Launch's client asks here for the id of a bundle that it is to deploy by its name.
    found = check(raw.get("/v1/model-bundles/latest", params={"model_name": name}), "ModelBundleV1Response")
    assert found["id"] == bundle["id"]
    assert (found["env_params"]["ecr_repo"], found["env_params"]["image_tag"]) == (IMAGE["repository"], "1")
    assert found in check(raw.get("/v1/model-bundles"), "ListModelBundlesV1Response")["model_bundles"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"packaging_type": "lira"}, "packaging_type"),
        ({"packaging_type": "zip", "metadata": {}}, "metadata"),
        ({"requirements": [""]}, "requirements"),
    ],
)
def test_a_bundle_of_the_first_form_that_can_not_be_served_is_refused(raw, endpoint, changes, field):
    bundle = raw.get(f"/v1/model-bundles/{endpoint.bundle_id}").json()
    response = raw.post("/v1/model-bundles", json=bundle | changes)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][:2] == ["body", field]


def test_endpoints(raw, endpoint):
    path = f"/v1/model-endpoints/{endpoint.id}"
    check(raw.get("/v1/model-endpoints"), "ListModelEndpointsV1Response")
    check(raw.get(path), "GetModelEndpointV1Response")
    check(raw.put(path, json={"max_workers": 2}), "UpdateModelEndpointV1Response")
    check(raw.post(f"{path}/restart", json={}), "RestartModelEndpointV1Response")


def test_creating_and_deleting_an_endpoint(raw, endpoint):
    body = {
        "name": "la-made",
        "model_bundle_id": endpoint.bundle_id,
        "endpoint_type": "async",
        "metadata": {},
        "labels": {},
        "cpus": "100m",
        "gpus": 0,
        "memory": "64Mi",
        "storage": "1Gi",
        "min_workers": 0,
        "max_workers": 1,
        "per_worker": 1,
    }
    check(raw.post("/v1/model-endpoints", json=body), "CreateModelEndpointV1Response")
    (made,) = raw.get("/v1/model-endpoints", params={"name": "la-made"}).json()["model_endpoints"]
    check(raw.delete(f"/v1/model-endpoints/{made['id']}"), "DeleteModelEndpointV1Response")


@pytest.mark.parametrize("sent", [{"x": 1}, {"wrong": 1}])
def test_a_sync_prediction(raw, endpoint, sent):
    response = raw.post(
        "/v1/sync-tasks",
        params={"model_endpoint_id": endpoint.id},
        json={"args": sent, "timeout_seconds": 20},
    )
    check(response, "SyncEndpointPredictV1Response")


def test_an_async_prediction(client, raw):
    made = client.deploy(lambda x=0: [x], name="la-async", endpoint_type="async", **SMALL)
    query = {"model_endpoint_id": made.model_endpoint.id}
    task = check(
        raw.post("/v1/async-tasks", params=query, json={"args": {"x": 1}}), "CreateAsyncTaskV1Response"
    )
    path = f"/v1/async-tasks/{task['task_id']}"
    check(raw.get(path), "GetAsyncTaskV1Response")
    done = check(raw.get(path, params={"wait": DEADLINE}), "GetAsyncTaskV1Response")
    assert done["status"] == "SUCCESS"


def test_the_items_of_a_stream(client):
    def count():
        yield from range(3)

    made = client.deploy(count, name="la-stream", **SMALL)
    assert [item.value for item in made.predict(args())] == [0, 1, 2]
    query = {"model_endpoint_id": made.model_endpoint.id}
    with (
        http(client) as raw,
        raw.stream("POST", "/v1/streaming-tasks", params=query, json={"args": {}}) as answer,
    ):
        text = answer.read().decode()
    events = [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")
    ]
    assert [event["result"]["result"] for event in events] == [0, 1, 2]
    assert text.endswith("\n\n: end\n\n")


def test_a_batch_job(raw, endpoint):
    where = raw.post("/v1/hosted_inference/batch_task_input_upload", json={}).json()
    raw.put(where["signedUrl"], content=b"id,args\r\n0,{}\r\n", auth=None)
    body = {
        "model_bundle_id": endpoint.bundle_id,
        "input_path": f"s3://{where['bucket']}/{where['key']}",
        "serialization_format": "JSON",
        "labels": {},
        "resource_requests": {"cpus": 0.1, "memory": "64Mi", "gpus": None},
    }
    job_id = check(raw.post("/v1/batch-jobs", json=body), "CreateBatchJobV1Response")["job_id"]
    check(raw.get(f"/v1/batch-jobs/{job_id}"), "GetBatchJobV1Response")
    done = check(raw.get(f"/v1/batch-jobs/{job_id}", params={"wait": DEADLINE}), "GetBatchJobV1Response")
    assert (done["status"], done["num_tasks_completed"], done["num_tasks_pending"]) == ("SUCCESS", 1, 0)
    check(raw.put(f"/v1/batch-jobs/{job_id}", json={"cancel": True}), "UpdateBatchJobV1Response")


def test_files(raw):
    made = check(raw.post("/v1/files", files={"file": ("notes.txt", b"text")}), "UploadFileResponse")
    check(raw.get("/v1/files"), "ListFilesResponse")
    check(raw.get(f"/v1/files/{made['id']}"), "GetFileResponse")
    check(raw.get(f"/v1/files/{made['id']}/content"), "GetFileContentResponse")
    check(raw.delete(f"/v1/files/{made['id']}"), "DeleteFileResponse")


@pytest.fixture(scope="module")
def image_bundle(raw):
    body = {
        "name": "la-image",
        "image_repository": "127.0.0.1:9/none",
        "image_tag": "1",
        "command": ["run"],
        "env": {"A": "b"},
        "mount_location": "/config.json",
        "resource_requests": {"cpus": 1, "memory": "64Mi", "gpus": None},
        "public": False,
    }
    bundles = "/v1/docker-image-batch-job-bundles"
    made = check(raw.post(bundles, json=body), "CreateDockerImageBatchJobBundleV1Response")
    return made["docker_image_batch_job_bundle_id"]


def test_bundles_of_docker_image_batch_jobs(raw, image_bundle):
    path = "/v1/docker-image-batch-job-bundles"
    check(raw.get(f"{path}/{image_bundle}"), "DockerImageBatchJobBundleV1Response")
    query = {"bundle_name": "la-image"}
    check(raw.get(f"{path}/latest", params=query), "DockerImageBatchJobBundleV1Response")
    listed = check(raw.get(path, params=query), "ListDockerImageBatchJobBundleV1Response")
    assert [found["id"] for found in listed["docker_image_batch_job_bundles"]] == [image_bundle]


def test_docker_image_batch_jobs(raw, image_bundle):
    path = "/v1/docker-image-batch-jobs"
    body = {
        "docker_image_batch_job_bundle_id": image_bundle,
        "job_config": {"a": 1},
        "labels": {"team": "a"},
        "override_job_max_runtime_s": 60,
    }
    job_id = check(raw.post(path, json=body), "CreateDockerImageBatchJobV1Response")["job_id"]
    job = check(raw.get(f"{path}/{job_id}"), "GetDockerImageBatchJobV1Response")
    assert (job["annotations"], job["override_job_max_runtime_s"]) == ({"team": "a"}, 60)
    check(raw.put(f"{path}/{job_id}", json={"cancel": True}), "UpdateDockerImageBatchJobV1Response")
    listed = check(raw.get(path), "ListDockerImageBatchJobsV1Response")
    assert [found["id"] for found in listed["jobs"]] == [job_id]


def test_triggers(raw, image_bundle):
    body = {
        "name": "la-trigger",
        "cron_schedule": "0 0 1 1 *",
        "bundle_id": image_bundle,
        "default_job_config": {"a": 1},
        "default_job_metadata": {"team": "a"},
    }
    path = "/v1/triggers"
    made = check(raw.post(path, json=body), "CreateTriggerV1Response")["trigger_id"]
    check(raw.get(f"{path}/{made}"), "GetTriggerV1Response")
    check(raw.get(path), "ListTriggersV1Response")
    check(raw.put(f"{path}/{made}", json={"suspend": True}), "UpdateTriggerV1Response")
    check(raw.delete(f"{path}/{made}"), "DeleteTriggerV1Response")


def test_what_is_refused_has_the_contracts_list_of_errors(raw, endpoint):
    response = raw.post("/v1/model-endpoints", json={"name": "la-not"})
    assert response.status_code == 422
    schema = {"$ref": "#/components/schemas/HTTPValidationError", "components": {"schemas": COMPONENTS}}
    jsonschema_rs.validator_for(schema).validate(response.json())

"""Requests for endpoints, bundles, keys and tasks: what is taken, and what is refused with its field named."""

from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from openlaunch.wire.bundles import (
    CloudpickleArtifactFlavor,
    CreateModelBundleRequest,
    ImageRepository,
    ZipArtifactFlavor,
)
from openlaunch.wire.endpoint_settings import CallbackAuth, CallbackMTLSAuth
from openlaunch.wire.endpoints import CreateModelEndpointRequest, UpdateModelEndpointRequest
from openlaunch.wire.keys import CreateKeyRequest, CreateKeyResponse
from openlaunch.wire.tasks import MAX_BULK, BulkCreateRequest, BulkWaitRequest, SyncPredictRequest

ENDPOINT: dict[str, Any] = {
    "name": "digits",
    "model_bundle_id": "bun_1",
    "endpoint_type": "async",
    "metadata": {},
    "cpus": "500m",
    "gpus": 0,
    "memory": "1Gi",
    "storage": "1Gi",
    "min_workers": 0,
    "max_workers": 1,
    "per_worker": 1,
    "labels": {},
}
BUNDLE: dict[str, Any] = {
    "name": "digits",
    "schema_location": "s3://bucket/schemas",
    "flavor": {
        "flavor": "cloudpickle_artifact",
        "requirements": ["scikit-learn==1.8.0"],
        "framework": {"framework_type": "pytorch", "pytorch_image_tag": "2.0"},
        "location": "s3://bucket/bundle",
        "load_predict_fn": "predict",
        "load_model_fn": "load",
    },
}


def refused(model: type[BaseModel], document: dict[str, Any]) -> list[str]:
    """The paths of the fields that the model refuses."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(document)
    return [".".join(str(part) for part in error["loc"]) for error in caught.value.errors()]


def test_an_endpoint_as_the_client_sends_it_is_taken():
    request = CreateModelEndpointRequest.model_validate(ENDPOINT)
    assert (request.name, request.cpus, request.max_workers) == ("digits", "500m", 1)
    assert request.nodes_per_worker == 1


@pytest.mark.parametrize("name", ["a", "digits", "a-1", "My_digits.v2", "1", "x" * 63])
def test_names_of_endpoints(name):
    assert CreateModelEndpointRequest.model_validate(ENDPOINT | {"name": name}).name == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "_a", "a.", "a b", "a/b", "a\n", "grüße", "x" * 64, None, 7]
)
def test_bad_names_of_endpoints(name):
    assert "name" in refused(CreateModelEndpointRequest, ENDPOINT | {"name": name})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_workers", -1),
        ("min_workers", 1001),
        ("max_workers", -1),
        ("max_workers", 1001),
        ("max_workers", 1.5),
        ("per_worker", 0),
        ("per_worker", 10_001),
        ("gpus", -1),
        ("nodes_per_worker", 0),
        ("endpoint_type", "batch"),
        ("gpu_type", "voodoo2"),
        ("labels", "team"),
        ("metadata", "text"),
        ("forwarder_max_concurrency", 21),
        ("queue_message_timeout_seconds", 0),
        ("timeout_seconds", 0),
        ("task_expires_seconds", 0),
    ],
)
def test_settings_out_of_range_are_named(field, value):
    assert refused(CreateModelEndpointRequest, ENDPOINT | {field: value}) == [field]


@pytest.mark.parametrize("field", list(ENDPOINT))
def test_each_required_field_is_missed(field):
    document = {name: value for name, value in ENDPOINT.items() if name != field}
    assert refused(CreateModelEndpointRequest, document) == [field]


@pytest.mark.parametrize("model", [CreateModelEndpointRequest, UpdateModelEndpointRequest])
def test_a_maximum_below_the_minimum_is_refused_with_both(model):
    with pytest.raises(ValidationError, match="max_workers is 1, less than min_workers, which is 2"):
        model.model_validate(ENDPOINT | {"min_workers": 2, "max_workers": 1})


def test_an_update_may_give_anything_or_nothing():
    assert UpdateModelEndpointRequest.model_validate({}).model_dump(exclude_none=True) == {}
    given = {"min_workers": 2}
    assert UpdateModelEndpointRequest.model_validate(given).model_dump(exclude_none=True) == given


def test_callback_auth_is_told_apart_by_its_kind():
    adapter: TypeAdapter[CallbackAuth] = TypeAdapter(CallbackAuth)
    auth = adapter.validate_python({"kind": "mtls", "cert": "CERT", "key": "KEY"})
    assert isinstance(auth, CallbackMTLSAuth)
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "oauth", "token": "x"})


def test_no_secret_is_in_a_repr():
    auth = CreateModelEndpointRequest.model_validate(
        ENDPOINT | {"default_callback_auth": {"kind": "basic", "username": "ada", "password": "pass-phrase"}}
    )
    assert "pass-phrase" not in repr(auth)
    key = CreateKeyResponse.model_validate(
        {
            "id": "key_1",
            "owner": "ada",
            "role": "user",
            "prefix": "ol_",
            "created_at": 0,
            "api_key": "ol_secret",
        }
    )
    assert "ol_secret" not in repr(key)


def test_a_bundle_flavour_is_told_apart():
    request = CreateModelBundleRequest.model_validate(BUNDLE)
    assert isinstance(request.flavor, CloudpickleArtifactFlavor)
    zipped = BUNDLE["flavor"] | {
        "flavor": "zip_artifact",
        "load_predict_fn_module_path": "a.predict",
        "load_model_fn_module_path": "a.load",
    }
    request = CreateModelBundleRequest.model_validate(BUNDLE | {"flavor": zipped})
    assert isinstance(request.flavor, ZipArtifactFlavor)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "-a", "x" * 129, "a\n"])
def test_bad_names_of_bundles(name):
    assert refused(CreateModelBundleRequest, BUNDLE | {"name": name}) == ["name"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("command", ["a\0b"]),
        ("command", ["\ud800"]),
        ("env", {"A=B": "1"}),
        ("env", {"": "1"}),
        ("env", {"A\0": "1"}),
        ("env", {"A": "1\0"}),
    ],
)
@pytest.mark.parametrize("kind", ["command", "runnable_image"])
def test_what_no_process_could_be_started_with(kind, field, value):
    kinds = {
        "command": {"requirements": []},
        "runnable_image": {"repository": "a", "tag": "1", "protocol": "http"},
    }
    flavor = {"flavor": kind, "command": ["serve"], **kinds[kind]}
    CreateModelBundleRequest.model_validate(BUNDLE | {"flavor": flavor})
    assert refused(CreateModelBundleRequest, BUNDLE | {"flavor": flavor | {field: value}}) == ["flavor"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("python_version", "2.7"),
        ("python_version", "3.11.4"),
        ("requirements", [""]),
        ("requirements", ["x"] * 1001),
    ],
)
def test_bad_flavours(field, value):
    paths = refused(CreateModelBundleRequest, BUNDLE | {"flavor": BUNDLE["flavor"] | {field: value}})
    assert paths[0].startswith(f"flavor.cloudpickle_artifact.{field}")


@pytest.mark.parametrize("owner", ["", " ada", "a b", "x" * 65, "a\n"])
def test_bad_owners_of_keys(owner):
    assert refused(CreateKeyRequest, {"owner": owner}) == ["owner"]


def test_bulk_requests_are_bounded():
    assert refused(BulkCreateRequest, {"requests": []}) == ["requests"]
    assert refused(BulkCreateRequest, {"requests": [{"args": {}}] * (MAX_BULK + 1)}) == ["requests"]
    assert refused(BulkWaitRequest, {"task_ids": ["t"] * (MAX_BULK + 1)}) == ["task_ids"]
    assert refused(BulkWaitRequest, {"task_ids": ["t"], "wait": 61}) == ["wait"]
    assert refused(BulkWaitRequest, {"task_ids": ["t"], "wait": "nan"}) == ["wait"]


@pytest.mark.parametrize(
    ("field", "value"), [("timeout_seconds", 0), ("timeout_seconds", -1), ("num_retries", -1)]
)
def test_settings_of_a_sync_request(field, value):
    assert refused(SyncPredictRequest, {"args": {}, field: value}) == [field]


@pytest.mark.parametrize(
    "name", ["a", "ghcr.io/org/image_1", "localhost:5000/a/b", "registry:443/a", "10.0.0.1:80/x--y"]
)
def test_an_image_is_named_by_its_registry(name):
    assert TypeAdapter(ImageRepository).validate_python(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "docker-archive:/root/other.tar:a/b",
            "dir:/root",
            "oci:/root",
            "containers-storage:a",
            "docker://a/b",
        ),
        *(
            "oci:5000/a",
            "dir:1/a",
            "DIR:1/a",
            "docker-daemon:1/a",
            "-a",
            "/a",
            "a//b",
            "a/../b",
            "a:b",
            "a@b",
            "",
            "a/",
        ),
        "a" * 401,
    ],
)
def test_an_image_is_no_file_of_the_machine(name):
    with pytest.raises(ValidationError):
        TypeAdapter(ImageRepository).validate_python(name)

"""Every documented class and method of the existing Launch client is here, with the same parameters.

The source is that client's reference (scaleapi.github.io/launch-python-client/api). What is documented there and not
served yet is listed too, so that the list is whole; the language-model methods are of another product.
"""

import inspect
from importlib import import_module

import pytest

import openlaunch
from openlaunch import aio

RESOURCES = "cpus memory storage gpus min_workers max_workers per_worker gpu_type"
CALLBACKS = (
    "post_inference_hooks default_callback_url default_callback_auth_kind default_callback_auth_username "
    "default_callback_auth_password default_callback_auth_cert default_callback_auth_key public_inference"
)
FRAMEWORK = "pytorch_image_tag tensorflow_version custom_base_image_repository custom_base_image_tag"
SCHEMAS = "request_schema response_schema"
IMAGE = (
    f"model_bundle_name {SCHEMAS} repository tag command healthcheck_route predict_route env "
    "readiness_initial_delay_seconds metadata"
)
METHODS = {
    "LaunchClient": {
        "__init__": "api_key endpoint self_hosted use_path_with_custom_endpoint",
        "batch_async_request": "model_bundle urls inputs batch_url_file_location serialization_format labels cpus "
        "memory gpus gpu_type storage max_workers per_worker timeout_seconds",
        "clone_model_bundle_with_changes": "model_bundle app_config",
        "clone_model_bundle_with_changes_v2": "original_model_bundle_id new_app_config",
        "create_docker_image_batch_job": "labels docker_image_batch_job_bundle docker_image_batch_job_bundle_name "
        "job_config cpus memory gpus gpu_type storage",
        "create_docker_image_batch_job_bundle": "name image_repository image_tag command env mount_location cpus "
        "memory gpus gpu_type storage",
        "create_model_bundle": "model_bundle_name env_params load_predict_fn predict_fn_or_cls requirements model "
        f"load_model_fn app_config globals_copy {SCHEMAS}",
        "create_model_bundle_from_callable_v2": "model_bundle_name load_predict_fn load_model_fn requirements "
        f"{SCHEMAS} {FRAMEWORK} app_config metadata",
        "create_model_bundle_from_dirs": "model_bundle_name base_paths requirements_path env_params "
        f"load_predict_fn_module_path load_model_fn_module_path app_config {SCHEMAS}",
        "create_model_bundle_from_dirs_v2": "model_bundle_name base_paths load_predict_fn_module_path "
        f"load_model_fn_module_path {SCHEMAS} requirements_path {FRAMEWORK} app_config metadata",
        "create_model_bundle_from_runnable_image_v2": IMAGE,
        "create_model_bundle_from_streaming_enhanced_runnable_image_v2": f"{IMAGE} streaming_command "
        "streaming_predict_route",
        "create_model_bundle_from_triton_enhanced_runnable_image_v2": f"{IMAGE} triton_model_repository "
        "triton_model_replicas triton_num_cpu triton_commit_tag triton_storage triton_memory "
        "triton_readiness_initial_delay_seconds",
        "create_model_endpoint": f"endpoint_name model_bundle {RESOURCES} endpoint_type high_priority {CALLBACKS} "
        "update_if_exists labels",
        "delete_model_endpoint": "model_endpoint",
        "edit_model_endpoint": f"model_endpoint model_bundle {RESOURCES} high_priority {CALLBACKS}",
        "get_batch_async_response": "batch_job_id",
        "get_docker_image_batch_job": "batch_job_id",
        "get_docker_image_batch_job_bundle": "docker_image_batch_job_bundle_id",
        "get_latest_docker_image_batch_job_bundle": "bundle_name",
        "get_latest_model_bundle_v2": "model_bundle_name",
        "get_model_bundle": "model_bundle",
        "get_model_bundle_v2": "model_bundle_id",
        "get_model_endpoint": "endpoint_name",
        "list_docker_image_batch_job_bundles": "bundle_name order_by",
        "list_model_bundles": "",
        "list_model_bundles_v2": "",
        "list_model_endpoints": "",
        "read_endpoint_creation_logs": "model_endpoint",
        "register_batch_csv_location_fn": "batch_csv_location_fn",
        "register_bundle_location_fn": "bundle_location_fn",
        "register_upload_batch_csv_fn": "upload_batch_csv_fn",
        "register_upload_bundle_fn": "upload_bundle_fn",
        "update_docker_image_batch_job": "batch_job_id cancel",
    },
    "Endpoint": {"status": "", "resource_state": "", "deployment_state": ""},
    "AsyncEndpoint": {
        "__init__": "model_endpoint client",
        "predict": "request",
        "predict_batch": "requests",
        "status": "",
    },
    "SyncEndpoint": {"__init__": "model_endpoint client", "predict": "request", "status": ""},
    "StreamingEndpoint": {"__init__": "model_endpoint client", "predict": "request", "status": ""},
    "EndpointRequest": {
        "__init__": "url args callback_url callback_auth_kind callback_auth_username callback_auth_password "
        "callback_auth_cert callback_auth_key return_pickled request_id extra_headers"
    },
    "EndpointResponse": {"__init__": "client status result_url result traceback status_code"},
    "EndpointResponseFuture": {"__init__": "client endpoint_name async_task_id", "get": "timeout"},
    "EndpointResponseStream": {},
    "AsyncEndpointBatchResponse": {
        "__init__": "client endpoint_name request_ids",
        "batch_status": "",
        "get_responses": "",
        "is_done": "poll",
        "poll_endpoints": "",
    },
    "ModelBundle": {
        "__init__": "name id env_params location metadata packaging_type requirements app_config created_at"
    },
    "ModelEndpoint": {},
    "PostInferenceHooks": {},
}
MODULES = {
    "model_bundle": "ModelBundle CreateModelBundleV2Response ListModelBundlesV2Response ModelBundleV2Response "
    "ModelBundleFlavors ModelBundleFrameworkType CloudpickleArtifactFlavor ZipArtifactFlavor RunnableImageFlavor "
    "StreamingEnhancedRunnableImageFlavor TritonEnhancedRunnableImageFlavor PytorchFramework TensorflowFramework "
    "CustomFramework",
    "model_endpoint": "ModelEndpoint Endpoint AsyncEndpoint SyncEndpoint StreamingEndpoint EndpointRequest "
    "EndpointResponse EndpointResponseFuture EndpointResponseStream AsyncEndpointBatchResponse",
    "hooks": "PostInferenceHooks",
}
BLOCKING_ONLY = {"Endpoint", "ModelBundle", "ModelEndpoint", "PostInferenceHooks"}
CALLS = [
    (module, name, method)
    for name, methods in METHODS.items()
    for method in methods
    for module in (openlaunch, aio)
    if module is openlaunch or name not in BLOCKING_ONLY
]


@pytest.mark.parametrize("module", MODULES)
def test_the_module_has_the_documented_names(module):
    assert set(import_module(f"openlaunch.{module}").__all__) == set(MODULES[module].split())


@pytest.mark.parametrize("name", METHODS)
def test_the_class_is_here(name):
    assert inspect.isclass(getattr(openlaunch, name))


@pytest.mark.parametrize(
    ("module", "name", "method"), CALLS, ids=[f"{m.__name__}.{n}.{f}" for m, n, f in CALLS]
)
def test_the_method_has_the_documented_parameters(module, name, method):
    theirs = METHODS[name][method].split()
    ours = inspect.signature(getattr(getattr(module, name), method)).parameters
    assert not [parameter for parameter in theirs if parameter not in ours]
    needed = [
        parameter.name
        for parameter in ours.values()
        if parameter.default is parameter.empty and parameter.name != "self"
    ]
    assert set(needed) <= set(theirs)

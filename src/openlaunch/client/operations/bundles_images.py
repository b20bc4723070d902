"""Model bundles that are container images."""

from typing import Any

from pydantic import BaseModel

from openlaunch.client import packing
from openlaunch.client.effects import Flow
from openlaunch.client.operations.bundles import checked_name_and_flavor, register
from openlaunch.wire.bundles import CreateModelBundleResponse


def create_model_bundle_from_runnable_image_v2(
    *,
    model_bundle_name: str,
    request_schema: type[BaseModel] | None = None,
    response_schema: type[BaseModel] | None = None,
    repository: str,
    tag: str,
    command: list[str],
    healthcheck_route: str | None = None,
    predict_route: str | None = None,
    env: dict[str, str] | None = None,
    readiness_initial_delay_seconds: int = 120,
    extra_routes: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
) -> Flow[CreateModelBundleResponse]:
    """Make a bundle of a container image that serves HTTP, for sync and async endpoints.

    A worker runs the image with podman or docker, whichever the server's machine has, and waits until
    `GET healthcheck_route` answers 2xx. The server inside listens on port 5005 of all addresses, or on the PORT of
    `env`. A prediction is `POST predict_route` with the request's `args` as JSON, or with the bytes of its `url`, and
    its value is the JSON that is answered. An answer of 300 or more is a FAILURE with the text that was sent. The
    endpoint's `cpus`, `memory` and `gpus` are the container's limits. It is removed however its worker ends.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        request_schema: a pydantic model; predictions whose args do not fit are refused.
        response_schema: a pydantic model of what is answered.
        repository: of the image, such as `ghcr.io/me/model`. It is fetched if it is not on the machine.
        tag: of the image, or its digest (`sha256:…`).
        command: the program and its arguments, in place of the image's entry point.
        healthcheck_route: what is asked until the server is ready; `/readyz`.
        predict_route: `/predict`.
        env: environment variables of the container.
        readiness_initial_delay_seconds: how long the server may take to become ready, at most 21,600.
        extra_routes: routes that a prediction's `destination_path` may name.
        metadata: recorded.

    Raises:
        Unprocessable: the name, the image or a route is not allowed.
    """
    flavor = {
        "flavor": "runnable_image",
        "command": command,
        **_image(repository, tag, healthcheck_route, predict_route, env, extra_routes),
        "readiness_initial_delay_seconds": readiness_initial_delay_seconds,
    }
    return (yield from _create(model_bundle_name, flavor, metadata, request_schema, response_schema))


def create_model_bundle_from_streaming_enhanced_runnable_image_v2(
    *,
    model_bundle_name: str,
    request_schema: type[BaseModel] | None = None,
    response_schema: type[BaseModel] | None = None,
    repository: str,
    tag: str,
    command: list[str] | None = None,
    healthcheck_route: str | None = None,
    predict_route: str | None = None,
    streaming_command: list[str],
    streaming_predict_route: str | None = None,
    env: dict[str, str] | None = None,
    readiness_initial_delay_seconds: int = 120,
    extra_routes: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
) -> Flow[CreateModelBundleResponse]:
    """Make a bundle of a container image that serves HTTP and streams, for endpoints of all types.

    On a streaming endpoint `streaming_command` is run in place of `command`, and a prediction is
    `POST streaming_predict_route`, which answers with server-sent events: the data of each is an item, and `[DONE]`
    is none. All else is as with `create_model_bundle_from_runnable_image_v2`.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        request_schema: a pydantic model; predictions whose args do not fit are refused.
        response_schema: a pydantic model of what is answered.
        repository: of the image.
        tag: of the image, or its digest.
        command: for sync and async endpoints; by default the image's own.
        healthcheck_route: what is asked until the server is ready; `/readyz`.
        predict_route: for sync and async endpoints; `/predict`.
        streaming_command: for streaming endpoints.
        streaming_predict_route: for streaming endpoints; `/stream`.
        env: environment variables of the container.
        readiness_initial_delay_seconds: how long the server may take to become ready, at most 21,600.
        extra_routes: routes that a prediction's `destination_path` may name.
        metadata: recorded.

    Raises:
        Unprocessable: the name, the image or a route is not allowed.
    """
    flavor = {
        "flavor": "streaming_enhanced_runnable_image",
        "command": command or [],
        "streaming_command": streaming_command,
        "streaming_predict_route": streaming_predict_route or "/stream",
        **_image(repository, tag, healthcheck_route, predict_route, env, extra_routes),
        "readiness_initial_delay_seconds": readiness_initial_delay_seconds,
    }
    return (yield from _create(model_bundle_name, flavor, metadata, request_schema, response_schema))


def create_model_bundle_from_triton_enhanced_runnable_image_v2(
    *,
    model_bundle_name: str,
    request_schema: type[BaseModel] | None = None,
    response_schema: type[BaseModel] | None = None,
    repository: str,
    tag: str,
    command: list[str],
    healthcheck_route: str | None = None,
    predict_route: str | None = None,
    env: dict[str, str] | None = None,
    readiness_initial_delay_seconds: int = 120,
    triton_model_repository: str,
    triton_model_replicas: dict[str, str] | None = None,
    triton_num_cpu: float,
    triton_commit_tag: str,
    triton_storage: str | None = None,
    triton_memory: str | None = None,
    triton_readiness_initial_delay_seconds: int = 300,
    extra_routes: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
) -> Flow[CreateModelBundleResponse]:
    """Make a bundle of a container image that runs beside NVIDIA's Triton Inference Server.

    Triton's container starts first; once it is ready the image's own does, and reaches it on localhost: port 8000
    (HTTP) and 8001 (gRPC). Both have `env` and the endpoint's GPUs; `triton_num_cpu` and `triton_memory` are
    Triton's part of its `cpus` and `memory`. All else is as with `create_model_bundle_from_runnable_image_v2`.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        request_schema: a pydantic model; predictions whose args do not fit are refused.
        response_schema: a pydantic model of what is answered.
        repository: of the image.
        tag: of the image, or its digest.
        command: the program and its arguments, in place of the image's entry point.
        healthcheck_route: what is asked until the server is ready; `/readyz`.
        predict_route: `/predict`.
        env: environment variables of both containers.
        readiness_initial_delay_seconds: how long the server may take to become ready, at most 21,600.
        triton_model_repository: a URL that Triton reads (`s3://…`, `gs://…`), or a folder below the one that
            OPENLAUNCH_MODEL_REPOSITORIES names on the server.
        triton_model_replicas: a number of instances for models of a folder, by name.
        triton_num_cpu: Triton's cores.
        triton_commit_tag: the tag of Triton's image, or its digest.
        triton_storage: recorded.
        triton_memory: Triton's memory, such as `2Gi`.
        triton_readiness_initial_delay_seconds: how long Triton may take to become ready.
        extra_routes: routes that a prediction's `destination_path` may name.
        metadata: recorded.

    Raises:
        Unprocessable: the name, the image or a route is not allowed.
    """
    flavor = {
        "flavor": "triton_enhanced_runnable_image",
        "command": command,
        **_image(repository, tag, healthcheck_route, predict_route, env, extra_routes),
        "readiness_initial_delay_seconds": readiness_initial_delay_seconds,
        "triton_model_repository": triton_model_repository,
        "triton_model_replicas": triton_model_replicas,
        "triton_num_cpu": triton_num_cpu,
        "triton_commit_tag": triton_commit_tag,
        "triton_storage": triton_storage,
        "triton_memory": triton_memory,
        "triton_readiness_initial_delay_seconds": triton_readiness_initial_delay_seconds,
    }
    return (yield from _create(model_bundle_name, flavor, metadata, request_schema, response_schema))


def _image(
    repository: str,
    tag: str,
    healthcheck_route: str | None,
    predict_route: str | None,
    env: dict[str, str] | None,
    extra_routes: list[str] | None,
) -> dict[str, Any]:
    return {
        "repository": repository,
        "tag": tag,
        "healthcheck_route": healthcheck_route or "/readyz",
        "predict_route": predict_route or "/predict",
        "env": env,
        "extra_routes": extra_routes or [],
        "protocol": "http",
    }


def _create(
    name: str,
    flavor: dict[str, Any],
    metadata: dict[str, Any] | None,
    request_schema: type[BaseModel] | None,
    response_schema: type[BaseModel] | None,
) -> Flow[CreateModelBundleResponse]:
    checked_name_and_flavor(name, flavor, metadata)
    schemas = packing.pack_schemas(request_schema, response_schema)
    return (yield from register(name, flavor, metadata, b"", schemas))

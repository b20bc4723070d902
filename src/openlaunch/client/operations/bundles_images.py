"""Model bundles that are container images."""

from collections.abc import Mapping
from typing import Any, Unpack

from openlaunch.client.effects import Flow, takes_owner
from openlaunch.client.operations.bundles import checked_name_and_flavor, register
from openlaunch.client.operations.keywords import ImageKeywords, TritonKeywords, given
from openlaunch.wire.bundles import CreateModelBundleResponse


@takes_owner("model_bundle_name")
def create_model_bundle_from_runnable_image_v2(
    *, model_bundle_name: str, command: list[str], **image: Unpack[ImageKeywords]
) -> Flow[CreateModelBundleResponse]:
    """Make a bundle of a container image that serves HTTP, for sync and async endpoints.

    A worker runs the image with podman or docker, whichever the server's machine has, and waits until
    `GET healthcheck_route` answers 2xx. The server inside listens on port 5005 of all addresses, or on the PORT of
    `env`. A prediction is `POST predict_route` with the request's `args` as JSON, or with the bytes of its `url`, and
    its value is the JSON that is answered. An answer of 300 or more is a FAILURE with the text that was sent. The
    endpoint's `cpus`, `memory` and `gpus` are the container's limits. It is removed however its worker ends.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        command: the program and its arguments, in place of the image's entry point.
        **image: of the bundle; `openlaunch.client.operations.keywords.ImageKeywords` describes them.

    Raises:
        TypeError: a keyword is unknown or missing.
        Unprocessable: the name, the image or a route is not allowed.
    """
    flavor = {"flavor": "runnable_image", "command": command}
    return (yield from _create(model_bundle_name, flavor, given(ImageKeywords, image)))


@takes_owner("model_bundle_name")
def create_model_bundle_from_streaming_enhanced_runnable_image_v2(
    *,
    model_bundle_name: str,
    command: list[str] | None = None,
    streaming_command: list[str],
    streaming_predict_route: str | None = None,
    **image: Unpack[ImageKeywords],
) -> Flow[CreateModelBundleResponse]:
    """Make a bundle of a container image that serves HTTP and streams, for endpoints of all types.

    On a streaming endpoint `streaming_command` is run in place of `command`, and a prediction is
    `POST streaming_predict_route`, which answers with server-sent events: the data of each is an item, except
    `[DONE]`. All else is as with `create_model_bundle_from_runnable_image_v2`.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        command: for sync and async endpoints; by default the image's own.
        streaming_command: for streaming endpoints.
        streaming_predict_route: for streaming endpoints; `/stream`.
        **image: of the bundle; `openlaunch.client.operations.keywords.ImageKeywords` describes them.

    Raises:
        TypeError: a keyword is unknown or missing.
        Unprocessable: the name, the image or a route is not allowed.
    """
    flavor: dict[str, Any] = {
        "flavor": "streaming_enhanced_runnable_image",
        "command": command or [],
        "streaming_command": streaming_command,
    }
    if streaming_predict_route is not None:
        flavor["streaming_predict_route"] = streaming_predict_route
    return (yield from _create(model_bundle_name, flavor, given(ImageKeywords, image)))


@takes_owner("model_bundle_name")
def create_model_bundle_from_triton_enhanced_runnable_image_v2(
    *, model_bundle_name: str, command: list[str], **image: Unpack[TritonKeywords]
) -> Flow[CreateModelBundleResponse]:
    """Make a bundle of a container image that runs beside NVIDIA's Triton Inference Server.

    Triton's container starts first; once it is ready the image's own does, and reaches it on localhost: port 8000
    (HTTP) and 8001 (gRPC). Both have `env` and the endpoint's GPUs; `triton_num_cpu` and `triton_memory` are
    Triton's part of its `cpus` and `memory`. All else is as with `create_model_bundle_from_runnable_image_v2`.

    Args:
        model_bundle_name: letters, digits, `.`, `_` and `-`; a name that exists gets a new version.
        command: the program and its arguments, in place of the image's entry point.
        **image: of the bundle; `openlaunch.client.operations.keywords.TritonKeywords` describes them.

    Raises:
        TypeError: a keyword is unknown or missing.
        Unprocessable: the name, the image or a route is not allowed.
    """
    flavor = {"flavor": "triton_enhanced_runnable_image", "command": command}
    return (yield from _create(model_bundle_name, flavor, given(TritonKeywords, image)))


def _create(name: str, flavor: dict[str, Any], values: Mapping[str, Any]) -> Flow[CreateModelBundleResponse]:
    flavor = {"protocol": "http", **flavor, **values}
    checked_name_and_flavor(name, flavor, values)
    return (yield from register(name, flavor, values, b""))

"""Keywords that several operations take, each described once: what it is, its unit, its default."""

from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Required, TypedDict

from pydantic import BaseModel

from openlaunch.wire.keywords import Quantity


class SchemaKeywords(TypedDict, total=False):
    """The schemas of a bundle's input and output."""

    request_schema: Annotated[type[BaseModel] | None, "Pydantic model; args that do not fit are refused."]
    response_schema: Annotated[type[BaseModel] | None, "Pydantic model of a prediction's value."]


class AppKeywords(SchemaKeywords, total=False):
    """The schemas of a bundle of functions, and what the functions are given."""

    app_config: Annotated[dict[str, Any] | str | Path | None, "A dict, or the path of a JSON file."]


class BundleKeywords(SchemaKeywords, total=False):
    """The keywords of every bundle."""

    metadata: Annotated[dict[str, Any] | None, "Recorded with the bundle."]


class CodeKeywords(BundleKeywords, AppKeywords, total=False):
    """The keywords of a bundle of functions. It names at most one framework."""

    pytorch_image_tag: Annotated[str | None, "Tag of PyTorch's image: recorded."]
    tensorflow_version: Annotated[str | None, "Version of TensorFlow: recorded."]
    custom_base_image_repository: Annotated[str | None, "Name of an image: recorded, together with its tag."]
    custom_base_image_tag: Annotated[str | None, "Tag of the image."]


class ServerKeywords(BundleKeywords, total=False):
    """The keywords of a bundle that is an HTTP server."""

    env: Annotated[dict[str, str] | None, "Environment variables of the server. Default: none."]
    predict_route: Annotated[str | None, "Route on sync and async endpoints. Default: /predict."]
    healthcheck_route: Annotated[str | None, "Route to ask until the server is ready. Default: /readyz."]
    readiness_initial_delay_seconds: Annotated[
        int | None, "Longest time until the server is ready, in seconds, up to 21,600. Default: 120."
    ]
    routes: Annotated[list[str] | None, "Routes that a prediction's destination_path may name."]
    openai: Annotated[
        dict[str, Any] | None,
        'Routes on which the server speaks OpenAI: {"routes": ["/v1/chat/completions"]}. Default: none.',
    ]


class CommandKeywords(ServerKeywords, total=False):
    """The keywords of a bundle that is a command."""

    sleep: Annotated[
        dict[str, Any] | None,
        "Routes by which a worker sleeps while others need its GPUs: {} for vLLM's. Default: none, so that it ends.",
    ]


class ImageKeywords(ServerKeywords, total=False):
    """The keywords of a bundle that is a container image."""

    repository: Required[Annotated[str, "Image, such as ghcr.io/me/model; fetched where it is missing."]]
    tag: Required[Annotated[str, "Tag of the image, or its digest (sha256:…)."]]
    extra_routes: Annotated[list[str] | None, "Routes that a prediction's destination_path may name."]


class TritonKeywords(ImageKeywords, total=False):
    """The keywords of an image beside Triton, which has `env` and the endpoint's GPUs too."""

    triton_model_repository: Required[
        Annotated[
            str,
            "URL that Triton reads (s3://…, gs://…), or a folder below the one that OPENLAUNCH_MODEL_REPOSITORIES "
            "names on the server.",
        ]
    ]
    triton_model_replicas: Annotated[
        dict[str, str] | None, "Number of instances for models of a folder, by name."
    ]
    triton_num_cpu: Required[Annotated[float, "Cores of Triton."]]
    triton_commit_tag: Required[Annotated[str, "Tag of Triton's image, or its digest."]]
    triton_storage: Annotated[str | None, "Disk of Triton: recorded."]
    triton_memory: Annotated[str | None, "Memory of Triton, such as 2Gi."]
    triton_readiness_initial_delay_seconds: Annotated[
        int | None, "Longest time until Triton is ready, in seconds. Default: 300."
    ]


class ResourceKeywords(TypedDict, total=False):
    """The resources of a docker-image batch job; what it omits is its bundle's."""

    cpus: Annotated[Quantity | None, "Cores: 2, 0.5 or 500m. Default: 1."]
    memory: Annotated[Quantity | None, "Memory in bytes, such as 4Gi. Default: 2Gi."]
    gpus: Annotated[int | None, "Number of GPUs. Default: 0."]
    gpu_type: Annotated[str | None, "Type of the GPUs, such as nvidia-ampere-a100: a label, not checked."]
    storage: Annotated[Quantity | None, "Disk in bytes: a label, not enforced."]


class BatchKeywords(ResourceKeywords, total=False):
    """The resources of one worker of a batch job, and how its workers share the inputs."""

    max_workers: Annotated[int | None, "Most workers to start, where the machine has room. Default: 10."]
    per_worker: Annotated[int | None, "Inputs that one worker runs at the same time. Default: 1."]
    max_batch_size: Annotated[int | None, "As of `create_model_endpoint`, for a function that takes a list."]
    max_batch_wait: Annotated[float | None, "As of `create_model_endpoint`, in seconds."]
    env: Annotated[dict[str, str] | None, "Environment variables of the workers, over those of the bundle."]
    secrets: Annotated[list[str] | None, "Names of secrets that the workers see, hf-token as HF_TOKEN."]
    prefetch: Annotated[list[str] | None, "What is downloaded into your cache first, as of an endpoint."]


class LimitKeywords(TypedDict, total=False):
    """The limits of an API key."""

    requests_per_second: Annotated[
        float | None, "Predictions beyond this rate are refused, those of a bulk counted one by one."
    ]
    burst: Annotated[int | None, "Predictions at once after a quiet time. Default: those of one second."]
    requests_per_day: Annotated[int | None, "Predictions beyond this are refused until 0:00 UTC."]
    tokens_per_minute: Annotated[int | None, "Tokens of language models a minute."]
    tokens_per_day: Annotated[int | None, "Tokens of language models a day, from 0:00 UTC."]
    expires_at: Annotated[datetime | None, "When the key expires; without a time zone, in this machine's."]


def given(kind: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords that have a value. Raises TypeError when one is unknown, or a needed one is missing."""
    check_known(keywords, kind.__annotations__)
    values = {name: value for name, value in keywords.items() if value is not None}
    if missing := kind.__required_keys__ - values.keys():
        raise TypeError(f"the keyword {', '.join(sorted(missing))} is missing: give it a value")
    return values


def check_known(keywords: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Raise TypeError where a keyword is not known, which names those that it may stand for."""
    if not (unknown := sorted(keywords.keys() - known.keys())):
        return
    similar = [match for name in unknown for match in get_close_matches(name, known, 1)]
    hint = f"did you mean {', '.join(similar)}?" if len(similar) == len(unknown) else ""
    hint = "; ".join(filter(None, (_where(name, known) for name in unknown))) or hint
    hint = hint or f"the keywords are: {', '.join(known)}"
    raise TypeError(f"the keyword {', '.join(unknown)} is unknown; {hint}")


_ROUTE = "healthcheck_route"
_HOOKS = {
    "health_fn": f"the health of a server is asked on its {_ROUTE}: give that instead of health_fn",
    "shutdown_fn": "a server gets a SIGTERM before its worker ends: let it do then what shutdown_fn would",
}
_OF_ENDPOINTS = ("max_requests_per_worker", "max_worker_age")


def _where(name: str, known: Mapping[str, Any]) -> str | None:
    """Say where a keyword that replaces workers belongs, or what stands in its place; None for another keyword."""
    if name in _HOOKS:
        if _ROUTE in known:
            return _HOOKS[name]
        if "app_config" in known:
            return f"a bundle of directories names the function: give {name}_module_path"
        return f"{name} is a part of the bundle: give it to deploy or create_model_bundle_from_callable_v2"
    if name not in _OF_ENDPOINTS:
        return None
    if "metadata" in known:
        return f"{name} is a setting of endpoints: give it to create_model_endpoint or deploy"
    return f"{name} is for workers of endpoints: those of a job end with it"

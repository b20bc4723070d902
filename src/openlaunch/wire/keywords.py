"""The settings of an endpoint as keywords: what the client takes, and what the command's options are made of.

A keyword's text is its help, its description in the OpenAPI document, and names its unit and default. This module
imports no pydantic, so that `openlaunch --help` stays fast; `wire.endpoint_settings` holds the values against their
bounds.
"""

from typing import Annotated, Any, TypedDict, get_args, get_type_hints

Quantity = str | int | float
"""A Kubernetes-style quantity: 2, 0.5, "500m", "8Gi"."""


class EndpointKeywords(TypedDict, total=False):
    """The settings that a caller may name. One that is omitted, or None, keeps its value, or gets its default."""

    min_workers: Annotated[int | None, "Workers to keep without any load; 0 scales to zero. Default: 1."]
    max_workers: Annotated[
        int | None, "Most workers to start, as far as the machine has room. Default: 1, or min_workers."
    ]
    per_worker: Annotated[
        int | None,
        "Requests that one worker runs at the same time. More than 1 runs a plain function in that many threads, "
        "which share one model; calls of an async def function share one event loop. Default: 10.",
    ]
    concurrent_requests_per_worker: Annotated[
        int | None,
        "Requests that one worker runs at the same time, as per_worker says; per_worker then only decides when to "
        "scale up. Default: per_worker.",
    ]
    timeout_seconds: Annotated[
        float | None,
        "Longest time for one request, in seconds; for a task, once it runs. Default: the server's limit.",
    ]
    task_expires_seconds: Annotated[
        int | None, "Longest time a task may wait in the queue, in seconds. Default: the server's limit."
    ]
    queue_message_timeout_seconds: Annotated[
        int | None, "Longest time a task may run, in seconds. Default: timeout_seconds."
    ]
    max_batch_size: Annotated[
        int | None, "Maximum inputs per batched call; 0 disables batching, 1 passes lists of one. Default: 0."
    ]
    max_batch_wait: Annotated[
        float | None, "Longest time the first input of a batch waits for others, in seconds. Default: 0.005."
    ]
    max_requests_per_worker: Annotated[
        int | None, "Requests after which a worker is replaced by a new one; 0: never. Default: 0."
    ]
    max_worker_age: Annotated[
        float | None, "Age at which a worker is replaced by a new one, in seconds; 0: never. Default: 0."
    ]
    health_interval: Annotated[
        float | None,
        "Time between two calls of the bundle's health_fn, or of the health route of a command or an image, in each "
        "worker, in seconds. Default: 10.",
    ]
    health_timeout: Annotated[
        float | None,
        "Longest time for one call of health_fn or of the health route, in seconds. Default: 10.",
    ]
    shutdown_timeout: Annotated[
        float | None,
        "Longest time for the bundle's shutdown_fn before a worker ends, in seconds. Default: 10.",
    ]
    cpus: Annotated[Quantity | None, "Cores of one worker: 2, 0.5 or 500m. Default: 3."]
    memory: Annotated[Quantity | None, "Memory of one worker, such as 8Gi or 500MB. Default: 8Gi."]
    storage: Annotated[
        Quantity | None, "Disk of one worker, such as 16Gi: a label, not enforced. Default: 16Gi."
    ]
    gpus: Annotated[
        float | None,
        "GPUs of one worker, or the part of one that it shares with others, such as 0.25. Default: 0.",
    ]
    gpu_type: Annotated[
        str | None,
        "Type of the GPUs, such as nvidia-hopper-h100; refused where there is none of it. Default: any.",
    ]
    high_priority: Annotated[bool | None, "Not supported: true is refused. Default: false."]
    env: Annotated[
        dict[str, str] | None,
        "Environment variables of the workers, over those of the bundle. Giving some replaces all. Default: none.",
    ]
    secrets: Annotated[
        list[str] | None,
        "Names of secrets that the workers see, hf-token as HF_TOKEN. Giving some replaces all. Default: none.",
    ]
    prefetch: Annotated[
        list[str] | None,
        "What is downloaded into the owner's cache before a worker starts: hf://ORG/REPO@REVISION, s3://BUCKET/KEY, "
        "gs://, az:// or https:// URLs. Giving some replaces all. Default: nothing.",
    ]
    labels: Annotated[dict[str, str] | None, "Labels of the endpoint, shown with it. Default: none."]
    post_inference_hooks: Annotated[
        list[str] | None,
        "What follows a task: callback POSTs its result to the callback URL. Default: nothing.",
    ]
    default_callback_url: Annotated[str | None, "Callback URL of tasks that name none. Default: none."]
    public_inference: Annotated[bool | None, "Accept predictions with any user's key. Default: false."]
    cors_origins: Annotated[
        list[str] | None,
        "Origins whose pages may call the endpoint by its name from a browser, such as https://app.example; * allows "
        "all. Giving some replaces all. Default: those of the server.",
    ]
    rollback_after_failures: Annotated[
        int | None, "Failures in the probation window that roll a new bundle back; 0 disables it. Default: 0."
    ]
    probation_requests: Annotated[int | None, "Number of predictions in the probation window. Default: 20."]
    record: Annotated[
        dict[str, Any] | None,
        "Record requests and answers: share (0 to 1), max_bytes and days to keep. Default: nothing is recorded.",
    ]


DEFAULTS = {
    "cpus": 3,
    "memory": "8Gi",
    "storage": "16Gi",
    "gpus": 0,
    "min_workers": 1,
    "max_workers": 1,
    "per_worker": 10,
}
"""The settings of an endpoint that every endpoint has."""

DEPLOY_DEFAULTS = {**DEFAULTS, "cpus": 0.25, "memory": "4Gi", "max_workers": 10, "per_worker": 1}
"""The settings of an endpoint that `deploy` makes: one call at a time in each worker, and as many workers as calls.

A worker declares a quarter of a core, because idle ones hold what they declare, and would leave others no room.
"""

DEPLOY_DEFAULTS_HELP = {
    "cpus": "0.25",
    "memory": "4Gi",
    "max_workers": "10, or min_workers",
    "per_worker": "1; 10 for an async def function",
}
"""How the defaults of `deploy` read where they are not those of the keywords."""


class QuotaKeywords(TypedDict, total=False):
    """How much an owner may have: a number, "unlimited", or "default" for the server's setting."""

    endpoints: Annotated[Quantity | None, "Number of the owner's endpoints."]
    workers: Annotated[Quantity | None, "Number of the owner's workers, at `max_workers` of each endpoint."]
    cpus: Annotated[
        Quantity | None, "Cores that the owner's workers declare, at `max_workers` of each endpoint."
    ]
    memory: Annotated[
        Quantity | None,
        "Memory that the owner's workers declare, at `max_workers` of each endpoint, in bytes, such as 64Gi.",
    ]
    gpus: Annotated[
        Quantity | None, "GPUs that the owner's workers declare, at `max_workers` of each endpoint."
    ]
    queued_tasks: Annotated[Quantity | None, "The owner's tasks that wait, over all endpoints; more get 429."]
    stored_bytes: Annotated[
        Quantity | None,
        "The owner's uploaded bundles, files and inputs of batch jobs, in bytes, such as 100Gi.",
    ]
    tokens_per_minute: Annotated[Quantity | None, "Tokens of language models that the owner uses a minute."]
    tokens_per_day: Annotated[
        Quantity | None, "Tokens of language models that the owner uses a day, from 0:00 UTC."
    ]


def texts_of(keywords: Any) -> dict[str, str]:
    """Return the text of each keyword."""
    return {name: get_args(of)[1] for name, of in get_type_hints(keywords, include_extras=True).items()}


KEYWORD_TYPES = get_type_hints(EndpointKeywords)
KEYWORD_HELP = texts_of(EndpointKeywords)
QUOTA_HELP = texts_of(QuotaKeywords)

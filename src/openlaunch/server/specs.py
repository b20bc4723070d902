"""From the settings of a request to an endpoint's specification, and what a change of it means."""

from dataclasses import replace
from typing import Any

from openlaunch.controller.trial import Rule
from openlaunch.errors import Unprocessable
from openlaunch.server.prediction.inputs import is_http_url
from openlaunch.store.records import BundleRecord, EndpointRecord, EndpointSpec
from openlaunch.wire.endpoints import CreateModelEndpointRequest, EndpointSettings, EndpointType
from openlaunch.wire.quantities import parse_quantity

MAX_QUANTITY = 2.0**60
"""Cores or bytes: so that sums over all workers stay finite."""

_BATCHING = ("max_batch_size", "max_batch_wait")
_EXTRA = (
    "metadata",
    "post_inference_hooks",
    "optimize_costs",
    "concurrent_requests_per_worker",
    "forwarder_max_concurrency",
    "labels",
    "prewarm",
    "high_priority",
    "billing_tags",
    "default_callback_url",
    "default_callback_auth",
    "public_inference",
    "queue_message_timeout_seconds",
    "task_expires_seconds",
    "probation_requests",
    "rollback_after_failures",
    "timeout_seconds",
    *_BATCHING,
)
_NO_STREAMS = ("runnable_image", "triton_enhanced_runnable_image")
_FUNCTIONS = ("cloudpickle_artifact", "zip_artifact")
_PLAIN = ("min_workers", "max_workers", "per_worker", "gpus", "gpu_type")
_QUANTITIES = ("cpus", "memory", "storage")
_NEW_WORKERS = ("cpus", "memory", "storage", "gpus", "gpu_type", "slots", "batching")
"""The settings that a running worker can't take over."""


def new_spec(request: CreateModelEndpointRequest) -> EndpointSpec:
    """The specification of a new endpoint.

    Raises:
        Unprocessable: a quantity is not one, or a setting is not served.
    """
    base = EndpointSpec(
        min_workers=0,
        max_workers=0,
        per_worker=1,
        cpus=0.0,
        memory=0,
        storage=0,
        extra={"nodes_per_worker": 1},
    )
    changed = changed_spec(base, request)
    return replace(changed, extra=changed.extra | {"nodes_per_worker": request.nodes_per_worker})


def changed_spec(spec: EndpointSpec, settings: EndpointSettings) -> EndpointSpec:
    """The specification with what `settings` gives.

    Raises:
        Unprocessable: a quantity is not one, a setting is not served, or max_workers would be less than
            min_workers.
    """
    given = {name: value for name, value in settings.model_dump(mode="json").items() if value is not None}
    _refuse_unserved(given)
    values: dict[str, Any] = {name: given[name] for name in _PLAIN if name in given}
    for name in _QUANTITIES:
        if name in given:
            number = _quantity(name, given[name])
            values[name] = number if name == "cpus" else int(number)
    extra = spec.extra | {name: given[name] for name in (*_EXTRA, *_QUANTITIES) if name in given}
    if not extra.get("max_batch_size"):
        extra = {name: value for name, value in extra.items() if name not in _BATCHING}
    changed = replace(spec, **values, extra=extra)
    if changed.max_workers < changed.min_workers:
        message = f"it would be {changed.max_workers}, less than min_workers, which is {changed.min_workers}"
        raise _wrong("max_workers", message)
    check_rule(Rule.of(changed.extra))
    if "max_batch_wait" in given and changed.batching is None:
        raise _wrong("max_batch_wait", "there is nothing to wait for: give max_batch_size, too")
    return changed


def check_rule(rule: Rule | None) -> None:
    """Refuse a rule that could never be broken.

    Raises:
        Unprocessable: it asks for more failures than the predictions that it looks at.
    """
    if rule is not None and rule.failures > rule.among:
        message = f"it would be {rule.failures}, more than probation_requests, which is {rule.among}"
        raise _wrong("rollback_after_failures", message)


def needs_new_workers(before: EndpointRecord, spec: EndpointSpec, bundle_id: str) -> bool:
    """Whether the running workers are of no use after the change."""
    return before.bundle_id != bundle_id or any(
        getattr(before.spec, name) != getattr(spec, name) for name in _NEW_WORKERS
    )


def check_streams(endpoint_type: EndpointType, bundle: BundleRecord) -> None:
    """Refuse a streaming endpoint for an image that has no streaming route.

    Raises:
        Unprocessable: it is one.
    """
    kind = bundle.flavor["flavor"]
    if endpoint_type is EndpointType.STREAMING and kind in _NO_STREAMS:
        raise _wrong(
            "model_bundle_id",
            f"the bundle {bundle.name!r} is a {kind}, which does not stream: make it a "
            "streaming_enhanced_runnable_image, or the endpoint sync or async",
        )


def check_batching(spec: EndpointSpec, endpoint_type: EndpointType, bundle: BundleRecord) -> None:
    """Refuse to batch what is no function that returns: streams, commands and images.

    Raises:
        Unprocessable: it is to be batched all the same.
    """
    if spec.batching is None:
        return
    if endpoint_type is EndpointType.STREAMING:
        raise _wrong("max_batch_size", "a stream is of one request: batches are for sync and async endpoints")
    kind = bundle.flavor["flavor"]
    if kind not in _FUNCTIONS:
        raise _wrong(
            "max_batch_size",
            f"the bundle {bundle.name!r} is a {kind}, whose server gets each request by itself: leave "
            "max_batch_size out, or make it 0, and let that server batch",
        )


def may_predict(endpoint: EndpointRecord, owner: str) -> bool:
    """Whether this owner's keys open the endpoint to predictions; public ones are open to every key."""
    return endpoint.owner == owner or bool(endpoint.spec.extra.get("public_inference"))


def _refuse_unserved(given: dict[str, Any]) -> None:
    """What would be accepted and then not happen is refused instead."""
    unknown = [hook for hook in given.get("post_inference_hooks", ()) if hook != "callback"]
    if unknown:
        raise _wrong("post_inference_hooks", f"{unknown[0]!r} is not served, 'callback' is")
    if "default_callback_url" in given and not is_http_url(given["default_callback_url"]):
        raise _wrong("default_callback_url", "it is not an http:// or https:// URL")
    if (nodes := given.get("nodes_per_worker", 1)) > 1:
        raise _wrong("nodes_per_worker", f"it is {nodes}, a worker is on 1 node here")


def _quantity(name: str, value: str | float) -> float:
    try:
        number = parse_quantity(value)
    except ValueError as error:
        raise _wrong(name, str(error)) from None
    if number > MAX_QUANTITY:
        raise _wrong(name, f"it is {value}, which is more than any machine has")
    return number


def _wrong(field: str, message: str) -> Unprocessable:
    return Unprocessable(
        f"{field}: {message}", errors=[{"loc": ["body", field], "msg": message, "type": "value_error"}]
    )

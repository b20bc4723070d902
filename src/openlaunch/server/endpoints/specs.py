"""From the settings of a request to an endpoint's specification; Unprocessable is raised for what is not allowed."""

from collections.abc import Collection
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from openlaunch.controller.trial import Rule
from openlaunch.errors import Unprocessable
from openlaunch.server.prediction.inputs import is_http_url
from openlaunch.store.records import BundleRecord, EndpointRecord
from openlaunch.wire.bundles import ArtifactFlavor, ImageFlavor
from openlaunch.wire.endpoint_settings import EndpointSettings, EndpointSpec
from openlaunch.wire.endpoints import CreateModelEndpointRequest, EndpointType, UpdateModelEndpointRequest
from openlaunch.wire.keywords import DEFAULTS
from openlaunch.wire.misfits import said
from openlaunch.wire.secrets import variable_of
from openlaunch_worker.containers import is_by_name

M = TypeVar("M", bound=BaseModel)

_NO_STREAMS = ("runnable_image", "triton_enhanced_runnable_image")
_FUNCTIONS = ("cloudpickle_artifact", "zip_artifact")
_NEVER = {
    "optimize_costs": "the resources of workers are never changed but by an edit",
    "high_priority": "every endpoint has its own workers, so none comes before another",
}
"""Demands that nothing meets, and why."""
_NEW_WORKERS = (
    *("cores", "memory_bytes", "gpus", "gpu_type", "slots", "batching", "max_requests_per_worker"),
    *("env", "secrets", "prefetch", "health_interval", "health_timeout", "shutdown_timeout"),
)
"""The settings that a running worker can't take over."""


def new_spec(request: CreateModelEndpointRequest) -> EndpointSpec:
    """Return the specification of a new endpoint."""
    base = EndpointSpec(min_workers=0, max_workers=0, per_worker=1, cpus=0, memory=0, storage=0)
    return changed_spec(base, request)


def spec_of_job(resources: dict[str, Any]) -> EndpointSpec:
    """Return the specification of a job's workers, which is that of an endpoint with these settings."""
    others = {"name": "job", "model_bundle_id": "", "endpoint_type": "async", "metadata": {}, "labels": {}}
    return new_spec(made_of(CreateModelEndpointRequest, others | resources))


def changed_spec(spec: EndpointSpec, settings: EndpointSettings) -> EndpointSpec:
    """Return the specification with what `settings` gives."""
    _refuse_unserved(settings)
    changed = spec.changed(settings)
    if changed.max_workers < changed.min_workers:
        message = (
            f"it would be {changed.max_workers}, less than min_workers, which is {changed.min_workers}: "
            "give min_workers, too"
        )
        raise wrong_field("max_workers", message)
    check_rule(Rule.of(changed))
    if both := sorted(set(changed.env or ()) & {variable_of(name) for name in changed.secrets or ()}):
        raise wrong_field(
            "secrets", f"one of them is the variable {both[0]}, which env has too: name it once"
        )
    if settings.max_batch_wait is not None and not changed.max_batch_size:
        raise wrong_field("max_batch_wait", "there is nothing to wait for: give max_batch_size, too")
    return changed


def updated_spec(spec: EndpointSpec, request: UpdateModelEndpointRequest) -> EndpointSpec:
    """Return the specification with what a request gives, and where it says so, defaults for the rest."""
    return changed_spec(EndpointSpec.model_validate(DEFAULTS) if request.reset else spec, request)


def changed_settings(before: EndpointSpec, after: EndpointSpec) -> list[str]:
    """Name the settings that differ."""
    return [name for name in EndpointSpec.model_fields if getattr(before, name) != getattr(after, name)]


def check_rule(rule: Rule | None) -> None:
    """Refuse a rule that could never be broken."""
    if rule is not None and rule.failures > rule.among:
        message = f"it would be {rule.failures}, more than probation_requests, which is {rule.among}"
        raise wrong_field("rollback_after_failures", message)


def needs_new_workers(before: EndpointRecord, spec: EndpointSpec, bundle_id: str) -> bool:
    """Tell whether the running workers can't take the change over."""
    return before.bundle_id != bundle_id or any(
        getattr(before.spec, name) != getattr(spec, name) for name in _NEW_WORKERS
    )


def check_streams(endpoint_type: EndpointType, bundle: BundleRecord) -> None:
    """Refuse a streaming endpoint for an image without a streaming route, and no other for a generator function."""
    kind = bundle.flavor.flavor
    streams = endpoint_type is EndpointType.STREAMING
    if not streams and isinstance(bundle.flavor, ArtifactFlavor) and bundle.flavor.is_generator:
        raise wrong_field(
            "model_bundle_id",
            f"the predict function of the bundle {bundle.name!r} yields its items one by one, which only streaming "
            "endpoints pass on: make the endpoint a streaming one, or let the function return a list",
        )
    if streams and kind in _NO_STREAMS:
        raise wrong_field(
            "model_bundle_id",
            f"the bundle {bundle.name!r} is a {kind}, which does not stream: make it a "
            "streaming_enhanced_runnable_image, or the endpoint sync or async",
        )


def check_batching(spec: EndpointSpec, endpoint_type: EndpointType, bundle: BundleRecord) -> None:
    """Refuse to batch what is not a function that returns: streams, commands and images."""
    if not spec.max_batch_size:
        return
    if endpoint_type is EndpointType.STREAMING:
        raise wrong_field(
            "max_batch_size", "a stream is of one request: batches are for sync and async endpoints"
        )
    kind = bundle.flavor.flavor
    if kind not in _FUNCTIONS:
        raise wrong_field(
            "max_batch_size",
            f"the bundle {bundle.name!r} is a {kind}, whose server gets each request separately: leave "
            "max_batch_size out, or make it 0, and let that server batch",
        )


def check_secrets(spec: EndpointSpec, bundle: BundleRecord, existing: Collection[str]) -> None:
    """Refuse secrets that the owner has not, or that a container engine would take for its own."""
    for name in spec.secrets or ():
        if name not in existing:
            have = f"there are: {', '.join(sorted(existing)[:20])}" if existing else "there are none yet"
            raise wrong_field(
                "secrets",
                f"the secret {name!r} does not exist ({have}): make it with `openlaunch secrets set {name}`",
            )
        if isinstance(bundle.flavor, ImageFlavor) and not is_by_name(variable_of(name)):
            raise wrong_field(
                "secrets",
                f"the container engine itself reads {variable_of(name)}, so an image can't have the secret "
                f"{name!r} there: store it under another name",
            )


def may_predict(endpoint: EndpointRecord, owner: str) -> bool:
    """Tell whether this owner's keys open the endpoint to predictions; public ones are open to every key."""
    return endpoint.owner == owner or bool(endpoint.spec.public_inference)


def _refuse_unserved(settings: EndpointSettings) -> None:
    """Refuse what would be accepted and then not happen."""
    unknown = [hook for hook in settings.post_inference_hooks or () if hook != "callback"]
    if unknown:
        raise wrong_field("post_inference_hooks", f"{unknown[0]!r} is not served, 'callback' is")
    url = settings.default_callback_url
    if url is not None and not is_http_url(url):
        raise wrong_field("default_callback_url", "it is not an http:// or https:// URL")
    for name, reason in _NEVER.items():
        if getattr(settings, name):
            raise wrong_field(name, f"it is true, and {reason}: leave it out, or give false")
    if (nodes := getattr(settings, "nodes_per_worker", 1)) > 1:
        raise wrong_field("nodes_per_worker", f"it is {nodes}, a worker is on 1 node here")


def made_of(kind: type[M], given: dict[str, Any]) -> M:
    """Make what a request leads to. Raise Unprocessable where what it gives does not fit, or not together."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise wrong_field(".".join(map(str, first["loc"])) or "body", said(first)) from None


def wrong_field(field: str, message: str) -> Unprocessable:
    """Return the error for a field of the request."""
    return Unprocessable(
        f"{field}: {message}", errors=[{"loc": ["body", field], "msg": message, "type": "value_error"}]
    )

"""Shows one endpoint."""

from typing import TYPE_CHECKING

from openlaunch.cli.output import emit, fields, when

if TYPE_CHECKING:
    from openlaunch.client.models import ModelEndpoint
    from openlaunch.wire.endpoints import PredictionCounts
    from openlaunch.wire.metrics import Times


def emit_endpoint(endpoint: "ModelEndpoint", as_json: bool) -> None:
    """Print an endpoint with all that is known of it, or its JSON."""
    emit(endpoint, as_json, lambda: _describe(endpoint))


def _describe(endpoint: "ModelEndpoint") -> None:
    deployment, resources = endpoint.deployment_state, endpoint.resource_state
    fields(
        (
            ("name", endpoint.name),
            ("id", endpoint.id),
            ("owner", endpoint.created_by),
            ("public", "yes: every key may predict" if endpoint.public_inference else None),
            ("type", endpoint.endpoint_type.value),
            ("status", endpoint.status.value),
            ("reason", endpoint.status_reason),
            ("bundle", f"{endpoint.bundle_name} ({endpoint.bundle_id})"),
            ("serving", _serving(endpoint)),
            ("canary", _canary(endpoint)),
            ("workers", _workers(endpoint)),
            ("per worker", deployment and _at_a_time(deployment.concurrent_requests_per_worker)),
            ("timeout", endpoint.timeout_seconds and f"{endpoint.timeout_seconds:g} s for a request"),
            ("batches", _batches(endpoint)),
            (
                "resources",
                resources
                and f"{resources.cpus} cpus, {resources.memory}, {resources.gpu_share or resources.gpus} gpus",
            ),
            ("queued", endpoint.num_queued_items),
            ("outcomes", _outcomes(endpoint)),
            ("records", _records(endpoint)),
            ("env", ", ".join(f"{k}={v}" for k, v in (endpoint.env or {}).items()) or None),
            ("secrets", ", ".join(endpoint.secrets or ()) or None),
            ("labels", ", ".join(f"{k}={v}" for k, v in (endpoint.labels or {}).items()) or None),
            ("created", when(endpoint.created_at)),
            ("changed", when(endpoint.last_updated_at)),
        )
    )


def _serving(endpoint: "ModelEndpoint") -> str | None:
    """Return the bundle that gets the traffic, where it is not the one that is wanted."""
    if endpoint.serving_bundle_id in (None, endpoint.bundle_id):
        return None
    return f"{endpoint.serving_bundle_name} ({endpoint.serving_bundle_id})"


def _canary(endpoint: "ModelEndpoint") -> str | None:
    canary = endpoint.canary
    if canary is None:
        return None
    reason = f": {canary.reason}" if canary.reason else ""
    head = f"{canary.bundle_name} ({canary.bundle_id}), {canary.percent} %, {canary.status.value}{reason}"
    sides = [
        f"{name} {side.workers} workers, {side.requests} requests, {side.failures} failed{_ran(side.ran)}"
        for name, side in (("canary", canary.canary), ("endpoint", canary.endpoint))
    ]
    return "\n".join([head, *sides])


def _ran(times: "Times") -> str:
    return f", in the worker p50 {times.p50:.3g} s, p99 {times.p99:.3g} s" if times.count else ""


def _outcomes(endpoint: "ModelEndpoint") -> str | None:
    counts = endpoint.predictions
    if counts is None:
        return None
    windows = (
        ("in the last 5 minutes", counts.last_5_minutes, 300),
        ("in the last hour", counts.last_hour, 3600),
        (f"since {when(counts.since)}", counts.since_deploy, 0),
    )
    return "\n".join(f"{_counted(c, seconds)}, {name}" for name, c, seconds in windows)


def _counted(counts: "PredictionCounts", seconds: int) -> str:
    if not counts.predictions:
        return "0"
    rate = f" ({counts.predictions / seconds:.3g}/s)" if seconds else ""
    return (
        f"{counts.predictions}{rate}, {counts.failures} failed ({counts.failures / counts.predictions:.0%})"
    )


def _records(endpoint: "ModelEndpoint") -> str | None:
    record = endpoint.record
    if record is None or not record.share:
        return None
    return f"{record.share:.4g} of all requests and answers, up to {record.max_bytes} bytes, for {record.days:g} days"


def _at_a_time(requests: int) -> str:
    return "1 request at a time" if requests == 1 else f"{requests} requests at a time"


def _workers(endpoint: "ModelEndpoint") -> str | None:
    state = endpoint.deployment_state
    if state is None:
        return None
    return f"{state.available_workers} ready, {state.min_workers} to {state.max_workers} wanted"


def _batches(endpoint: "ModelEndpoint") -> str | None:
    state = endpoint.deployment_state
    if state is None or state.max_batch_size is None or state.max_batch_wait is None:
        return None
    return f"of up to {state.max_batch_size} requests, waiting up to {state.max_batch_wait * 1000:g} ms"

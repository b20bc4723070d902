"""The span to which a request belongs, for functions whose environment has OpenTelemetry."""

from functools import cache
from importlib import import_module
from typing import Any


def enter_span(traceparent: object) -> None:
    """Make the span that W3C's `traceparent` names the current one of this context, which ends with the request."""
    if (parts := _opentelemetry()) is None:
        return
    context, propagator = parts
    try:
        context.attach(propagator.extract({"traceparent": traceparent}))
    except Exception:  # whatever the version is: a prediction does not fail for its trace
        return


@cache
def _opentelemetry() -> tuple[Any, Any] | None:
    try:
        propagation = import_module("opentelemetry.trace.propagation.tracecontext")
        return import_module("opentelemetry.context"), propagation.TraceContextTextMapPropagator()
    except Exception:  # it is not there, or not whole
        return None

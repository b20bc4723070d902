"""The span of OpenTelemetry within which a program sends a request, where the program uses that."""

import sys
from dataclasses import replace

from openlaunch.client.effects import Request

TRACEPARENT = "traceparent"


def in_current_span(request: Request) -> Request:
    """Return the request with the W3C context of the current span; as it is where there is none, or one is given."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or request.signed or TRACEPARENT in request.headers:
        return request
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return request
    named = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
    return replace(request, headers={**request.headers, TRACEPARENT: named})

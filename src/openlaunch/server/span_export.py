"""How spans are sent: OTLP over HTTP with OpenTelemetry's SDK. Imported only where that is asked for."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

log = logging.getLogger(__name__)

MAX_QUEUED = 4096
"""Spans that wait to be sent; further ones are dropped."""


class ToldOnce(SpanExporter):
    """Sends spans, and says once in the log that the receiver does not take them, until it does again."""

    def __init__(self, exporter: SpanExporter, url: str) -> None:
        self._exporter = exporter
        self._url = url
        self._about = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans; called in the thread of the SDK."""
        try:
            result = self._exporter.export(spans)
        except Exception:
            result = SpanExportResult.FAILURE
        failed = result is not SpanExportResult.SUCCESS
        if failed and not self._about:
            log.warning(
                "the receiver of spans at %s does not take them; they are lost until it does", self._url
            )
        elif self._about and not failed:
            log.info("the receiver of spans at %s takes them again", self._url)
        self._about = failed
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def exporting(
    url: str, version: str, seconds: float
) -> tuple[BatchSpanProcessor, Callable[..., ReadableSpan]]:
    """Return what sends spans to this receiver, and what makes them."""
    for noisy in ("opentelemetry.exporter", "opentelemetry.sdk"):  # a line for each attempt
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    endpoint = url.rstrip("/") + "/v1/traces"
    exporter = ToldOnce(OTLPSpanExporter(endpoint=endpoint, timeout=seconds), url)
    processor = BatchSpanProcessor(exporter, max_queue_size=MAX_QUEUED, schedule_delay_millis=1000)
    resource = Resource.create({"service.name": "openlaunch", "service.version": version})
    return processor, partial(_span, resource, InstrumentationScope("openlaunch", version))


def _span(
    resource: Resource,
    scope: InstrumentationScope,
    *,
    name: str,
    trace_id: int,
    span_id: int,
    parent_id: int | None,
    start: int,
    end: int,
    kind: str,
    attributes: dict[str, Any],
    error: str | None,
) -> ReadableSpan:
    def context(number: int) -> SpanContext:
        return SpanContext(trace_id, number, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))

    parent = None if parent_id is None else context(parent_id)
    # What a task was submitted by has ended long before: a link says so to those who read a span alone.
    links = (Link(parent),) if parent is not None and kind == "CONSUMER" else ()
    return ReadableSpan(
        name=name,
        context=context(span_id),
        parent=parent,
        resource=resource,
        attributes={**attributes, **({} if error is None else {"error.type": error})},
        links=links,
        kind=SpanKind[kind],
        instrumentation_scope=scope,
        status=Status(StatusCode.UNSET if error is None else StatusCode.ERROR),
        start_time=start,
        end_time=end,
    )

"""What the server reports of an endpoint: logs, events, and why it serves or does not."""

from datetime import datetime
from typing import Any

from openlaunch.client.effects import (
    MAX_DOWNLOAD_BYTES,
    Flow,
    Request,
    Response,
    call,
    path_to,
    time_text,
    url_with,
)
from openlaunch.client.models import EndpointLike, answer, got
from openlaunch.client.operations.endpoints import resolved
from openlaunch.wire import routes
from openlaunch.wire.endpoints import LogsResponse
from openlaunch.wire.events import ListEventsResponse
from openlaunch.wire.metrics import (
    EndpointMetricsResponse,
    EndpointSummary,
    MetricsRange,
    MetricsSummaryResponse,
)
from openlaunch.wire.why import EndpointWhy
from openlaunch.wire.workers import ListWorkersResponse, WorkerResponse

LOG_SILENCE_SECONDS = 60.0
"""The server sends something more often than that, however quiet the workers are."""


def read_endpoint_creation_logs(model_endpoint: EndpointLike) -> Flow[str]:
    """Read the log of the builds of the endpoint's environment and of its workers' starts."""
    endpoint = yield from resolved(model_endpoint)
    url = path_to(routes.CREATION_LOGS, f"{endpoint.created_by}/{endpoint.name}")
    return (yield from got(LogsResponse, url)).content


def read_endpoint_logs(
    model_endpoint: EndpointLike,
    tail: int | None = None,
    *,
    lines: int | None = None,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    timestamps: bool = False,
) -> Flow[str]:
    """Read the logs of the endpoint's workers, newest lines last.

    Args:
        model_endpoint: the endpoint, or its name.
        tail: at most this many bytes; None: about 64 KiB.
        lines: at most this many lines.
        since: leave out what was written earlier: a point in time, or how long ago, such as "10m" or "2h".
        until: leave out what was written later, to page back.
        timestamps: begin each line with the time at which it was written.
    """
    endpoint = yield from resolved(model_endpoint)
    chosen = {
        **_log_part(tail, lines, since),
        "until": time_text(until),
        "timestamps": "true" if timestamps else None,
    }
    url = url_with(path_to(routes.ENDPOINTS, endpoint.id, "logs"), chosen)
    return (yield from got(LogsResponse, url)).content


def _log_part(tail: int | None, lines: int | None, since: str | datetime | None) -> dict[str, Any]:
    return {"tail_bytes": tail, "tail_lines": lines, "since": time_text(since)}


def follow_endpoint_logs(
    model_endpoint: EndpointLike,
    tail: int | None = None,
    *,
    lines: int | None = None,
    since: str | datetime | None = None,
) -> Flow[Response]:
    """Follow the log lines of all the endpoint's workers, including later ones.

    Args:
        model_endpoint: the endpoint, or its name.
        tail: begin with the last lines written before, at most this many bytes of them; None: about 64 KiB.
        lines: at most this many of those.
        since: of those, leave out what was written before this, as for `read_endpoint_logs`.

    Raises:
        NotFound: there is none of this name.
        TooManyRequests: the server has as many followers as it takes.
    """
    endpoint = yield from resolved(model_endpoint)
    chosen = {"follow": "true", **_log_part(tail, lines, since)}
    url = url_with(path_to(routes.ENDPOINTS, endpoint.id, "logs"), chosen)
    return (yield from call(Request("GET", url, idempotent=True, stream=True, timeout=LOG_SILENCE_SECONDS)))


def read_recordings(
    model_endpoint: EndpointLike,
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
) -> Flow[bytes]:
    """Read what was recorded of the endpoint's requests and answers, oldest first: JSON lines.

    Args:
        model_endpoint: the endpoint, or its name.
        since: leave out what came earlier: a point in time, or how long ago, such as "10m" or "2h".
        until: leave out what came later.

    Raises:
        NotFound: there is none of this name.
    """
    endpoint = yield from resolved(model_endpoint)
    chosen = {"since": time_text(since), "until": time_text(until)}
    url = url_with(path_to(routes.ENDPOINTS, endpoint.id, "recordings"), chosen)
    return (yield from call(Request("GET", url, idempotent=True, max_bytes=MAX_DOWNLOAD_BYTES))).body


def list_endpoint_events(
    model_endpoint: EndpointLike, after: str = "0", *, wait: float = 0, limit: int | None = None
) -> Flow[ListEventsResponse]:
    """List what has happened to the endpoint, oldest first: builds, starts and ends of workers, scaling, roll-outs.

    Args:
        model_endpoint: the endpoint, or its name.
        after: the `cursor` of an earlier answer: only events since then, or that have happened again.
        wait: seconds, at most 60, for which the answer is held until there is a new event.
        limit: the most events to give, the latest; None: as many as the server gives at a time.

    Raises:
        NotFound: there is none of this name.
    """
    endpoint = yield from resolved(model_endpoint)
    query = {"after": after, "wait": wait or None, "limit": limit}
    url = url_with(path_to(routes.ENDPOINTS, endpoint.id, "events"), query)
    request = Request("GET", url, idempotent=True, timeout=wait + LOG_SILENCE_SECONDS)
    return (yield from answer(ListEventsResponse, request))


def get_endpoint_metrics(
    model_endpoint: EndpointLike, last: MetricsRange | str = MetricsRange.HOUR
) -> Flow[EndpointMetricsResponse]:
    """Get how the endpoint's predictions ended and how long they took, over a time.

    Args:
        model_endpoint: the endpoint, or its name.
        last: "1h" by 5 seconds, "24h" by minutes, or "14d" by 15 minutes.

    Raises:
        NotFound: there is none of this name.
        Unprocessable: there is no such range.
    """
    endpoint = yield from resolved(model_endpoint)
    url = url_with(path_to(routes.ENDPOINTS, endpoint.id, "metrics"), {"range": str(last)})
    return (yield from got(EndpointMetricsResponse, url))


def list_endpoint_workers(model_endpoint: EndpointLike) -> Flow[list[WorkerResponse]]:
    """List the workers of an endpoint: where each stands and since when, what it runs, and on which node."""
    endpoint = yield from resolved(model_endpoint)
    return (yield from got(ListWorkersResponse, path_to(routes.ENDPOINTS, endpoint.id, "workers"))).workers


def list_metrics() -> Flow[list[EndpointSummary]]:
    """List the last minute of your endpoints, those with failures and with trouble first."""
    return (yield from got(MetricsSummaryResponse, routes.METRICS_SUMMARY)).endpoints


def explain_endpoint(model_endpoint: EndpointLike) -> Flow[EndpointWhy]:
    """Explain why the endpoint serves or does not: what it waits for, what fails, and when the next attempt is.

    Raises:
        NotFound: there is none of this name.
    """
    endpoint = yield from resolved(model_endpoint)
    return (yield from got(EndpointWhy, path_to(routes.ENDPOINTS, endpoint.id, "why")))

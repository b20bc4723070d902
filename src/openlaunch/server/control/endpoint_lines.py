"""What `/metrics` shows of endpoints, as lines.

prometheus-client takes 10 to 20 µs for each line, and so several seconds for 1,000 endpoints, which have 90,000; this
takes a hundredth of that. It writes the same for both formats, but for the names in the TYPE of counters.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from openlaunch.server.metrics.counts import LABELS, EndpointCounts, Exemplar, PredictionCounts
from openlaunch.server.metrics.histograms import SECONDS, SIZES, Histogram
from openlaunch.server.metrics.models import DURATION, FIRST_TOKEN, PER_TOKEN, TOKENS, ModelCounts
from openlaunch.wire.events import EventKind
from openlaunch.wire.workers import WorkerEnd

_BOUNDS: dict[tuple[float, ...], list[str]] = {
    bounds: [*(f'le="{float(bound)}"' for bound in bounds), 'le="+Inf"']
    for bounds in (SECONDS, SIZES, DURATION, FIRST_TOKEN, PER_TOKEN, TOKENS)
}
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointNow:
    """An endpoint at the moment of a scrape. `oldest` is how long its oldest task has waited; None: none waits."""

    name: str
    owner: str
    status: str
    counts: EndpointCounts
    waiting: int
    running: int
    queued: int
    ready: int
    starting: int
    oldest: float | None
    troubles: Sequence[tuple[str, float]] = ()
    """Kinds of what is wrong, and since when, in seconds since 1970."""
    generations: Mapping[int, PredictionCounts] = field(default_factory=dict)
    """Counts of the generations that have workers now, while a canary or a roll-out runs; else none."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """An endpoint, with its labels as they are written, and the counts of all its generations."""

    now: EndpointNow
    labels: str
    total: PredictionCounts

    @classmethod
    def of(cls, now: EndpointNow) -> "_Shown":
        labels = f'endpoint="{now.name.translate(_ESCAPES)}",owner="{now.owner.translate(_ESCAPES)}"'
        return cls(now, labels, now.counts.total())


_SEEN_AT_ONCE = {EventKind.WORKER_CRASHED.value: 0, EventKind.WORKER_FAILED.value: 0}
"""Events that are shown before the first one: Prometheus can't see that what begins with 1 has grown."""

_FIRST_ENDS = dict.fromkeys((WorkerEnd.OUT_OF_MEMORY.value, WorkerEnd.KILLED.value), 0)
"""Ends of workers that are shown before the first one, for the same reason as `_SEEN_AT_ONCE`."""

Value = Callable[[_Shown], float]
Labelled = Callable[[_Shown], Iterable[tuple[object, float]]]

_GAUGES: dict[str, tuple[str, Value]] = {
    "predictions_waiting": ("Requests and tasks that wait for a worker.", lambda e: e.now.waiting),
    "predictions_running": ("Requests and tasks in workers.", lambda e: e.now.running),
    "queue_tasks": ("Tasks that wait in the durable queue.", lambda e: e.now.queued),
    "queue_oldest_task_seconds": (
        "How long the oldest waiting task has waited; 0: none waits.",
        lambda e: e.now.oldest or 0,
    ),
}
_LABELLED_GAUGES: dict[str, tuple[str, str, Labelled]] = {
    "endpoint_status": ("The status of an endpoint, always 1.", "status", lambda e: [(e.now.status, 1)]),
    "endpoint_trouble_since_seconds": (
        "Since when something is wrong with an endpoint, by the kind of its event, in seconds since 1970.",
        "kind",
        lambda e: e.now.troubles,
    ),
    "workers": (
        "Workers by state: ready, or starting.",
        "state",
        lambda e: [("ready", e.now.ready), ("starting", e.now.starting)],
    ),
}
_COUNTERS: dict[str, tuple[str, Value]] = {
    "prediction_request_bytes": ("Bytes of inputs.", lambda e: e.total.request_bytes),
    "prediction_response_bytes": ("Bytes of results.", lambda e: e.total.response_bytes),
    "stream_resumes": ("Streams that were resumed.", lambda e: e.total.resumes),
    "tasks_submitted": ("Tasks that were submitted.", lambda e: e.now.counts.submitted),
    "task_retries": ("Attempts at tasks after the first one.", lambda e: e.now.counts.retries),
    "gpu_swaps": ("Workers given up for others that waited for GPUs.", lambda e: e.now.counts.swaps),
    "task_dead_letters": ("Tasks that failed by their last attempt.", lambda e: e.now.counts.dead_letters),
}


def _tokens(e: _Shown) -> list[tuple[str, int]]:
    """Return the tokens of an endpoint by type; nothing where none were used."""
    total = e.total
    if not total.input_tokens + total.output_tokens:
        return []
    return [("input", total.input_tokens), ("output", total.output_tokens), ("cached", total.cached_tokens)]


_LABELLED_COUNTERS: dict[str, tuple[str, str, Labelled]] = {
    "predictions": (
        "Predictions that ended, by their outcome.",
        "outcome",
        lambda e: zip(LABELS, e.total.ended, strict=True),
    ),
    "gen_ai_tokens": (
        "Tokens of language models; cached ones are of the input.",
        "gen_ai_token_type",
        _tokens,
    ),
    "endpoint_events": (
        "What has happened to an endpoint, by kind.",
        "kind",
        lambda e: sorted({**_SEEN_AT_ONCE, **e.now.counts.events}.items()),
    ),
    "worker_ends": (
        "Workers whose processes have ended, by why.",
        "reason",
        lambda e: sorted({**_FIRST_ENDS, **e.now.counts.ends}.items()),
    ),
}
_HISTOGRAMS: dict[str, tuple[str, Callable[[_Shown], Histogram]]] = {
    "prediction_duration_seconds": ("Wait and run of predictions.", lambda e: e.total.whole),
    "prediction_wait_seconds": ("Wait of predictions for a worker.", lambda e: e.total.waited),
    "prediction_run_seconds": ("Predictions in their workers.", lambda e: e.total.ran),
    "stream_first_item_seconds": ("Streams until their first item.", lambda e: e.total.first_item),
    "stream_gap_seconds": ("Between what came together of streams.", lambda e: e.total.gaps),
    "gpu_wait_seconds": (
        "Wait for the GPUs of a worker that then started.",
        lambda e: e.now.counts.gpu_waits,
    ),
    "batch_predictions": ("How many predictions a batch had.", lambda e: e.total.batches),
}
_MODEL_HISTOGRAMS: dict[str, tuple[str, Callable[[ModelCounts], Iterable[tuple[str, Histogram]]]]] = {
    "gen_ai_server_request_duration_seconds": (
        "Requests of language models: wait and run.",
        lambda m: [(f',error_type="{e}"' if e else "", h) for e, h in sorted(m.durations.items())],
    ),
    "gen_ai_server_time_to_first_token_seconds": (
        "Streams of language models until their first token.",
        lambda m: [("", m.first_token)],
    ),
    "gen_ai_server_time_per_output_token_seconds": (
        "Streams of language models: time by token after the first one.",
        lambda m: [("", m.per_token)],
    ),
    "gen_ai_client_token_usage": (
        "Tokens of requests of language models.",
        lambda m: [(',gen_ai_token_type="input"', m.input), (',gen_ai_token_type="output"', m.output)],
    ),
}
"""By OpenTelemetry's names for generative AI, which dashboards for models look for."""

_EXEMPLIFIED = "prediction_duration_seconds"
_PARTS: dict[str, Callable[[EndpointCounts], Histogram]] = {
    "environment": lambda counts: counts.build_seconds,
    "process": lambda counts: counts.process_seconds,
    "load": lambda counts: counts.load_seconds,
}


def lines(endpoints: Sequence[EndpointNow], *, openmetrics: bool) -> Iterator[str]:
    """Yield the lines of all endpoints. Called in a thread: it only reads."""
    shown = [_Shown.of(endpoint) for endpoint in endpoints]
    for name, (text, value) in _GAUGES.items():
        yield _head(name, "gauge", text)
        yield from (f"openlaunch_{name}{{{e.labels}}} {value(e)}" for e in shown)
    for name, (text, label, values) in _LABELLED_GAUGES.items():
        yield _head(name, "gauge", text)
        yield from _labelled(name, label, values, shown)
    for name, (text, value) in _COUNTERS.items():
        yield _head(name if openmetrics else f"{name}_total", "counter", text)
        yield from (f"openlaunch_{name}_total{{{e.labels}}} {value(e)}" for e in shown)
    for name, (text, label, values) in _LABELLED_COUNTERS.items():
        yield _head(name if openmetrics else f"{name}_total", "counter", text)
        yield from _labelled(f"{name}_total", label, values, shown)
    yield from _of_generations(shown, openmetrics=openmetrics)
    for name, (text, histogram) in _HISTOGRAMS.items():
        yield _head(name, "histogram", text)
        for each in shown:
            exemplars = each.total.exemplars if openmetrics and name == _EXEMPLIFIED else {}
            yield from _buckets(f"openlaunch_{name}", each.labels, histogram(each), exemplars)
    yield from _of_models(shown)
    yield _head("cold_start_seconds", "summary", "Parts of the starts of workers.")
    for each in shown:
        for part, measured in _PARTS.items():
            labels = f'{{{each.labels},part="{part}"}}'
            yield f"openlaunch_cold_start_seconds_count{labels} {sum(measured(each.now.counts).counts)}"
            yield f"openlaunch_cold_start_seconds_sum{labels} {measured(each.now.counts).sum}"


def _head(name: str, kind: str, text: str) -> str:
    return f"# HELP openlaunch_{name} {text}\n# TYPE openlaunch_{name} {kind}"


def _labelled(name: str, label: str, values: Labelled, shown: Iterable[_Shown]) -> Iterator[str]:
    for each in shown:
        for named, value in values(each):
            yield f'openlaunch_{name}{{{each.labels},{label}="{named}"}} {value}'


def _of_generations(shown: Iterable[_Shown], *, openmetrics: bool) -> Iterator[str]:
    name = "generation_predictions"
    yield _head(
        name if openmetrics else f"{name}_total", "counter", "Predictions while a canary or roll-out runs."
    )
    for each in shown:
        for generation, counts in sorted(each.now.generations.items()):
            labels = f'{each.labels},generation="{generation}"'
            for outcome, count in zip(LABELS, counts.ended, strict=True):
                yield f'openlaunch_{name}_total{{{labels},outcome="{outcome}"}} {count}'


def _of_models(shown: Sequence[_Shown]) -> Iterator[str]:
    for name, (text, histograms) in _MODEL_HISTOGRAMS.items():
        yield f"# HELP {name} {text}\n# TYPE {name} histogram"
        for each in shown:
            for operation, counts in sorted(each.total.models.items()):
                labels = f'{each.labels},gen_ai_operation_name="{operation}",{_model_labels(each)}'
                for more, histogram in histograms(counts):
                    yield from _buckets(name, labels + more, histogram, {})


def _model_labels(e: _Shown) -> str:
    return f'gen_ai_provider_name="openlaunch",gen_ai_request_model="{e.now.name.translate(_ESCAPES)}"'


def _buckets(
    name: str, labels: str, histogram: Histogram, exemplars: Mapping[int, Exemplar]
) -> Iterator[str]:
    """Yield the lines of a histogram, unless it is empty, as most are of most endpoints."""
    if not any(histogram.counts):
        return
    count = 0
    for index, (bound, count) in enumerate(
        zip(_BOUNDS[histogram.bounds], accumulate(histogram.counts), strict=True)
    ):
        line = f"{name}_bucket{{{labels},{bound}}} {count}"
        if (traced := exemplars.get(index)) is not None:
            line += f' # {{trace_id="{traced.trace_id:032x}"}} {traced.seconds:.6f} {traced.at:.3f}'
        yield line
    yield f"{name}_count{{{labels}}} {count}"
    yield f"{name}_sum{{{labels}}} {histogram.sum}"

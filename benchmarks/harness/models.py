"""Language models: what a server in front of an engine costs, beside the engine asked directly."""

import contextlib
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import psutil

from benchmarks.harness.environments import environment, versions
from benchmarks.harness.measure import PORT, REFERENCE_PORT, Length
from benchmarks.harness.processes import Running, System, running
from benchmarks.harness.streams import StreamLoad, stream_load
from benchmarks.harness.systems import REFERENCE, openlaunch

STREAMS = 64
TOKENS = 100
EVENTS = TOKENS + 2
"""The tokens of a stream, its usage, and its end."""

STEP_MS = 10


def body(step_ms: int) -> bytes:
    """A request for a stream with a token each `step_ms`."""
    return json.dumps(
        {
            "model": "bench",
            "messages": [{"role": "user", "content": "hello there"}],
            "max_tokens": TOKENS,
            "seed": step_ms,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()


_ASKED = {"path": "/v1/chat/completions", "body": body(1), "expect": b"[DONE]"}
ENGINE = System(
    "models",
    "the engine, asked directly",
    ("uvloop",),
    ("uvloop",),
    ("{bin}/python", "engine.py"),
    env={"PORT": "{port}"},
    **_ASKED,
)
OURS = replace(openlaunch("models", "**Openlaunch**"), **_ASKED)
ROUTER = System(
    "vllm-router",
    "vllm-router (Rust), which starts no engines",
    ("vllm-router",),
    ("vllm-router",),
    (
        *("{bin}/python", "-m", "vllm_router.launch_router", "--host", "127.0.0.1", "--port", "{port}"),
        *(
            "--worker-urls",
            f"http://127.0.0.1:{REFERENCE_PORT}",
            "--prometheus-port",
            "8109",
            "--log-level",
            "error",
        ),
    ),
    env={"PYTHONPATH": ""},
    **_ASKED,
)


@dataclass(frozen=True)
class ModelRow:
    """Medians of one system.

    Tokens a second of 64 streams of 100 each, their share of the engine's, and the same where a token comes each
    millisecond; microseconds of CPU a token between client and engine; milliseconds to the first token on top of the
    engine's, of one stream and of 64 that begin at once.
    """

    label: str
    rate: float
    share: float
    share_low: float
    share_high: float
    full_rate: float
    full_share: float
    cpu_us: float
    full_cpu_us: float
    first_one: float
    added_one: float
    first_many: float
    added_many: float
    first_many_p99: float


@dataclass(frozen=True)
class _Seen:
    load: StreamLoad
    cpu_us: float


def _between(system: Running) -> float:
    """CPU seconds of all its processes but the engine."""
    total = 0.0
    for process in system.processes():
        with contextlib.suppress(psutil.Error):
            if not any(part.endswith("engine.py") for part in process.cmdline()):
                times = process.cpu_times()
                total += times.user + times.system
    return total


def _see(system: Running, streams: int, step_ms: int, seconds: float) -> _Seen:
    asked = replace(system, system=replace(system.system, body=body(step_ms)))
    before = _between(system)
    seen = stream_load(asked, streams, seconds, EVENTS)
    return _Seen(seen, 1e6 * (_between(system) - before) / seen.total)


def models(length: Length) -> list[dict[str, object]]:
    """64 streams of 100 tokens a second, and as fast as they come; and one after the other."""
    environment(REFERENCE.name, REFERENCE.requirements)  # for the client of the load
    rows = []
    with running(ENGINE, REFERENCE_PORT) as engine:
        for system in (ENGINE, OURS, ROUTER):
            with running(system, PORT) as found:
                row = _row(system, length, lambda streams, step: _pair(engine, found, streams, step, length))
            print(
                f"  {row.label}: {row.rate:,.0f} tokens/s, {row.share:.3f} of the engine's, "
                f"{row.cpu_us:.0f} µs a token, first token +{row.added_one:.2f} and +{row.added_many:.1f} ms; "
                f"as fast as they come {row.full_share:.3f} of the engine's, {row.full_cpu_us:.0f} µs a token",
                flush=True,
            )
            rows.append(asdict(row) | {"versions": versions(system.name, system.packages)})
    return rows


def _pair(engine: Running, found: Running, streams: int, step_ms: int, length: Length) -> tuple[_Seen, _Seen]:
    return tuple(_see(one, streams, step_ms, length.seconds) for one in (engine, found))  # type: ignore[return-value]


def _row(system: System, length: Length, pair: Callable[[int, int], tuple[_Seen, _Seen]]) -> ModelRow:
    usual, full, alone = [], [], []
    for _ in range(length.rounds):
        usual.append(pair(STREAMS, STEP_MS))
        full.append(pair(STREAMS, 1))
        alone.append(pair(1, 1))
    shares = [seen.load.rate / direct.load.rate for direct, seen in usual]
    return ModelRow(
        label=system.label,
        rate=statistics.median(seen.load.rate for _, seen in usual) * TOKENS / EVENTS,
        share=statistics.median(shares),
        share_low=min(shares),
        share_high=max(shares),
        full_rate=statistics.median(seen.load.rate for _, seen in full) * TOKENS / EVENTS,
        full_share=statistics.median(seen.load.rate / direct.load.rate for direct, seen in full),
        cpu_us=statistics.median(seen.cpu_us for _, seen in usual),
        full_cpu_us=statistics.median(seen.cpu_us for _, seen in full),
        first_one=statistics.median(seen.load.first_p50 for _, seen in alone),
        added_one=statistics.median(seen.load.first_p50 - direct.load.first_p50 for direct, seen in alone),
        first_many=statistics.median(seen.load.first_p50 for _, seen in usual),
        added_many=statistics.median(seen.load.first_p50 - direct.load.first_p50 for direct, seen in usual),
        first_many_p99=statistics.median(seen.load.first_p99 for _, seen in usual),
    )

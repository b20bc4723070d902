"""The measurements: each system beside the reference, in turns, so that a machine that drifts does not decide."""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from benchmarks.harness.environments import versions
from benchmarks.harness.processes import System, running
from benchmarks.harness.streams import stream_load
from benchmarks.harness.systems import REFERENCE_STREAM
from benchmarks.harness.wrk import load

REFERENCE_PORT, PORT = 8101, 8102
CONNECTIONS = 32
STREAMS = 16


@dataclass(frozen=True)
class Length:
    """How long each slice is, in whole seconds, and how many there are."""

    seconds: int = 3
    rounds: int = 5


@dataclass(frozen=True)
class SyncRow:
    """Medians of one system: requests a second, its share of the reference's, and times in milliseconds.

    `p50` and `p99` are of one connection, `p99_loaded` of all of them.
    """

    label: str
    rate: float
    share: float
    share_low: float
    share_high: float
    cpu_us: float
    p50: float
    p50_ratio: float
    p99: float
    p99_ratio: float
    p99_loaded: float
    memory_mib: float
    processes: int
    start_seconds: float


def sync(against: System, systems: Iterable[System], length: Length) -> list[dict[str, object]]:
    """Requests as fast as they are answered over 32 connections, and one after the other over one."""
    rows = []
    with running(against, REFERENCE_PORT) as reference:
        for system in (against, *systems):
            with running(system, PORT) as found:
                for one in (reference, found):
                    load(one, CONNECTIONS, 1)
                shares, loads, singles = [], [], []
                for _ in range(length.rounds):
                    beside = load(reference, CONNECTIONS, length.seconds)
                    seen = load(found, CONNECTIONS, length.seconds)
                    loads.append(seen)
                    shares.append(seen.rate / beside.rate)
                    singles.append(
                        (
                            load(reference, 1, max(1, length.seconds // 2)),
                            load(found, 1, max(1, length.seconds // 2)),
                        )
                    )
                memory = found.memory()
                row = SyncRow(
                    label=system.label,
                    rate=statistics.median(seen.rate for seen in loads),
                    share=statistics.median(shares),
                    share_low=min(shares),
                    share_high=max(shares),
                    cpu_us=statistics.median(seen.server_cpu_us for seen in loads),
                    p50=statistics.median(seen.p50 for _, seen in singles),
                    p50_ratio=statistics.median(seen.p50 / beside.p50 for beside, seen in singles),
                    p99=statistics.median(seen.p99 for _, seen in singles),
                    p99_ratio=statistics.median(seen.p99 / beside.p99 for beside, seen in singles),
                    p99_loaded=statistics.median(seen.p99 for seen in loads),
                    memory_mib=sum(memory.values()),
                    processes=len(memory),
                    start_seconds=found.start_seconds,
                )
            print(f"  {row.label}: {row.rate:,.0f}/s, {row.share:.3f} of the reference", flush=True)
            rows.append(asdict(row) | {"versions": versions(system.name, system.packages)})
    return rows


@dataclass(frozen=True)
class StreamRow:
    """Medians of one system: chunks a second, their share of the reference's, milliseconds to the first chunk."""

    label: str
    rate: float
    share: float
    share_low: float
    share_high: float
    first_p50: float
    first_ratio: float
    first_p99: float


def streams(systems: Iterable[System], length: Length) -> list[dict[str, object]]:
    """Streams of 100 chunks, 16 at once; and one after the other, for the time to the first chunk."""
    rows = []
    with running(REFERENCE_STREAM, REFERENCE_PORT) as reference:
        for system in (REFERENCE_STREAM, *systems):
            with running(system, PORT) as found:
                pairs, singles = [], []
                for _ in range(length.rounds):
                    pairs.append(
                        (
                            stream_load(reference, STREAMS, length.seconds),
                            stream_load(found, STREAMS, length.seconds),
                        )
                    )
                    singles.append(
                        (
                            stream_load(reference, 1, max(1, length.seconds // 2)),
                            stream_load(found, 1, max(1, length.seconds // 2)),
                        )
                    )
                shares = [seen.rate / beside.rate for beside, seen in pairs]
                row = StreamRow(
                    label=system.label,
                    rate=statistics.median(seen.rate for _, seen in pairs),
                    share=statistics.median(shares),
                    share_low=min(shares),
                    share_high=max(shares),
                    first_p50=statistics.median(seen.first_p50 for _, seen in singles),
                    first_ratio=statistics.median(
                        seen.first_p50 / beside.first_p50 for beside, seen in singles
                    ),
                    first_p99=statistics.median(seen.first_p99 for _, seen in singles),
                )
            print(f"  {row.label}: {row.rate:,.0f} chunks/s, {row.share:.3f} of the reference", flush=True)
            rows.append(asdict(row) | {"versions": versions(system.name, system.packages)})
    return rows

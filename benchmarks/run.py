"""`make bench`: measures this project and its peers side by side, and writes RESULTS.md and results.svg.

`run.py [--short] [SECTION …]`; a section that is not named keeps its figures of the last full run.
"""

import argparse
import json
import os
import resource
import subprocess

from benchmarks.harness import measure, report
from benchmarks.harness.environments import ROOT, WORK, environment
from benchmarks.harness.models import models
from benchmarks.harness.processes import System, running
from benchmarks.harness.queues import on_postgres, queues
from benchmarks.harness.systems import (
    FAULTS,
    MODEL,
    MODEL_REFERENCE,
    OURS,
    REFERENCE,
    STREAMING,
    SYNC,
)


def _ours(script: str, *arguments: str, env: dict[str, str] | None = None, system: System = OURS) -> object:
    """What a script of openlaunch/ measures, in the environment of a system."""
    python = environment(system.name, system.requirements) / "python"
    command = [str(python), str(ROOT / "benchmarks" / "openlaunch" / script), *arguments]
    done = subprocess.run(
        command, env={**os.environ, **(env or {})}, check=True, stdout=subprocess.PIPE, text=True, timeout=900
    )
    return json.loads(done.stdout.splitlines()[-1])


def _sync(short: bool) -> object:
    return measure.sync(REFERENCE, SYNC, measure.Length(1, 1) if short else measure.Length(3, 3))


def _model(short: bool) -> object:
    return measure.sync(MODEL_REFERENCE, MODEL, measure.Length(2, 1) if short else measure.Length(4, 3))


def _streams(short: bool) -> object:
    return measure.streams(STREAMING, measure.Length(1, 1) if short else measure.Length(2, 3))


def _models(short: bool) -> object:
    return models(measure.Length(2, 1) if short else measure.Length(3, 5))


def _queues(short: bool) -> object:
    return queues(2000 if short else 10_000, 1 if short else 3)


def _postgres(short: bool) -> object:
    return on_postgres(2000 if short else 10_000, 1 if short else 3)


def _clients(short: bool) -> object:
    with (
        running(REFERENCE, measure.REFERENCE_PORT) as reference,
        running(OURS, measure.PORT) as found,
    ):
        headers = "\n".join(f"{name}: {value}" for name, value in found.headers.items())
        env = {"BENCH_URL": found.url, "BENCH_HEADERS": headers, "BENCH_REFERENCE": reference.url}
        return _ours("round_trips.py", "1" if short else "3", env=env)


def _starts(short: bool) -> object:
    return _ours("cold_starts.py", "4" if short else "20")


def _growth(short: bool) -> object:
    # A client of 2,000 streams has as many connections.
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 10_000), hard), hard))
    return _ours("growth.py", *(("10", "4", "10000", "100") if short else ("1000", "64", "1000000", "2000")))


def _nodes(short: bool) -> object:
    seen = _ours("nodes.py", "2" if short else "10", env={"PYTHONPATH": str(ROOT)}, system=FAULTS)
    assert isinstance(seen, dict)
    actors = _ours("../ray/actors.py", "3" if short else "10", env=FAULTS.env, system=FAULTS)
    return {**seen, "actors": actors}


def _faults(short: bool) -> object:
    return _ours("faults.py", "5" if short else "15", env={"PYTHONPATH": str(ROOT)}, system=FAULTS)


SECTIONS = {
    "sync": _sync,
    "model": _model,
    "streams": _streams,
    "models": _models,
    "queues": _queues,
    "postgres": _postgres,
    "clients": _clients,
    "starts": _starts,
    "growth": _growth,
    "nodes": _nodes,
    "faults": _faults,
}


def main() -> None:
    os.environ.setdefault("OPENLAUNCH_ISOLATION", "auto")  # as servers have it that are not private
    parser = argparse.ArgumentParser(description="Measure, and write benchmarks/RESULTS.md.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--short", action="store_true", help="a few seconds each, and nothing is written")
    given = parser.parse_args()
    if unknown := sorted(set(given.sections) - set(SECTIONS)):
        parser.error(f"no such section: {', '.join(unknown)}. There are {', '.join(SECTIONS)}.")
    WORK.mkdir(exist_ok=True)
    results = report.load()
    for name in given.sections or SECTIONS:
        print(f"{name}:", flush=True)
        results[name] = SECTIONS[name](given.short)
        if given.short:
            print(f"  {json.dumps(results[name])}", flush=True)
        else:
            report.save(results)


if __name__ == "__main__":
    main()

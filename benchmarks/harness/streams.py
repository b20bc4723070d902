"""Load of streams, from a process of its own."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.environments import WORK
from benchmarks.harness.processes import Running

PYTHON = WORK / "venvs" / "reference" / "bin" / "python"


@dataclass(frozen=True)
class StreamLoad:
    """Chunks a second of all streams, and milliseconds to the first chunk of one; `total` is all."""

    rate: float
    total: int
    first_p50: float
    first_p99: float


def stream_load(system: Running, streams: int, seconds: float, chunks: int = 100) -> StreamLoad:
    """So many streams at once, each followed by another. Raises RuntimeError where chunks are missing."""
    env = {
        **os.environ,
        "BENCH_URL": system.url,
        "BENCH_BODY": system.system.body.decode(),
        "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in system.headers.items()),
    }
    script = Path(__file__).with_name("stream_client.py")
    command = [PYTHON, script, str(streams), str(seconds)]
    printed = subprocess.run(
        command, env=env, check=True, capture_output=True, text=True, timeout=seconds + 60
    ).stdout
    seen = json.loads(printed)
    if seen["chunks"] != [chunks, chunks]:
        raise RuntimeError(f"{system.system.label}: streams had {seen['chunks']} chunks, not {chunks}")
    return StreamLoad(seen["rate"], seen["total"], seen["first_p50"], seen["first_p99"])

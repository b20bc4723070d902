"""Load from wrk: one thread, keep-alive connections, latencies in milliseconds."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.processes import Running

SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Load:
    """What one run of wrk saw."""

    rate: float
    p50: float
    p99: float
    errors: int
    server_cpu_us: float


def load(system: Running, connections: int, seconds: int, body: bytes | None = None) -> Load:
    """Requests as fast as they are answered, for this many seconds. Raises RuntimeError where some failed."""
    before = system.cpu_seconds()
    seen = sent(system.url, system.headers, body or system.system.body, connections, seconds)
    spent = system.cpu_seconds() - before
    return Load(
        rate=seen["requests"] / seen["seconds"],
        p50=seen["p50_us"] / 1000,
        p99=seen["p99_us"] / 1000,
        errors=int(seen["errors"]),
        server_cpu_us=spent / max(1, seen["requests"]) * 1e6,
    )


def sent(
    url: str, headers: Mapping[str, str], body: bytes, connections: int, seconds: int
) -> dict[str, float]:
    """What post.lua saw of such requests to a URL. Raises RuntimeError where some failed."""
    env = {**os.environ, "BENCH_BODY": body.decode()}
    env["BENCH_HEADERS"] = "\n".join(f"{name}: {value}" for name, value in headers.items())
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    printed = subprocess.run(
        [*command, "-s", str(SCRIPT), url],
        env=env,
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    ).stdout
    line = re.search(r"^result (.*)$", printed, re.MULTILINE)
    assert line is not None, printed
    seen: dict[str, float] = json.loads(line[1])
    if seen["errors"]:
        raise RuntimeError(f"{url}: {seen['errors']} of {seen['requests']} requests failed")
    return seen

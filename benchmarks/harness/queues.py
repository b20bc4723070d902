"""Durable queues: tasks a second until every result is known, and the idle round trip."""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from tests.contract.postgres_server import PostgresServer

from benchmarks.harness.environments import ROOT, WORK, environment, versions
from benchmarks.harness.measure import PORT
from benchmarks.harness.processes import running
from benchmarks.harness.systems import openlaunch

REQUIREMENTS = ("celery[redis]", "dramatiq[redis]", "huey", "saq[redis]", "taskiq<0.12", "taskiq-redis")
POSTGRES_REQUIREMENTS = ("pgqueuer[asyncpg]", "procrastinate", "psycopg[binary]", "saq[postgres]")
FOLDER = ROOT / "benchmarks" / "queues"
REDIS_PORT = 6399
WORKER_SECONDS = 2.5


@dataclass(frozen=True)
class Peer:
    """A queue: its module here, its worker's command, and how many idle round trips are timed."""

    label: str
    package: str
    command: tuple[str, ...]
    round_trips: int = 200
    prepare: tuple[str, ...] = ()
    """The command that makes its tables, where its worker does not."""
    share: int = 1
    """It gets one task of so many: a slow one would take minutes."""

    @property
    def module(self) -> str:
        """The module with its task."""
        return f"{self.package}_tasks"


PEERS = (
    Peer(
        "Celery, Redis",
        "celery",
        ("celery", "-A", "celery_tasks", "worker", "-c", "2", "--loglevel", "ERROR"),
    ),
    Peer("Dramatiq, Redis", "dramatiq", ("dramatiq", "dramatiq_tasks", "-p", "1", "-t", "8")),
    Peer("SAQ, Redis", "saq", ("saq", "saq_tasks.settings")),
    Peer(
        "taskiq, Redis streams",
        "taskiq",
        ("taskiq", "worker", "taskiq_tasks:broker", "--workers", "1", "--log-level", "WARNING"),
    ),
    Peer("Huey, SQLite", "huey", ("huey_consumer", "huey_tasks.huey", "-k", "thread", "-w", "1"), 20),
)

PROCRASTINATE = ("procrastinate", "-a", "procrastinate_tasks.app")
ON_POSTGRES = (
    Peer(
        "PgQueuer",
        "pgqueuer",
        ("python", "-m", "pgqueuer_tasks"),
        prepare=("pgq", "install"),
        share=5,
    ),
    Peer("SAQ", "saq", ("saq", "saq_tasks.settings"), share=10),
    Peer(
        "Procrastinate",
        "procrastinate",
        (*PROCRASTINATE, "worker", "--concurrency", "10"),
        prepare=(*PROCRASTINATE, "schema", "--apply"),
        share=10,
    ),
)


def queues(tasks: int, rounds: int) -> list[dict[str, object]]:
    """Ours and the peers, in turns: each round has all of them."""
    environment("queues", REQUIREMENTS)
    seen: dict[str, list[dict[str, float]]] = {}
    with _redis():
        for _ in range(rounds):
            for kind, label in (
                ("queue", "**Openlaunch**, `async def`"),
                ("queue-def", "**Openlaunch**, `def`, `per_worker=8`"),
            ):
                seen.setdefault(label, []).append(_ours(kind, label, tasks))
            for peer in PEERS:
                seen.setdefault(peer.label, []).append(_theirs("queues", peer, tasks))
    return _rows("queues", PEERS, seen)


def on_postgres(tasks: int, rounds: int) -> dict[str, object]:
    """Ours on both kinds of records, and peers on the same PostgreSQL server, in turns; and the machine's load."""
    environment("queues-postgres", POSTGRES_REQUIREMENTS)
    seen: dict[str, list[dict[str, float]]] = {}
    load: list[float] = []
    with PostgresServer(
        "fsync=on"
    ) as server:  # as it comes: the server of the tests alone forces nothing to disk
        for number in range(rounds):
            label = "**Openlaunch**, SQLite"
            seen.setdefault(label, []).append(_ours("queue", label, tasks))
            label, store = "**Openlaunch**, PostgreSQL", _database(server, f"openlaunch{number}")
            seen.setdefault(label, []).append(_ours("queue", label, tasks, OPENLAUNCH_STORE=store))
            for peer in ON_POSTGRES:
                store = _database(server, f"{peer.package}{number}")
                run = _theirs("queues-postgres", peer, tasks // peer.share, BENCH_POSTGRES=store, PGDSN=store)
                seen.setdefault(peer.label, []).append(run)
                load.append(os.getloadavg()[0])
    rows = _rows("queues-postgres", ON_POSTGRES, seen)
    return {"rows": rows, "tasks": tasks, "load": [min(load), max(load)]}


def _database(server: PostgresServer, name: str) -> str:
    server.execute(f"CREATE DATABASE {name}")
    return server.url(name)


def _rows(
    venv: str, peers: Sequence[Peer], seen: dict[str, list[dict[str, float]]]
) -> list[dict[str, object]]:
    """The medians of what was seen; the peers' rows are the last."""
    rows: list[dict[str, object]] = []
    for label, runs in seen.items():
        row = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        print(f"  {label}: {row['rate']:,.0f} tasks/s, {row['p50']:.2f} ms idle", flush=True)
        rows.append({"label": label, **row, "rates": [run["rate"] for run in runs]})
    for row, peer in zip(rows[-len(peers) :], peers, strict=True):
        row["versions"] = versions(venv, (peer.package,))
    return rows


def _ours(kind: str, label: str, tasks: int, **more_env: str) -> dict[str, float]:
    with running(openlaunch(kind, label), PORT, **more_env) as found:
        env = {
            "BENCH_URL": found.url,
            "BENCH_HEADERS": "\n".join(f"{k}: {v}" for k, v in found.headers.items()),
        }
        script = ROOT / "benchmarks" / "openlaunch" / "queue_client.py"
        return _run([WORK / "venvs" / "openlaunch" / "bin" / "python", script, str(tasks), "200"], env)


def _theirs(venv: str, peer: Peer, tasks: int, **more_env: str) -> dict[str, float]:
    bin_folder = WORK / "venvs" / venv / "bin"
    with tempfile.TemporaryDirectory() as folder:
        env = {
            "PYTHONPATH": str(FOLDER),
            "BENCH_QUEUE_FILE": f"{folder}/huey.db",
            "PATH": f"{bin_folder}:{os.environ['PATH']}",
            **more_env,
        }
        (WORK / "logs").mkdir(exist_ok=True)
        if peer.prepare:
            prepare = [bin_folder / peer.prepare[0], *peer.prepare[1:]]
            subprocess.run(prepare, env={**os.environ, **env}, check=True, capture_output=True, timeout=60)
        with (WORK / "logs" / f"{peer.package}.log").open("wb") as log:
            worker = subprocess.Popen(
                [bin_folder / peer.command[0], *peer.command[1:]],
                cwd=folder,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            # None of them says when it is ready; and SAQ's sweeps away what was there before it.
            time.sleep(WORKER_SECONDS)
            if worker.poll() is not None:
                raise RuntimeError(f"the worker of {peer.label} has ended: {log.name} says why")
            return _run(
                [bin_folder / "python", FOLDER / "drive.py", peer.module, str(tasks), str(peer.round_trips)],
                env,
            )
        finally:
            _end(worker)


def _run(command: list[object], env: dict[str, str]) -> dict[str, float]:
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"{command} failed:\n{done.stderr[-2000:]}")
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _end(process: "subprocess.Popen[bytes]") -> None:
    everything = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    for left in everything:
        with contextlib.suppress(psutil.Error):
            left.kill()
    process.kill()
    process.wait(10)


@contextlib.contextmanager
def _redis() -> Iterator[None]:
    """A Redis of its own, that appends every second: it may lose a second of what it took, which ours may not."""
    program = shutil.which("redis-server")
    if program is None:
        raise RuntimeError("redis-server is needed for the queues (Debian: apt install redis-server)")
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(REDIS_PORT), "--bind", "127.0.0.1", "--dir", folder]
        durable = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        log = Path(folder) / "redis.log"
        redis = subprocess.Popen([*command, *durable, "--logfile", str(log)])
        try:
            deadline = time.monotonic() + 10
            while not log.exists() or "Ready to accept connections" not in log.read_text():
                if time.monotonic() > deadline or redis.poll() is not None:
                    raise RuntimeError(
                        f"redis-server did not start: {log.read_text() if log.exists() else ''}"
                    )
                time.sleep(0.02)
            yield
        finally:
            redis.terminate()
            redis.wait(10)

"""A server whose records are in PostgreSQL: all of its parts, and what becomes of them while PostgreSQL is away."""

import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest
from chaos_server import ChaosServer, command_line
from http_service import http_service
from postgres_server import WITH_PASSWORD, PostgresServer
from server_driver import SMALL, args, eventually
from tcp_proxy import Proxy, proxy_to

from openlaunch import EndpointRequest, EndpointResponseFuture, LaunchClient
from openlaunch.errors import Unavailable
from openlaunch.store.base import OUTCOME_UNKNOWN

SECRET = "s3cret-word"
LITTLE = {"cpus": 0.1, "memory": "64Mi", "storage": "64Mi"}


@dataclass
class Platform:
    """A server, its database, and the proxy between the two."""

    postgres: PostgresServer
    proxy: Proxy
    server: ChaosServer
    client: LaunchClient
    endpoints: dict[str, Any]
    disk: Path
    """A small one, on which the tables are; elsewhere than on Linux, and for others than root, a folder."""

    def readiness(self) -> str | None:
        """What `/readyz` says of the records; None while all is well."""
        checks = httpx2.get(f"{self.server.url}/readyz", timeout=60).json()["checks"]
        found = next(check for check in checks if check["name"] == "store")
        return None if found["status"] == "ok" else str(found["detail"])

    def tasks(self) -> int:
        """How many tasks there are in the database."""
        return int(self.postgres.one("SELECT count(*) FROM task_inputs", database="records"))


def square(n, until=None, more=None):
    import time
    from pathlib import Path

    while until is not None and not Path(until).exists():
        time.sleep(0.01)
    return n * n


def count(n, until=None):
    import time
    from pathlib import Path

    for i in range(n):
        while i == 1 and until is not None and not Path(until).exists():
            time.sleep(0.01)
        yield i


@contextmanager
def small_disk() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="openlaunch-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
    mounted = shutil.which("mount") and not subprocess.run(mount, capture_output=True, check=False).returncode
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with (
        small_disk() as disk,
        PostgresServer() as postgres,
        proxy_to(f"http://127.0.0.1:{postgres.port}") as proxy,
    ):
        postgres.execute(f"CREATE ROLE {WITH_PASSWORD} LOGIN PASSWORD '{SECRET}'")
        postgres.execute(f"CREATE TABLESPACE small LOCATION '{postgres.folder_on(disk)}'")
        postgres.execute(f"CREATE DATABASE records OWNER {WITH_PASSWORD} TABLESPACE small")
        port = proxy.url.rpartition(":")[2]
        store = f"postgresql://{WITH_PASSWORD}:{SECRET}@127.0.0.1:{port}/records"
        with (
            ChaosServer(tmp_path_factory.mktemp("data"), store=store, lease_seconds=2) as server,
            LaunchClient(server.api_key, server.url, max_retries=0) as client,
        ):
            few = {"max_workers": 1, **SMALL}
            client.deploy(square, name="now", endpoint_type="sync", per_worker=10, **few)
            client.deploy(square, name="later", endpoint_type="async", per_worker=20, **few)
            client.deploy(count, name="flow", endpoint_type="streaming", per_worker=10, **few)
            endpoints = {name: client.get_model_endpoint(name) for name in ("now", "later", "flow")}
            yield Platform(postgres, proxy, server, client, endpoints, disk)


def submit(
    platform: Platform, n: int, until: Path | None = None, **options: object
) -> EndpointResponseFuture:
    request = EndpointRequest(args={"n": n, "until": until and str(until)}, **options)
    return platform.endpoints["later"].predict(request)


def submit_large(
    platform: Platform, n: int, bytes_more: int = 400_000, **options: object
) -> EndpointResponseFuture:
    """With an input that is stored as an artifact, unless it has fewer bytes."""
    request = EndpointRequest(
        args={"n": n, "more": random.Random(n).randbytes(bytes_more // 2).hex()}, **options
    )
    return platform.endpoints["later"].predict(request)


def result(future: EndpointResponseFuture) -> int:
    return int(future.get(timeout=60).result)


def predict(platform: Platform, n: int) -> int:
    return int(platform.endpoints["now"].predict(args(n=n)).result)


def stream(platform: Platform, n: int, until: Path) -> Iterator[int]:
    parts = platform.endpoints["flow"].predict(args(n=n, until=str(until)))
    return (int(part.result) for part in parts)


def running(platform: Platform) -> int:
    """How many tasks run."""
    auth = (platform.server.api_key, "")
    tasks = httpx2.get(f"{platform.server.url}/v1/async-tasks?state=STARTED", auth=auth, timeout=60)
    return len(tasks.json()["tasks"])


@contextmanager
def receiver() -> Iterator[tuple[str, list[bytes]]]:
    """A URL for callbacks, and what was sent there."""
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http_service(Handler) as server:
        yield f"http://127.0.0.1:{server.server_port}/", received


def test_every_kind_of_work_is_done_and_outlives_a_restart(platform: Platform, tmp_path: Path) -> None:
    assert predict(platform, 3) == 9
    assert list(stream(platform, 3, tmp_path)) == [0, 1, 2]
    with receiver() as (url, received):
        future = submit(platform, 4, callback_url=url)
        assert result(future) == 16
        eventually(lambda: received)
    job = platform.client.batch_async_request(model_bundle="later", inputs=[{"n": 5}, {"n": 6}], **LITTLE)
    platform.client.wait_for_batch_job(job["job_id"], timeout=60)
    platform.server.stop()
    platform.server.start()
    platform.server.wait_until_up()
    assert result(future) == 16
    assert [entry["result"] for entry in platform.client.read_batch_results(job["job_id"])] == [25, 36]
    assert predict(platform, 3) == 9


def test_the_password_is_nowhere(platform: Platform) -> None:
    assert platform.readiness() is None
    page = httpx2.get(f"{platform.server.url}/readyz", timeout=60).text
    lines = b"".join(command_line(pid) for pid in platform.server.everything()).decode()
    assert SECRET not in page + lines + platform.server.log()


def test_what_lies_in_postgresql_is_told(platform: Platform) -> None:
    auth = (platform.server.api_key, "")
    kinds = httpx2.get(f"{platform.server.url}/v1/storage", auth=auth, timeout=60).json()["kinds"]
    database = next(kind for kind in kinds if kind["kind"] == "database")
    assert database["bytes"] > 1_000_000
    assert "PostgreSQL" in database["goes"]


def test_what_runs_when_the_server_is_killed_is_run_again(platform: Platform, tmp_path: Path) -> None:
    until = tmp_path / "go"
    futures = [submit(platform, n, until) for n in range(10)]
    eventually(lambda: running(platform))
    platform.server.kill_everything()
    platform.server.start()
    until.touch()
    platform.server.wait_until_up()
    assert [result(future) for future in futures] == [n * n for n in range(10)]


@contextmanager
def without(way: str, platform: Platform) -> Iterator[None]:
    """Take PostgreSQL away for a while."""
    if way == "killed":
        platform.postgres.kill()
        try:
            yield
        finally:
            platform.postgres.start()
    elif way == "frozen":
        with platform.postgres.frozen():
            yield
    elif way == "silent":
        with platform.proxy.held():
            yield
    elif way == "slow":
        platform.proxy.delay = 2.0
        try:
            yield
        finally:
            platform.proxy.delay = 0.0
    elif way == "full":
        with full_disk(platform):
            yield
    else:
        platform.proxy.lead_to("http://127.0.0.1:1")
        platform.proxy.cut()
        try:
            yield
        finally:
            platform.proxy.lead_to(f"http://127.0.0.1:{platform.postgres.port}")


@contextmanager
def full_disk(platform: Platform) -> Iterator[None]:
    """Leave no room where the tables are."""
    ballast = platform.disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    try:
        for bytes_more in (100_000, 2):  # what is free in the tables' own pages is used up too
            with suppress(Unavailable):
                for _ in range(1000):
                    submit_large(platform, 0, bytes_more)
        yield
    finally:
        ballast.unlink()


@pytest.mark.parametrize("way", ["killed", "unreachable", "frozen", "silent", "slow", "full"])
def test_while_postgresql_is_away_predictions_go_on_and_no_task_is_lost(
    platform: Platform, tmp_path: Path, way: str, figure: Callable[[str], None]
) -> None:
    if way == "full" and not platform.disk.is_mount():
        pytest.skip("no small disk can be mounted here")
    until = tmp_path / "go"
    waiting = [submit(platform, n, until) for n in range(20)]  # more than run at once
    flow = stream(platform, 3, until)
    assert next(flow) == 0
    eventually(lambda: running(platform))
    with without(way, platform):
        assert predict(platform, 7) == 49
        for attempt in (submit, submit_large):
            began = time.monotonic()
            with pytest.raises(Unavailable) as refused:
                attempt(platform, 1)
            assert (refused.value.status, refused.value.retry_after) == (503, 2)
            figure(f"{way}: a submit was refused after {time.monotonic() - began:.1f} s")
        if way != "full":  # there a row that is there already can be written
            assert eventually(platform.readiness)
        until.touch()
        assert list(flow) == [1, 2]
        assert predict(platform, 8) == 64
        if way not in ("slow", "full"):
            eventually(lambda: "results of tasks" in (platform.readiness() or ""))
    assert [result(future) for future in waiting] == [n * n for n in range(20)]
    eventually(lambda: platform.readiness() is None)
    assert result(submit(platform, 9)) == 81


def test_a_submit_of_which_nobody_knows_whether_it_is_stored_is_stored_once_with_its_input(
    platform: Platform,
) -> None:
    """PostgreSQL has it on its own disk, waits for a standby that is not there, and freezes."""
    key = {"idempotency_key": "once"}
    platform.postgres.execute(
        "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"
    )
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(submit_large, platform, 6, **key)
        eventually(lambda: platform.postgres.waits_for("SyncRep"))
        with platform.postgres.frozen(), pytest.raises(Unavailable) as refused:
            first.result()
    assert refused.value.code == OUTCOME_UNKNOWN
    platform.postgres.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    stored = platform.tasks()
    again = eventually(lambda: accepted(submit_large, platform, 6, **key))
    assert result(again) == 36
    assert platform.tasks() == stored, "it was the one that nobody knew of"


def accepted(attempt: Callable[..., EndpointResponseFuture], *args: Any, **options: Any) -> Any:
    """What is accepted; None while PostgreSQL is on its way back."""
    with suppress(Unavailable):
        return attempt(*args, **options)


def test_submits_during_restarts_of_postgresql_are_stored_once_each(platform: Platform) -> None:
    """A client that retries under an idempotency key has each task once, and each result."""
    ended = threading.Event()

    def work(client_number: int) -> dict[str, int]:
        """Submit until the restarts are over, and return the results by the tasks' ids, in order."""
        accepted = []
        with LaunchClient(platform.server.api_key, platform.server.url, max_retries=100) as client:
            target = client.get_model_endpoint("later")
            while not ended.is_set() or len(accepted) < 20:
                n = len(accepted)
                key = {"idempotency-key": f"{client_number}-{n}"}
                accepted.append(target.predict(EndpointRequest(args={"n": n}, extra_headers=key)))
            return {future.async_task_id: result(future) for future in accepted}

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work, number) for number in range(4)]
        try:
            for _ in range(2):
                time.sleep(0.3)
                platform.postgres.kill()
                platform.postgres.start()
        finally:
            ended.set()
        found = [future.result() for future in futures]
    for results in found:
        assert list(results.values()) == [n * n for n in range(len(results))]
    assert len(set().union(*found)) == sum(map(len, found))

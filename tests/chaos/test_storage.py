"""Faults of what is below the server: its disk, its database file, its clock. Nothing that was accepted is lost."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import psutil
import pytest
from server_driver import DEADLINE, SMALL, args, eventually, running

from openlaunch import LaunchClient
from openlaunch.errors import ConfigurationError, Unavailable
from openlaunch.testing import LocalServer

MIB = 1024 * 1024


def nap(seconds=0.0, number=0, text=""):
    time.sleep(seconds)
    return number


def deploy(client, **settings):
    settings = {"max_workers": 1, "per_worker": 2, "endpoint_type": "async", **SMALL, **settings}
    return client.deploy(nap, name="nap", **settings)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server and its endpoint, for the faults that leave nothing behind."""
    with running(tmp_path_factory.mktemp("data")) as client:
        yield client, deploy(client)


def readiness(client):
    """The status of /readyz, and its checks by name; nothing but the server's own words is needed for it."""
    answer = httpx2.get(f"{client.server.url}/readyz", timeout=10)
    return answer.status_code, {check["name"]: check for check in answer.json()["checks"]}


def failed(client, name):
    status, checks = readiness(client)
    return status == 503 and checks[name]["status"] == "failed" and checks[name]["detail"]


def is_ready(client):
    return readiness(client)[0] == 200


def is_alive(client):
    return httpx2.get(f"{client.server.url}/healthz", timeout=10).json() == {"status": "ok"}


def submit_until_refused(endpoint):
    """Send tasks that take room until the server can't store any more; those that it accepted, and its error."""
    accepted = []
    while True:
        try:
            accepted += endpoint.predict_many([args(number=len(accepted), text="x" * 100_000)])
        except Unavailable as error:
            return accepted, error


def results(futures):
    return [future.get(DEADLINE).value for future in futures]


# The disk.


@contextmanager
def small_disk(folder, size=32 * MIB):
    """A file system of its own for a data directory; where this user may not mount one, the test is skipped."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, timeout=DEADLINE)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=DEADLINE)


def test_a_full_disk_is_told_and_survived(tmp_path):
    with small_disk(tmp_path / "disk") as disk, running(disk / "data") as client:
        endpoint = deploy(client)
        first = endpoint.predict_many([args(number=n, seconds=0.05) for n in range(20)])
        eventually(lambda: is_ready(client))
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(b"x" * 64 * MIB)
        accepted, error = submit_until_refused(endpoint)
        assert "full" in str(error)
        assert "make room" in str(error)
        assert "full" in eventually(lambda: failed(client, "disk"))
        assert is_alive(client)
        filler.unlink()
        eventually(lambda: is_ready(client))
        assert results(first) == list(range(20))
        assert results(accepted) == list(range(len(accepted)))
        assert endpoint.predict(args(number=5)).get(DEADLINE).value == 5


def test_on_a_full_disk_predictions_and_their_numbers_go_on_and_the_server_ends_as_ever(tmp_path):
    """History, which can't be stored, stays in memory, and what the server can't store at its end is lost."""

    def counted(client):
        return sum(client.get_endpoint_metrics("nap").series["ok"])

    with small_disk(tmp_path / "disk") as disk:
        with running(disk / "data") as client:
            endpoint = deploy(client, endpoint_type="sync")
            with pytest.raises(OSError, match="No space"):
                (disk / "filler").write_bytes(b"x" * 64 * MIB)
            assert [endpoint.predict(args(number=n)).value for n in range(5)] == list(range(5))
            eventually(lambda: counted(client) == 5)
            scraped = httpx2.get(
                f"{client.server.url}/metrics", auth=(client.server.api_key, ""), timeout=DEADLINE
            )
            assert "openlaunch_disk_free_bytes 0" in scraped.text
            server = psutil.Process(client.server.pid)
        assert not server.is_running()
        (disk / "filler").unlink()
        with running(disk / "data") as client:
            assert client.get_model_endpoint("nap").predict(args(number=5)).value == 5
            eventually(lambda: counted(client) >= 1)


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of other processes can't be set here")
def test_a_file_that_may_not_grow_is_told_and_survived(server):
    """The same by a limit that every user can set: no file of this server may grow beyond it."""
    client, endpoint = server
    limit = (client.server.data_dir / "openlaunch.db-wal").stat().st_size + 256 * 1024
    before = resource.prlimit(client.server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(client.server.pid, resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        accepted, error = submit_until_refused(endpoint)
        assert "the database can't be used" in str(error)
        assert error.retry_after == 5
        assert is_alive(client)
        assert eventually(lambda: failed(client, "store"))
    finally:
        resource.prlimit(client.server.pid, resource.RLIMIT_FSIZE, before)
    eventually(lambda: is_ready(client))
    assert results(accepted) == list(range(len(accepted)))
    assert endpoint.predict(args(number=5)).get(DEADLINE).value == 5


def test_a_data_directory_that_can_not_be_written_is_refused_at_the_start(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        with running(disk / "data"):
            pass
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=DEADLINE)
        done = subprocess.run(
            [sys.executable, "-m", "openlaunch.cli", "serve", "--port", "0", "--data-dir", disk / "data"],
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    assert done.returncode == 2
    assert "Read-only file system" in done.stderr
    assert "--data-dir" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_what_a_model_prints_to_a_full_disk_is_dropped_and_nothing_fails():
    prints = "print('a line', flush=True); print('x' * 100_000); sys.stderr.write('y')"
    code = f"import sys; from openlaunch_worker.process import set_up_output; set_up_output(); {prints}"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=full, timeout=DEADLINE)
    assert done.returncode == 0


# The database file.


def test_a_lock_of_another_process_is_told_and_survived(server):
    client, endpoint = server
    at_work = endpoint.predict(args(number=1, seconds=0.5))
    with closing(sqlite3.connect(client.server.data_dir / "openlaunch.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert eventually(lambda: failed(client, "store"))
        with pytest.raises(Unavailable, match="another process holds a lock") as refused:
            endpoint.predict(args(number=2))
        assert refused.value.code == "store_unavailable"
        assert is_alive(client)
        scraped = httpx2.get(f"{client.server.url}/metrics", auth=(client.server.api_key, ""), timeout=10)
        assert "openlaunch_ready 0" in scraped.text  # it does not wait for the store
        other.execute("ROLLBACK")
    eventually(lambda: is_ready(client))
    assert at_work.get(DEADLINE).value == 1
    assert endpoint.predict(args(number=3)).get(DEADLINE).value == 3


def overwrite(path, start, size):
    with path.open("r+b") as file:
        file.seek(start)
        file.write(os.urandom(size))


def test_a_damaged_file_is_told_and_no_server_starts_on_it(tmp_path):
    database = tmp_path / "openlaunch.db"
    with running(tmp_path) as client:
        overwrite(database, 0, 8192)
        assert "openlaunch restore" in eventually(lambda: failed(client, "store"))
        assert is_alive(client)
    overwrite(database, 0, 8192)
    left = database.read_bytes()
    with pytest.raises(ConfigurationError, match="openlaunch restore"):
        LocalServer(tmp_path)
    assert database.read_bytes() == left


# The clock.

CLOCK = """
import pathlib, sys, time
real, offset = time.time, pathlib.Path(sys.argv.pop(1))
time.time = lambda: real() + float(offset.read_text())
from openlaunch.cli.app import run
sys.exit(run())
"""


@contextmanager
def server_with_a_clock(data_dir, offset):
    """A server whose time of day is off by the seconds that stand in a file."""
    offset.write_text("0")
    process = subprocess.Popen(
        [sys.executable, "-c", CLOCK, str(offset), "serve", "--port", "0", "--data-dir", str(data_dir)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "OPENLAUNCH_TASK_EXPIRES_SECONDS": "1800", "OPENLAUNCH_LEASE_SECONDS": "2"},
    )
    try:
        assert process.stdout.readline().startswith("ready ")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=DEADLINE)


def test_a_clock_that_is_set_expires_nothing_and_runs_nothing_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENLAUNCH_DATA_DIR", str(tmp_path / "data"))
    ran, offset = tmp_path / "ran", tmp_path / "offset"

    def slow(number, path):
        with open(path, "a") as file:  # noqa: PTH123 -- runs in the worker
            file.write(f"{number}\n")
        time.sleep(0.7)
        return number

    with server_with_a_clock(tmp_path / "data", offset), LaunchClient(max_retries=0) as client:
        endpoint = client.deploy(
            slow, name="slow", endpoint_type="async", max_workers=1, per_worker=1, **SMALL
        )
        futures = endpoint.predict_many([args(number=n, path=str(ran)) for n in range(9)])
        for jump, way in ((3600, "forward"), (-3600, "back")):
            done = len(ran.read_text()) if ran.exists() else 0
            eventually(lambda done=done: ran.exists() and len(ran.read_text()) > done)
            offset.write_text(str(jump))
            told = eventually(lambda way=way: clock_told(client, way))
            assert told["status"] == "warning"
        assert results(futures) == list(range(9))
    assert ran.read_text().split() == [str(number) for number in range(9)]


def clock_told(client, way):
    checks = httpx2.get(f"{client.url}/readyz", timeout=DEADLINE).json()["checks"]
    return next((c for c in checks if c["name"] == "clock" and way in (c["detail"] or "")), None)


def test_readiness_needs_no_key_and_tells_no_path(server):
    client, _ = server
    answer = httpx2.get(f"{client.server.url}/readyz", timeout=DEADLINE)
    assert answer.status_code == 200
    assert answer.json()["status"] in ("ok", "warning")
    names = [check["name"] for check in answer.json()["checks"]]
    assert names == ["stopping", "store", "artifacts", "disk", "event_loop", "clock"]
    assert str(client.server.data_dir) not in answer.text

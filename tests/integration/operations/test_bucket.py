"""A server whose artifacts are in a bucket of a real S3 server."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from server_driver import SMALL, args, eventually, http, running

from openlaunch import EndpointRequest
from openlaunch.errors import ConfigurationError
from openlaunch.server.operations.datadir import DataDir

LARGE = 400_000
"""Bytes: over what is kept in the database."""


def echo(text, times=1):
    return text * times


def environ_of_worker(_):
    return dict(os.environ)


@contextmanager
def serving(s3, prefix, data_dir=None, **settings):
    """A server with its artifacts below a prefix."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**s3.environ, **settings.pop("environ", {})}.items():
            patch.setenv(name, value)
        with running(data_dir, artifacts=f"s3://artifacts/{prefix}", **settings) as client:
            yield client


def kept(s3, prefix):
    """The keys below a prefix, by folder."""
    found = {}
    for page in s3.store(prefix).list():
        for meta in page:
            folder, _, rest = meta["path"].partition("/")
            found.setdefault(folder, []).append(rest)
    return found


def files(folder):
    return [name for _, _, names in os.walk(folder) for name in names]


def test_everything_is_kept_in_the_bucket_and_found_after_a_restart(s3, tmp_path):
    with serving(s3, "restart", tmp_path / "data") as client:
        endpoint = client.deploy(echo, name="echo", **SMALL)
        queue = client.deploy(echo, name="queue", endpoint_type="async", **SMALL)
        assert endpoint.predict(args(text="x")).value == "x"
        pickled = EndpointRequest(args={"text": "ab", "times": LARGE}, return_pickled=True)
        assert endpoint.predict(pickled).value == "ab" * LARGE
        future = queue.predict(args(text="x" * LARGE, times=2))
        assert future.get().value == "x" * LARGE * 2
        with http(client) as raw:
            file = raw.post("/v1/files", files={"file": ("a.txt", b"text" * 1000)}).json()["id"]
        job = client.batch_async_request(
            model_bundle=endpoint_bundle(client), inputs=[{"text": "y"}], **SMALL
        )
        client.wait_for_batch_job(job["job_id"], timeout=60)
    found = kept(s3, "restart")
    assert {"bundles", "results", "files", "batch-inputs", "batch-results"} <= found.keys()
    assert files(tmp_path / "data" / "artifacts") == []

    with serving(s3, "restart", tmp_path / "data") as client:
        assert client.get_model_endpoint("echo").predict(args(text="again")).value == "again"
        assert client.future(future.async_task_id).get().value == "x" * LARGE * 2
        assert [entry["result"] for entry in client.read_batch_results(job["job_id"])] == ["y"]
        with http(client) as raw:
            assert raw.get(f"/v1/files/{file}/content").json()["content"] == "text" * 1000
            assert raw.delete(f"/v1/files/{file}").status_code == 200
    assert "files" not in kept(s3, "restart")


def endpoint_bundle(client):
    return client.list_model_bundles()[0].name


@pytest.fixture(scope="module")
def client(s3):
    with serving(s3, "shared") as client:
        client.deploy(echo, name="echo", **SMALL)
        client.deploy(echo, name="queue", endpoint_type="async", min_workers=1, **SMALL)
        yield client


@contextmanager
def silent(s3):
    """Nothing is answered by the S3 server within the block."""
    os.kill(s3.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(s3.process.pid, signal.SIGCONT)


def artifacts_check(raw):
    """The HTTP status of /readyz, and what it says of the artifacts."""
    answer = raw.get("/readyz")
    return answer.status_code, next(c for c in answer.json()["checks"] if c["name"] == "artifacts")


def test_a_bucket_that_does_not_answer_holds_up_nothing_that_needs_none(client, raw, s3):
    echo, queue = client.get_model_endpoint("echo"), client.get_model_endpoint("queue")
    assert echo.predict(args(text="x")).value == queue.predict(args(text="x")).get().value == "x"
    with ThreadPoolExecutor() as threads:
        with silent(s3):
            large = threads.submit(lambda: queue.predict(args(text="x" * LARGE)).get(timeout=60).value)
            _, check = eventually(lambda: (found := artifacts_check(raw))[1]["status"] != "ok" and found)
            assert check == {"name": "artifacts", "status": "warning", "detail": "no answer within 2 s"}
            assert artifacts_check(raw)[0] == 200
            assert echo.predict(args(text="y")).value == "y"
            assert queue.predict(args(text="z")).get().value == "z"
            assert not large.done()
        assert large.result() == "x" * LARGE
    eventually(lambda: artifacts_check(raw)[1]["status"] == "ok")


def serve_command(s3, data_dir, *options, **environ):
    """What `openlaunch serve` says that does not start."""
    done = subprocess.run(
        [sys.executable, "-m", "openlaunch.cli", "serve", "--port=0", f"--data-dir={data_dir}", *options],
        env={**os.environ, **s3.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_data_directory_keeps_to_its_bucket(s3, tmp_path):
    data = DataDir(tmp_path)
    with data.locked():
        (tmp_path / "artifacts" / "bundles").mkdir()
        (tmp_path / "artifacts" / "bundles" / "one").write_text("bytes")
        with pytest.raises(
            ConfigurationError, match=r"are in its folder: serve without --artifacts, or move"
        ):
            data.check_bucket("s3://artifacts/a")
        data.check_bucket("")
        data.bucket = "s3://artifacts/a"
        data.check_bucket("s3://artifacts/a")
    with (
        data.locked(),
        pytest.raises(ConfigurationError, match="serve with --artifacts s3://artifacts/a, or"),
    ):
        data.check_bucket("s3://artifacts/b")
    assert "are in s3://artifacts/a: serve with --artifacts s3://artifacts/a" in serve_command(s3, tmp_path)


def test_a_start_that_is_refused_says_no_secret(s3, tmp_path):
    said = serve_command(
        s3, tmp_path, "--artifacts=s3://artifacts/c", AWS_SECRET_ACCESS_KEY="s3cret-0123456789"
    )
    assert "the credentials are not valid there" in said
    assert "s3cret" not in said

"""A server whose artifacts are in a bucket of a real S3 server."""

import itertools
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from s3_server import SECRET_KEY
from server_driver import SMALL, args, eventually, http, running

from openlaunch import EndpointRequest
from openlaunch.errors import ConfigurationError
from openlaunch.server.operations.datadir import DataDir

pytestmark = pytest.mark.slow

NUMBERS = itertools.count()
LARGE = 400_000
"""Bytes: over what is kept in the database."""
LEASE = 3.0


def command(s3, *arguments, **environ):
    """Run `openlaunch` with these arguments, where the S3 server can be used."""
    return subprocess.run(
        [sys.executable, "-m", "openlaunch.cli", *arguments],
        env={**os.environ, **s3.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )


def echo(text, times=1):
    return text * times


def logged(path, text, times=1, until=None):
    """Write down that it runs, and wait until there is a file."""
    with Path(path).open("a") as log:
        log.write("ran\n")
    while until is not None and not Path(until).exists():
        time.sleep(0.01)
    return text * times


def environ_of_worker():
    return [f"{name}={value}" for name, value in os.environ.items()] + Path(
        "/proc/self/environ"
    ).read_text().split("\0")


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
    moved = command(s3, "migrate", f"--from={tmp_path / 'data'}", "--to=folder", "--json")
    assert moved.returncode == 0, moved.stderr
    assert json.loads(moved.stdout)["artifacts"]["copied"] == len(files(tmp_path / "data" / "artifacts")) > 4
    assert DataDir(tmp_path / "data").places.bucket == ""


def endpoint_bundle(client):
    return client.list_model_bundles()[0].name


@pytest.fixture(scope="module")
def prefix():
    """One for each time: the tests of a module may be shared out, and come back to this process."""
    return f"shared-{next(NUMBERS)}"


@pytest.fixture(scope="module")
def client(s3, prefix):
    with serving(s3, prefix, max_bundle_bytes=2 << 20, lease_seconds=LEASE) as client:
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
            assert (check["status"], check["detail"]) == ("warning", "no answer within 2 s")
            assert artifacts_check(raw)[0] == 200
            assert echo.predict(args(text="y")).value == "y"
            assert queue.predict(args(text="z")).get().value == "z"
            assert not large.done()
        assert large.result() == "x" * LARGE
    eventually(lambda: artifacts_check(raw)[1]["status"] == "ok")


def test_a_task_is_run_once_whose_payload_or_result_waits_for_the_bucket(client, s3, tmp_path):
    tasks = client.deploy(logged, name="logged", endpoint_type="async", min_workers=1, **SMALL)
    log, go = str(tmp_path / "log"), tmp_path / "go"
    first = tasks.predict(args(path=log, text="r", times=LARGE, until=str(go)))
    second = tasks.predict(args(path=log, text="p" * LARGE))
    eventually(lambda: (tmp_path / "log").exists())
    with silent(s3):
        go.touch()
        stopped = time.monotonic()
        third = tasks.predict(
            args(path=log, text="small")
        )  # stored and answered, though the second is being read
        assert time.monotonic() - stopped < 20
        eventually(lambda: time.monotonic() - stopped > 2 * LEASE)
        assert not first.done()
        assert not second.done()
    assert [task.get(timeout=60).value for task in (first, second, third)] == [
        "r" * LARGE,
        "p" * LARGE,
        "small",
    ]
    assert (tmp_path / "log").read_text() == "ran\n" * 3


def upload_url(raw, size=None):
    answer = raw.post(
        "/v1/hosted_inference/model_bundle_upload", json={}, params={"size": size} if size else {}
    )
    return answer.json(), "openlaunch-bucket" in answer.headers


def create_bundle(raw, where):
    flavor = {"flavor": "cloudpickle_artifact", "location": f"s3://{where['bucket']}/{where['key']}",
              "requirements": [], "framework": {"framework_type": "pytorch", "pytorch_image_tag": "2"},
              "load_predict_fn": "a.b", "load_model_fn": "a.c"}  # fmt: skip
    return raw.post("/v2/model-bundles", json={"name": "direct", "schema_location": "", "flavor": flavor})


def test_uploads_and_downloads_bypass_the_server(client, raw, s3, prefix):
    where, direct = upload_url(raw)
    assert direct
    assert where["signedUrl"].startswith(f"{s3.endpoint}/artifacts/{prefix}/bundles/")
    assert httpx2.put(where["signedUrl"], content=b"x" * 1000).status_code == 200
    assert create_bundle(raw, where).status_code == 200
    request = {"args": {"text": "ab", "times": 3}, "return_pickled": True}
    endpoint_id = client.get_model_endpoint("echo").model_endpoint.id
    answer = raw.post("/v1/sync-tasks", params={"model_endpoint_id": endpoint_id}, json=request)
    url = answer.json()["result"]["result_url"]
    assert url.startswith(f"{client.server.url}/v1/artifacts/results/")
    leads = httpx2.get(url)
    assert leads.status_code == 307
    assert leads.headers["location"].startswith(f"{s3.endpoint}/artifacts/{prefix}/results/")
    assert leads.headers["openlaunch-bucket"] == "true"
    lifetime = int(re.search(r"X-Amz-Expires=(\d+)", leads.headers["location"])[1])
    assert 3000 < lifetime <= 3600
    assert pickle.loads(httpx2.get(url, follow_redirects=True).content) == "ababab"
    assert httpx2.get(url.replace("results/", "results/0")).status_code == 403
    assert httpx2.put(leads.headers["location"], content=b"other").status_code == 403


def test_workers_have_none_of_the_buckets_credentials(client, s3):
    names = client.deploy(environ_of_worker, name="environ", **SMALL).predict(args()).value
    assert not [
        name for name in names if name.startswith("AWS_") or SECRET_KEY in name or s3.endpoint in name
    ]


def test_storage_counts_what_is_in_the_bucket(client, s3, prefix):
    kinds = {kind.kind: kind for kind in client.get_storage().kinds}
    found = kept(s3, prefix)
    assert kinds["bundles"].count == len(found["bundles"])
    assert kinds["bundles"].bytes > 1000


def test_an_upload_over_the_limit_is_refused_and_deleted(raw, s3, prefix):
    where, _ = upload_url(raw)
    assert httpx2.put(where["signedUrl"], content=b"x" * (3 << 20)).status_code == 200
    refused = create_bundle(raw, where)
    assert refused.status_code == 413
    assert "the limit is 2097152: it is deleted" in refused.json()["detail"]
    assert where["key"].partition("/")[2] not in kept(s3, prefix)["bundles"]


def test_what_a_bucket_can_not_bound_goes_through_the_server(client, raw):
    own = f"{client.server.url}/v1/artifacts/"
    where, direct = upload_url(raw, size=6 * 1000**3)
    assert where["signedUrl"].startswith(own)
    assert not direct
    key = raw.post("/v1/keys", json={"owner": "limited", "role": "user"}).json()["api_key"]
    assert raw.put("/v1/quotas/limited", json={"stored_bytes": 1 << 20}).status_code == 200
    with http(client, key) as limited:
        where, direct = upload_url(limited)
        assert where["signedUrl"].startswith(own)
        assert not direct
        assert limited.put(where["signedUrl"], content=b"x" * (1 << 19), auth=None).status_code == 200
        refused = limited.put(upload_url(limited)[0]["signedUrl"], content=b"x" * (3 << 19), auth=None)
        assert refused.status_code in (403, 413)


def serve_command(s3, data_dir, *options, **environ):
    """What `openlaunch serve` says that does not start."""
    done = command(s3, "serve", "--port=0", f"--data-dir={data_dir}", *options, **environ)
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
            data.places.check_bucket("s3://artifacts/a")
        data.places.check_bucket("")
        data.places.bucket = "s3://artifacts/a"
        data.places.check_bucket("s3://artifacts/a")
    with (
        data.locked(),
        pytest.raises(ConfigurationError, match="serve with --artifacts s3://artifacts/a, or"),
    ):
        data.places.check_bucket("s3://artifacts/b")
    assert "are in s3://artifacts/a: serve with --artifacts s3://artifacts/a" in serve_command(s3, tmp_path)


def test_a_start_that_is_refused_says_no_secret(s3, tmp_path):
    said = serve_command(
        s3, tmp_path, "--artifacts=s3://artifacts/c", AWS_SECRET_ACCESS_KEY="s3cret-0123456789"
    )
    assert "the credentials are not valid there" in said
    assert "s3cret" not in said


def test_a_server_keeps_its_artifacts_in_azure(azure, tmp_path, monkeypatch):
    for name, value in azure.environ.items():
        monkeypatch.setenv(name, value)
    settings = {"data_dir": tmp_path / "data", "artifacts": "az://artifacts/served"}
    with running(**settings) as client:
        endpoint = client.deploy(echo, name="az", endpoint_type="async", **SMALL)
        done = endpoint.predict(args(text="x" * LARGE, times=3))
        assert len(done.get(60).value) == 3 * LARGE
        pickled = endpoint.predict(EndpointRequest(args={"text": "y" * LARGE}, return_pickled=True))
        assert pickled.get(60).value == "y" * LARGE
    with running(**settings) as client:
        assert len(client.future(done.async_task_id).get(60).value) == 3 * LARGE
        assert client.get_model_endpoint("az").predict(args(text="z")).get(60).value == "z"

"""`openlaunch migrate` between the data directory's own database and PostgreSQL."""

import asyncio
import json
import os
import subprocess
import sys

import pytest
from postgres_server import binaries, shared_server
from server_driver import SMALL, args, http, running

from openlaunch.server.operations.datadir import DataDir
from openlaunch.store.sqlite import SqliteStore

SECONDS = 400
"""How long a test may take, and each program: they start ten, which a busy machine does one after the other."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS)]

ADMIN_KEY = "the-key-of-this-test"


def shout(text):
    return text.upper()


def migrate(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "openlaunch.cli", "migrate", *map(str, arguments)],
        env={name: value for name, value in os.environ.items() if not name.startswith("OPENLAUNCH_")},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def refusal(*arguments):
    done = migrate(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    return " ".join(done.stderr.split())


@pytest.fixture
def url():
    shared_server().execute("CREATE DATABASE migrated")
    yield shared_server().url("migrated")
    shared_server().execute("DROP DATABASE migrated WITH (FORCE)")


@pytest.fixture
def used(tmp_path):
    """A data directory with a key, an endpoint, a result, a task that waits, and a file."""
    data = tmp_path / "data"
    with running(data) as client:
        client.deploy(shout, name="shout", endpoint_type="async", **SMALL)
        done = client.get_model_endpoint("shout").predict(args(text="done"))
        assert done.get(timeout=60).value == "DONE"
        client.edit_model_endpoint(model_endpoint="shout", min_workers=0, max_workers=0)
        waits = client.get_model_endpoint("shout").predict(args(text="waits"))
        with http(client) as raw:
            key = raw.post("/v1/keys", json={"owner": "ada", "role": "user"}).json()["api_key"]
    return data, done.async_task_id, waits.async_task_id, key


def restore_to(database, url):
    """Back up a database as the documentation says, and restore it as a new one."""
    shared_server().execute(f"CREATE DATABASE {database}")
    dump = subprocess.run(
        [binaries() / "pg_dump", "--format=custom", url], stdout=subprocess.PIPE, check=True, timeout=SECONDS
    ).stdout
    there = ["--dbname", shared_server().url(database)]
    subprocess.run([binaries() / "pg_restore", *there], input=dump, check=True, timeout=SECONDS)


def check(client, used):
    """All of it is there, and goes on."""
    _, done, waits, key = used
    assert client.future(done).get(timeout=60).value == "DONE"
    client.edit_model_endpoint(model_endpoint="shout", max_workers=1)
    assert client.future(waits).get(timeout=60).value == "WAITS"
    with http(client, key) as raw:
        assert raw.get("/v1/model-endpoints").json() == {"model_endpoints": []}
    assert "create_key" in {entry.action for entry in client.list_audit_log().entries}


def test_a_server_moves_to_postgresql_is_restored_there_and_comes_back(used, url):
    data = used[0]
    out = migrate("--from", data, "--to", url, "--json")
    assert out.returncode == 0, out.stderr
    counts = json.loads(out.stdout)["records"]
    assert (counts["tasks"], counts["bundles"], counts["endpoints"]) == (2, 1, 1)

    again = migrate("--from", data, "--to", url, "--json")
    assert json.loads(again.stdout)["records"] == counts
    assert not (data / "openlaunch.db").exists()
    with running(data, store=url) as client:
        check(client, used)
        assert "another server" in refusal("--from", url, "--to", data)

    restore_to("restored", url)
    with running(data, store=shared_server().url("restored")) as client:
        assert client.future(used[2]).get(timeout=60).value == "WAITS"
    shared_server().execute("DROP DATABASE restored WITH (FORCE)")

    assert "name it" in refusal("--from", data, "--to", "folder")
    with running(data, store=url):
        pass
    back = migrate("--from", url, "--to", data)
    assert back.returncode == 0, back.stderr
    assert "2 in tasks" in back.stderr
    with running(data) as client:
        assert client.future(used[2]).get(timeout=60).value == "WAITS"


def test_a_move_of_both_is_run_again_whose_second_half_failed(tmp_path, url, s3, monkeypatch):
    for name, value in s3.environ.items():
        monkeypatch.setenv(name, value)
    asyncio.run(empty_records(tmp_path))
    assert "no such bucket" in refusal("--from", tmp_path, "--to", url, "s3://nowhere/moved")
    again = migrate("--from", tmp_path, "--to", url, "s3://artifacts/moved")
    assert again.returncode == 0, again.stderr
    assert DataDir(tmp_path).places.bucket == "s3://artifacts/moved"


async def empty_records(data):
    await (await SqliteStore.open(DataDir(data).database)).close()


def test_what_can_not_be_is_refused(tmp_path, url):
    assert "name the directory with --to" in refusal("--from", url, "--to", shared_server().url("postgres"))
    assert "name the directory with --to" in refusal("--from", url, "--to", "s3://artifacts/moved")
    (tmp_path / "empty").mkdir()
    assert "there is no database in" in refusal("--from", tmp_path / "empty", "--to", url)
    assert "there is no database in" in refusal("--from", tmp_path / "nowhere", "--to", url)
    assert "can't all be where it goes" in refusal("--to", url, "folder")
    text = refusal("--from", tmp_path / "empty", "--to", "postgres//typed-wrong")
    assert "postgresql://USER@HOST/NAME" in text
    assert "backup" in text

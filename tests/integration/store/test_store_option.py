"""`openlaunch serve --store`: what is refused at the start, what nobody sees, and what a data directory remembers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import psycopg
import pytest
from chaos_server import command_line
from postgres_server import WITH_PASSWORD, shared_server
from store_drivers import POSTGRES

SECRET = "s3cret-word"
SERVE = ("-m", "openlaunch.cli", "serve", "--port", "0")
WITHOUT_DRIVER = "import sys; sys.modules['psycopg'] = None; from openlaunch.cli import main; main()"


def environ(**more):
    return {**os.environ, **more}


def refusal(*arguments, **more):
    """What a command says that ends with the status of wrong settings."""
    done = subprocess.run(
        [sys.executable, *arguments], env=environ(**more), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 2, done.stderr
    assert SECRET not in done.stdout + done.stderr
    return " ".join(done.stderr.split())


@pytest.fixture(scope="module")
def store():
    """The URL of a database of a user who needs a password."""
    shared_server().execute(f"CREATE ROLE {WITH_PASSWORD} LOGIN PASSWORD '{SECRET}'")
    shared_server().execute(f"CREATE DATABASE option OWNER {WITH_PASSWORD}")
    yield shared_server().url("option", f"{WITH_PASSWORD}:{SECRET}")
    shared_server().execute("DROP DATABASE option WITH (FORCE)", f"DROP ROLE {WITH_PASSWORD}")


def test_it_says_what_to_install(tmp_path):
    said = refusal(
        *(
            "-c",
            WITHOUT_DRIVER,
            "serve",
            "--port",
            "0",
            "--data-dir",
            tmp_path,
            "--store",
            "postgresql://db/x",
        )
    )
    assert "pip install 'openlaunch[server,cluster]'" in said


def test_a_wrong_password_is_told_and_not_shown(tmp_path, store):
    wrong = store.replace("option", "nosuch")
    said = refusal(*SERVE, "--data-dir", tmp_path, OPENLAUNCH_STORE=wrong)
    assert "database 'nosuch' at 127.0.0.1" in said
    assert "with createdb" in said
    assert "not the URL of a PostgreSQL database" in refusal(*SERVE, "--store", f"mysql://a:{SECRET}@b/c")


def test_the_list_of_processes_does_not_show_a_password_and_the_directory_knows_its_records(tmp_path, store):
    here = ("--data-dir", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, *SERVE, *here, "--store", store],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        url = process.stdout.readline().removeprefix("ready ").strip()
        assert httpx2.get(f"{url}/readyz", timeout=60).status_code == 200
        assert SECRET.encode() not in command_line(process.pid)
        assert store.replace(f":{SECRET}", "").encode() in command_line(process.pid)
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert SECRET not in errors
    assert not (tmp_path / "openlaunch.db").exists()
    assert "are in the PostgreSQL database 'option' at 127.0.0.1" in refusal(*SERVE, *here)
    backup = refusal("-m", "openlaunch.cli", "backup", *here, str(tmp_path / "backup.tar"))
    assert "back them up with pg_dump" in backup


def test_a_directory_with_records_of_its_own_is_refused(tmp_path, store):
    Path(tmp_path / "openlaunch.db").touch()
    assert "has records of its own" in refusal(*SERVE, "--data-dir", tmp_path, "--store", store)


WRONG_CLOCK = """
import sys, time
real, offset = time.time, float(sys.argv.pop(1))
time.time = lambda: real() + offset
from openlaunch.cli.app import run
sys.exit(run())
"""


@pytest.mark.parametrize("offset", [600, -600])
def test_a_server_whose_clock_is_wrong_stores_the_time_of_the_database(tmp_path, offset):
    url = POSTGRES.url_of(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", WRONG_CLOCK, str(offset), "serve", "--port", "0", "--data-dir", str(tmp_path)],
        env=environ(OPENLAUNCH_STORE=url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("ready ")
        process.terminate()
        _, errors = process.communicate(timeout=60)
    with psycopg.connect(url) as connection:
        (created_at,) = connection.execute("SELECT created_at FROM api_keys").fetchone()
    assert abs(created_at - time.time()) < 60
    assert f"600 s {'behind' if offset > 0 else 'ahead of'} this server's" in errors
    POSTGRES.drop(tmp_path)

"""`openlaunch image-jobs` and `openlaunch triggers`, against a running server and a container engine."""

import json
import re

import pytest
from container_driver import IMAGE, PYTHON, container_engine
from server_driver import eventually, running

from openlaunch.cli.app import run

HELLO = "import os; print('hello', os.environ['WHO'])"
BUNDLE = ("image-jobs", "bundle", "hello", ":".join(IMAGE), "--cpus", "0.1", "--memory", "64Mi")


@pytest.fixture(scope="module")
def client():
    with container_engine() as engine, running(**engine.settings()) as client:
        yield client


@pytest.fixture
def cli(client, monkeypatch, capsys):
    """Runs a command, whose exit code is asserted: what it prints."""
    monkeypatch.setenv("OPENLAUNCH_URL", client.server.url)
    monkeypatch.setenv("OPENLAUNCH_API_KEY", client.server.api_key)

    def command(*arguments, code=0):
        ended = run(arguments)
        out, err = capsys.readouterr()
        assert ended == code, err
        return err if code else out

    return command


@pytest.fixture
def hello(cli):
    return cli(*BUNDLE, "--env", "WHO=you", "--", PYTHON, "-c", HELLO).strip()


def test_what_the_container_printed_is_printed(cli, hello):
    assert cli("image-jobs", "run", "hello") == "hello you\n"


def test_a_bundle_may_be_named_by_its_id(cli, hello):
    document = json.loads(cli("image-jobs", "run", hello, "--label", "team=a", "--json"))
    assert (document["log"], document["annotations"]) == ("hello you\n", {"team": "a"})


def test_a_job_is_listed_shown_and_its_log_printed(cli, hello):
    job_id = cli("image-jobs", "run", "hello", "--no-wait").strip()
    eventually(lambda: "SUCCESS" in cli("image-jobs", "get", job_id))
    assert re.search(rf"{job_id}\tSUCCESS", cli("image-jobs", "list"))
    assert cli("image-jobs", "logs", job_id) == "hello you\n"


def test_a_failure_says_why(cli):
    cli(*BUNDLE[:2], "failing", *BUNDLE[3:], "--", PYTHON, "-c", "raise SystemExit('so it goes')")
    said = cli("image-jobs", "run", "failing", code=1)
    assert re.search(r"is FAILURE: the container exited with code 1; its log ends with:\nso it goes", said)


def test_a_job_is_cancelled(cli):
    cli(*BUNDLE[:2], "endless", *BUNDLE[3:], "--", PYTHON, "-c", "import time; time.sleep(600)")
    job_id = cli("image-jobs", "run", "endless", "--no-wait").strip()
    assert cli("image-jobs", "cancel", job_id) == "cancelled\n"
    assert cli("image-jobs", "cancel", job_id) == "it had ended\n"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("bundle", "x", "busybox"), 2, "REPOSITORY:TAG is needed"),
        (("bundle", "x", "busybox:1", "--env", "A"), 2, "'A' is not KEY=VALUE"),
        (("run", "hello", "--config", "no"), 2, "--config is not JSON"),
        (("run", "nobody"), 3, "no docker-image batch job bundle has the name 'nobody'"),
        (("get", "imj_nobody"), 3, "no docker-image batch job has the id 'imj_nobody'"),
    ],
)
def test_what_is_wrong_is_said(cli, arguments, code, said):
    assert said in cli("image-jobs", *arguments, code=code)


def test_a_trigger_is_made_changed_and_deleted(cli, hello):
    made = cli("triggers", "create", "nightly", "30 4 * * 1", "hello").strip()
    assert re.search(rf"nightly\t{made}\t30 4 \* \* 1\t\d{{4}}-", cli("triggers", "list"))
    cli("triggers", "update", made, "--schedule", "0 5 * * *", "--suspend")
    assert re.search(r"0 5 \* \* \*\tsuspended", cli("triggers", "list"))
    cli("triggers", "update", made, "--resume")
    assert re.search(r"next at +\d{4}-\d\d-\d\d \d\d:00:00\n", cli("triggers", "get", made))
    cli("triggers", "delete", made)
    assert made not in cli("triggers", "list")

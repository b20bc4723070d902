"""`openlaunch init`, `diff` and `apply` make endpoints what a file says."""

import json
import os
import subprocess
import sys

import pytest
from server_driver import args

pytestmark = pytest.mark.slow

FILE = """
name = "shop"
secrets = ["project-token"]

[env]
GREETING = "Hello"

[endpoints.project-greet]
function = "app.py:greet"
max_workers = 1
memory = "64Mi"

[endpoints.project-later]
function = "app.py:greet"
type = "async"
min_workers = 0
max_workers = 1
memory = "64Mi"
env = { GREETING = "Later" }
"""
APP = """
import os

def greet(name: str = "world") -> str:
    return f"{os.environ['GREETING']}, {name}, {os.environ['PROJECT_TOKEN']}"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def command(client, folder):
    def run(*words, code=0):
        done = subprocess.run(
            [sys.executable, "-m", "openlaunch.cli", *words],
            capture_output=True,
            text=True,
            timeout=100,
            cwd=folder,
            env={**os.environ, "OPENLAUNCH_URL": client.url, "OPENLAUNCH_API_KEY": client.server.api_key},
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_a_file_is_applied_and_the_second_time_nothing_changes(client, command, folder):
    (folder / "openlaunch.toml").write_text(FILE)
    (folder / "app.py").write_text(APP)
    refused = command("apply", code=2)
    assert refused.count("the secret 'project-token' does not exist") == 2
    client.set_secret("project-token", "t")
    assert "+ endpoint project-greet: of app.py:greet" in command("diff")
    assert "2 to change" in command("diff")
    assert "2 changed" in command("apply")
    endpoint = client.get_model_endpoint("project-greet")
    assert endpoint.predict(args()).value == "Hello, world, t"
    state = endpoint.model_endpoint.last_updated_at
    assert "0 to change, 2 as they are" in command("diff")
    assert "0 changed, 2 as they are" in command("apply")
    assert client.get_model_endpoint("project-greet").model_endpoint.last_updated_at == state


def test_what_differs_is_shown_and_changed_and_what_is_left_out_is_reset(client, command, folder):
    (folder / "openlaunch.toml").write_text(
        FILE.replace('max_workers = 1\nmemory = "64Mi"\n\n', "max_workers = 2\n\n")
    )
    (folder / "app.py").write_text(APP.replace("world", "you"))
    shown = command("diff")
    assert "~ endpoint project-greet: code; request_schema; max_workers: 1 → 2; memory: 64Mi → 4Gi" in shown
    client.edit_model_endpoint(model_endpoint="project-later", timeout_seconds=5, labels={"by": "hand"})
    assert "timeout_seconds: 5.0 → None" in command("diff")
    assert "2 changed" in command("apply")
    assert "0 to change" in command("diff")


def test_what_the_file_names_no_longer_is_deleted_if_asked(client, command, folder):
    (folder / "openlaunch.toml").write_text(FILE.partition("[endpoints.project-later]")[0])
    assert "project-later: is not in the file any longer; --prune deletes it" in command("apply")
    assert "- endpoint project-later" in command("diff", "--prune")
    command("apply", "--prune")
    assert "project-later" not in command("diff", "--prune")
    steps = json.loads(command("diff", "--json").partition("\n0 to")[0])
    assert steps == {
        "refused": False,
        "steps": [{"mark": "=", "what": "endpoint project-greet", "details": []}],
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("max_workers", "max_worker"),
            "unknown key max_worker; did you mean max_workers?",
        ),
        (("function", "fnuction"), "has to have one of function, model, bundle"),
        (("[env]", "[envs]"), "there is an unknown key envs; did you mean env?"),
        (("max_workers = 1", "max_workers = 'many'"), "max_workers"),
        (("max_workers = 1", "max_workers ="), "can't be read"),
        (("app.py:greet", "app.py:gret"), "has no 'gret'"),
        (("app.py:greet", "app.py:gret"), "endpoint project-greet is refused:"),
        (('"app.py:greet"', "3"), "function is 3, a text is needed"),
        (('["project-token"]', '"project-token"'), "secrets is 'project-token', a list of names"),
        (("max_workers = 1", "secrets = 'a'"), "project-greet.secrets is 'a', a list of names"),
        (("max_workers = 1", "gpus = 1.5"), "give a whole number, or a part of one GPU"),
    ],
)
def test_what_cannot_be_served_is_refused_with_a_sentence(command, folder, change, said):
    (folder / "openlaunch.toml").write_text(FILE.replace(*change, 1))
    assert said in command("apply", code=2)


def test_a_bundle_of_a_command_and_a_table_in_pyproject(client, command, folder):
    (folder / "openlaunch.toml").unlink()
    (folder / "pyproject.toml").write_text("""
[tool.openlaunch.bundles.project-command]
command = ["python", "-m", "http.server", "$PORT", "--bind", "127.0.0.1"]
healthcheck_route = "/"

[tool.openlaunch.endpoints.project-served]
bundle = "project-command"
max_workers = 1
""")
    assert "+ bundle project-command" in command("apply")
    assert "0 to change, 2 as they are" in command("diff").replace("=", "")


def test_init_writes_an_example_that_works(client, command, tmp_path, folder):
    for name in ("openlaunch.toml", "app.py", "pyproject.toml"):
        (folder / name).unlink(missing_ok=True)
    command("init")
    assert "1 changed" in command("apply")
    assert client.get_model_endpoint("greet").predict(args(name="you")).value == "Hello, you!"
    assert "already exists" in command("init", code=2)
    (folder / "openlaunch.toml").unlink()
    said = command("init")  # the app.py of before may have other functions
    assert "name a function of it in openlaunch.toml" in said
    assert "app.py:greet" not in said

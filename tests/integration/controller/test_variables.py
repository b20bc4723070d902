"""Environment variables of endpoints: every kind of bundle sees them, and a change of them replaces the workers."""

import json
import os

import pytest
from both_clients import FLAVOURS, Both
from model_server import model_server
from server_driver import SMALL, args, eventually, http, problem, running
from typer.testing import CliRunner

from openlaunch.cli.app import app
from openlaunch.errors import Unprocessable

ONE = {**SMALL, "max_workers": 1}
SERVER = model_server("""
    def do_POST(self):
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(200, json.dumps({name: os.environ.get(name) for name in given["names"]}).encode())
""")


def see(names):
    import time

    return {name: os.environ.get(name) for name in names} | {"zone": time.tzname[0]}


def seen_by(client, name, *names):
    return client.get_model_endpoint(name).predict(args(names=list(names))).value


def test_a_function_sees_them_before_its_code_is_imported(client, tmp_path):
    (tmp_path / "reads_early.py").write_text("import os\nSEEN = os.environ.get('OMP_NUM_THREADS')\n")

    def early():
        import reads_early

        return reads_early.SEEN

    env = {"OMP_NUM_THREADS": "1", "GREETING": "hällo\nyou", "EMPTY": "", "TZ": "UTC-3"}
    client.deploy(see, name="va-function", env=env, **ONE)
    assert seen_by(client, "va-function", *env) == {**env, "zone": "UTC"}
    endpoint = client.deploy(early, name="va-early", env=env, code_dir=tmp_path, **ONE)
    assert endpoint.predict(args()).value == "1"


def test_they_are_shown_to_the_owner_alone(client):
    client.deploy(see, name="va-shown", env={"A": "s3en"}, public_inference=True, **ONE)
    assert client.get_model_endpoint("va-shown").model_endpoint.env == {"A": "s3en"}
    key = client.create_api_key("somebody", "user").api_key
    with http(client, key) as other:
        assert "s3en" not in other.get("/v1/model-endpoints", params={"public": "true"}).text


def test_a_deploy_keeps_them_and_a_change_replaces_the_workers(client):
    def who(names):
        return [os.getcwd(), *see(names).values()]

    first = client.deploy(who, name="va-kept", env={"A": "1", "B": "2"}, **ONE).predict(
        args(names=["A", "B"])
    )
    again = client.deploy(who, name="va-kept", **ONE).predict(args(names=["A", "B"]))
    assert again.value == first.value, "nothing has changed"
    changed = client.deploy(who, name="va-kept", env={"B": "3"}, **ONE)
    assert changed.changes == ["env"]
    assert eventually(lambda: changed.predict(args(names=["A", "B"])).value[1:3] == [None, "3"])
    client.deploy(who, name="va-kept", env={}, **ONE)
    assert not client.get_model_endpoint("va-kept").model_endpoint.env


def test_a_command_sees_them_over_those_of_its_bundle(client, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "server.py").write_text(SERVER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        bundle = client.create_model_bundle_from_command(
            model_bundle_name="va-command",
            command=["python", "app/server.py"],
            base_paths=["app"],
            env={"A": "bundle", "B": "bundle"},
        )
    endpoint = client.create_model_endpoint(
        endpoint_name="va-command", model_bundle=bundle, env={"B": "endpoint", "C": "endpoint"}, **ONE
    )
    endpoint.wait_until_ready()
    seen = {"A": "bundle", "B": "endpoint", "C": "endpoint"}
    assert seen_by(client, "va-command", *seen) == seen


@pytest.mark.slow
def test_an_image_sees_them_over_those_of_its_bundle(engine):
    from container_driver import IMAGE, PYTHON

    source = SERVER.replace("127.0.0.1", "0.0.0.0")
    with running(**engine.settings()) as client:
        bundle = client.create_model_bundle_from_runnable_image_v2(
            model_bundle_name="va-image",
            repository=IMAGE[0],
            tag=IMAGE[1],
            command=[PYTHON, "-c", source],
            env={"A": "bundle", "B": "bundle"},
            readiness_initial_delay_seconds=60,
        )
        client.create_model_endpoint(
            endpoint_name="va-image", model_bundle=bundle, env={"B": "endpoint"}, **ONE
        ).wait_until_ready()
        assert seen_by(client, "va-image", "A", "B") == {"A": "bundle", "B": "endpoint"}


def test_a_batch_job_gives_them_to_its_workers(client):
    client.deploy(see, name="va-batch", min_workers=0, **SMALL)
    job = client.batch_async_request(
        model_bundle="va-batch", inputs=[{"names": ["A"]}], env={"A": "1"}, cpus=0.1, memory="64Mi"
    )
    client.wait_for_batch_job(job["job_id"], 60)
    assert client.read_batch_results(job["job_id"])[0]["result"]["A"] == "1"


@pytest.mark.parametrize(
    "name", ["", "1A", "A-B", "A=B", "PATH", "path", "OPENLAUNCH_X", "LD_PRELOAD", "PORT", "A" * 129]
)
def test_a_name_that_is_not_allowed_is_refused_with_what_is(client, raw, name):
    client.deploy(see, name="va-refused", **ONE)
    endpoint = client.get_model_endpoint("va-refused").model_endpoint
    answer = raw.put(f"/v1/model-endpoints/{endpoint.id}", json={"env": {name: "s3cret"}})
    (error,) = problem(answer, 422)["detail"]
    detail = error["msg"]
    assert error["loc"] == ["body", "env"]
    assert "allowed" in detail or "LD_" in detail
    assert "s3cret" not in answer.text
    assert client.get_model_endpoint("va-refused").model_endpoint.env is None


@pytest.mark.parametrize(
    "env", [{f"A{i}": "" for i in range(101)}, {"A": "x" * 65537}, {"A": "\0"}, {"A": "\ud800"}, {"A": 1}]
)
def test_they_are_bounded_before_a_bundle_is_made(client, env):
    before = len(client.list_model_bundles_v2().model_bundles)
    with pytest.raises((Unprocessable, TypeError, ValueError)) as refused:
        client.deploy(see, name="va-bounded", env=env, **ONE)
    assert "xxxx" not in str(refused.value)
    assert len(client.list_model_bundles_v2().model_bundles) == before


def test_the_command_line_takes_and_shows_them(client, tmp_path):
    (tmp_path / "app.py").write_text("import os\n\n\ndef see():\n    return os.environ['A']\n")
    environ = {"OPENLAUNCH_URL": client.server.url, "OPENLAUNCH_API_KEY": client.server.api_key}
    options = ["--name", "va-cli", "--env", "A=x=y", "--env", "B=", "--cpus", "0.1", "--memory", "64Mi"]
    deployed = CliRunner().invoke(app, ["deploy", f"{tmp_path}/app.py:see", *options], env=environ)
    assert deployed.exit_code == 0, deployed.output
    assert client.get_model_endpoint("va-cli").predict(args()).value == "x=y"
    shown = CliRunner().invoke(app, ["endpoints", "get", "va-cli"], env=environ)
    assert "A=x=y, B=" in shown.output
    listed = CliRunner().invoke(app, ["endpoints", "get", "va-cli", "--json"], env=environ)
    assert json.loads(listed.output)["env"] == {"A": "x=y", "B": ""}


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_both_clients_give_them(client, flavour):
    both = Both(flavour, client.server.url, client.server.api_key)
    try:
        endpoint = both.call(both.client.deploy, see, name="va-both", env={"WHO": flavour}, **ONE)
        assert both.call(endpoint.predict, args(names=["WHO"])).value["WHO"] == flavour
    finally:
        both.close()

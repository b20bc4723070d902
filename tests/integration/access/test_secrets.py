"""Secrets of owners: only their own workers see them, and they are found in clear nowhere else."""

import os
import stat
import subprocess
from pathlib import Path

import pytest
from both_clients import FLAVOURS, Both
from container_driver import IMAGE, PYTHON
from model_server import model_server
from records import ON_POSTGRES
from server_driver import SMALL, args, eventually, problem, running
from typer.testing import CliRunner

from openlaunch import LaunchClient
from openlaunch.cli.app import app
from openlaunch.errors import Conflict, EndpointFailed, NotFound, Unprocessable
from openlaunch.server.access.vault import Undecipherable, Vault
from openlaunch.server.operations.backup import back_up
from openlaunch.server.operations.datadir import DataDir

ONE = {**SMALL, "max_workers": 1}
VALUE = "hf_s3cret-that-nobody-sees"
SERVER = model_server("""
    def do_POST(self):
        self.answer(200, json.dumps(os.environ.get("HF_TOKEN")).encode())
""")


def token(name="HF_TOKEN"):
    return os.environ.get(name)


@pytest.fixture(scope="module")
def client():
    with running() as client:
        client.set_secret("hf-token", VALUE)
        yield client


@pytest.fixture(scope="module")
def stranger(client):
    key = client.create_api_key("stranger").api_key
    with LaunchClient(key, client.server.url, max_retries=0) as other:
        yield other


@pytest.fixture(scope="module")
def served(client):
    return client.deploy(token, name="sec-served", secrets=["hf-token"], **ONE)


def test_workers_of_the_owner_see_it_and_nothing_shows_it(client, raw, served):
    assert served.predict(args()).value == VALUE
    assert client.get_model_endpoint("sec-served").model_endpoint.secrets == ["hf-token"]
    (listed,) = [each for each in client.list_secrets() if each.name == "hf-token"]
    assert (listed.variable, listed.endpoints[:1]) == ("HF_TOKEN", ["sec-served"])
    raw.put("/v1/secrets/hf-token", json={"value": VALUE})
    shown = [
        raw.get(path).text for path in ("/v1/secrets", "/v1/model-endpoints", "/v1/audit-log?limit=1000")
    ]
    shown += [repr(listed), subprocess.run(["ps", "auxeww"], capture_output=True, text=True).stdout]
    shown += [path.read_text() for path in client.server.data_dir.rglob("*.log")]
    assert not [text for text in shown if VALUE in text]


def test_no_file_of_the_server_and_no_backup_has_it_in_clear(client, served, tmp_path):
    data = DataDir(client.server.data_dir)
    files = [path for path in data.root.rglob("*") if path.is_file()]
    assert not [path for path in files if VALUE.encode() in path.read_bytes()]
    assert stat.S_IMODE((data.root / "secrets-key").stat().st_mode) == 0o600
    if not ON_POSTGRES:
        back_up(data, tmp_path / "backup.tar")
        backup = (tmp_path / "backup.tar").read_bytes()
        assert VALUE.encode() not in backup
        assert (data.root / "secrets-key").read_bytes().strip() not in backup
        assert b"hf-token" in backup, "the encrypted secret is in it"


def test_a_secret_of_another_owner_does_not_exist(client, stranger):
    with pytest.raises(Unprocessable, match=r"'hf-token' does not exist .*openlaunch secrets set hf-token"):
        stranger.deploy(token, name="sec-stranger", secrets=["hf-token"], **ONE)
    assert stranger.list_secrets() == []
    with pytest.raises(NotFound):
        stranger.delete_secret("hf-token")
    stranger.set_secret("hf-token", "theirs")
    assert (
        stranger.deploy(token, name="sec-stranger", secrets=["hf-token"], **ONE).predict(args()).value
        == "theirs"
    )


def test_an_endpoint_with_secrets_goes_to_an_owner_who_has_them(client, served):
    client.create_api_key("nobody")
    with pytest.raises(Unprocessable, match="does not exist"):
        client.hand_over_model_endpoint("sec-served", "nobody")


def test_a_changed_secret_replaces_the_workers_and_the_same_one_does_not(client, raw):
    client.set_secret("rolls", "1")
    endpoint = client.deploy(
        lambda: [os.environ["ROLLS"], os.getcwd()], name="sec-rolls", secrets=["rolls"], **ONE
    )
    first = endpoint.predict(args()).value
    client.set_secret("rolls", "1")
    assert endpoint.predict(args()).value == first
    client.set_secret("rolls", "2")
    assert eventually(lambda: endpoint.predict(args()).value[0] == "2")
    events = f"/v1/model-endpoints/{endpoint.model_endpoint.id}/events"
    assert "the secret rolls has changed" in raw.get(events).text


def test_one_that_is_used_can_not_be_deleted(client):
    client.set_secret("kept", "1")
    client.deploy(token, name="sec-kept", secrets=["kept"], **ONE)
    with pytest.raises(Conflict, match="sec-kept"):
        client.delete_secret("kept")
    client.edit_model_endpoint(model_endpoint="sec-kept", secrets=[])
    client.delete_secret("kept")
    assert "kept" not in [each.name for each in client.list_secrets()]


def test_a_missing_one_fails_the_deploy_at_once_and_leaves_nothing(client):
    with pytest.raises(Unprocessable, match="does not exist"):
        client.deploy(token, name="sec-missing", secrets=["not-there"], **ONE)
    with pytest.raises(NotFound):
        client.get_model_endpoint("sec-missing")


@pytest.mark.parametrize(
    "name", ["a b", "1a", "path", "PORT", "ld-preload", "openlaunch-api-key", "a" * 65, "a.b"]
)
def test_a_name_that_is_not_allowed_is_refused(raw, name):
    answer = raw.put(f"/v1/secrets/{name}", json={"value": VALUE})
    assert problem(answer, 422)
    assert VALUE not in answer.text


@pytest.mark.parametrize("value", ["", "x" * 32769, VALUE + "\0", 1, None, [VALUE]])
def test_a_value_that_is_not_allowed_is_refused_and_not_shown(raw, value):
    answer = raw.put("/v1/secrets/refused", json={"value": value})
    assert problem(answer, 422)
    assert VALUE not in answer.text


def test_two_names_of_one_variable_are_refused(client):
    client.set_secret("twice", "1")
    client.set_secret("TWICE", "2")
    with pytest.raises(Unprocessable, match="TWICE"):
        client.deploy(token, name="sec-twice", secrets=["twice", "TWICE"], **ONE)
    with pytest.raises(Unprocessable, match="TWICE"):
        client.deploy(token, name="sec-twice", secrets=["twice"], env={"TWICE": "3"}, **ONE)


def test_a_batch_job_has_those_of_its_owner(stranger):
    stranger.set_secret("job", "batch")
    stranger.deploy(token, name="sec-job", min_workers=0, **SMALL)
    job = stranger.batch_async_request(
        model_bundle="sec-job", inputs=[{"name": "JOB"}], secrets=["job"], cpus=0.1, memory="64Mi"
    )
    stranger.wait_for_batch_job(job["job_id"], 60)
    assert stranger.read_batch_results(job["job_id"])[0]["result"] == "batch"


def test_a_new_key_encrypts_all_of_them_again(client, served):
    file = client.server.data_dir / "secrets-key"
    before = file.read_text()
    assert client.rotate_secrets() >= 1
    assert file.read_text() != before
    assert len(file.read_text().split()) == 1
    client.restart_model_endpoint("sec-served")
    served.wait_until_ready()
    assert served.predict(args()).value == VALUE


def test_a_secret_whose_key_is_lost_is_named(tmp_path):
    with running(tmp_path) as client:
        client.set_secret("lost", VALUE)
    (tmp_path / "secrets-key").unlink()
    with running(tmp_path) as client:
        with pytest.raises(EndpointFailed, match="'lost' was stored with a key"):
            client.deploy(token, name="sec-lost", secrets=["lost"], **ONE)
        client.set_secret("lost", VALUE)
        eventually(lambda: client.get_model_endpoint("sec-lost").model_endpoint.status == "READY")
        assert client.get_model_endpoint("sec-lost").predict(args(name="LOST")).value == VALUE


def test_keys_from_the_environment_take_turns(tmp_path):
    old, new = "ab" * 32, "cd" * 32
    data = DataDir(tmp_path)
    from pydantic import SecretStr

    sealed = Vault(data.keys, SecretStr(old), shared=True).seal("ada", "a", VALUE)
    both = Vault(data.keys, SecretStr(f"{new},{old}"), shared=True)
    assert both.open("ada", "a", sealed) == VALUE
    again = both.seal("ada", "a", VALUE)
    assert Vault(data.keys, SecretStr(new), shared=True).open("ada", "a", again) == VALUE
    for owner, name in (("bob", "a"), ("ada", "b")):
        with pytest.raises(Undecipherable):
            both.open(owner, name, again)
    assert not (tmp_path / "secrets-key").exists()


def test_the_command_line_reads_the_value_from_standard_input(client, tmp_path):
    environ = {"OPENLAUNCH_URL": client.server.url, "OPENLAUNCH_API_KEY": client.server.api_key}

    def invoke(*command, **options):
        done = CliRunner().invoke(app, ["secrets", *command], env=environ, **options)
        assert done.exit_code == 0, done.output
        assert "typed" not in done.output
        return done.output

    assert "CLI_TOKEN" in invoke("set", "cli-token", input="typed\n")
    endpoint = client.deploy(token, name="sec-cli", secrets=["cli-token"], **ONE)
    assert endpoint.predict(args(name="CLI_TOKEN")).value == "typed"
    (tmp_path / "value").write_text("typed again\n")
    invoke("set", "cli-token", "--file", str(tmp_path / "value"))
    assert "sec-cli" in invoke("list")
    eventually(lambda: endpoint.predict(args(name="CLI_TOKEN")).value == "typed again")
    assert "new key" in invoke("rotate")
    client.set_secret("cli-other", "1")
    invoke("delete", "cli-other")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_both_clients_have_them(client, flavour):
    both = Both(flavour, client.server.url, client.server.api_key)
    try:
        assert both.call(both.client.set_secret, f"both-{flavour}", "1").endpoints == []
        assert f"both-{flavour}" in [each.name for each in both.call(both.client.list_secrets)]
        both.call(both.client.delete_secret, f"both-{flavour}")
    finally:
        both.close()


@pytest.mark.slow
def test_an_image_has_it_and_no_list_of_processes_shows_it(engine):
    with running(**engine.settings()) as client:
        for name in ("hf-token", "registry-password"):
            client.set_secret(name, VALUE)
        bundle = client.create_model_bundle_from_runnable_image_v2(
            model_bundle_name="sec-image",
            repository=IMAGE[0],
            tag=IMAGE[1],
            command=[PYTHON, "-c", SERVER.replace("127.0.0.1", "0.0.0.0")],
            readiness_initial_delay_seconds=60,
        )
        with pytest.raises(Unprocessable, match="REGISTRY_PASSWORD"):
            client.create_model_endpoint(
                endpoint_name="sec-image", model_bundle=bundle, secrets=["registry-password"], **ONE
            )
        endpoint = client.create_model_endpoint(
            endpoint_name="sec-image", model_bundle=bundle, secrets=["hf-token"], **ONE
        )
        endpoint.wait_until_ready()
        assert endpoint.predict(args()).value == VALUE
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert VALUE.encode() not in line.read_bytes()
            except OSError:
                continue

"""Admins see and steer what every owner has, and public endpoints are called by all."""

import json
from urllib.parse import quote

import pytest
from server_driver import SMALL, args, eventually, http, problem, running

from openlaunch import LaunchClient
from openlaunch.cli.app import run
from openlaunch.errors import Conflict, Forbidden, NotFound, Unavailable, Unprocessable

LISTS = {
    "/v1/model-endpoints": "model_endpoints",
    "/v2/model-bundles": "model_bundles",
    "/v1/async-tasks": "tasks",
    "/v1/batch-jobs": "batch_jobs",
    "/v1/docker-image-batch-job-bundles": "docker_image_batch_job_bundles",
    "/v1/docker-image-batch-jobs": "jobs",
    "/v1/triggers": "triggers",
    "/v1/files": "files",
}
IMAGE = {"cpus": "0.1", "memory": "64Mi", "storage": "1Gi"}


@pytest.fixture(scope="module")
def admin():
    with running() as client:
        yield client


@pytest.fixture(scope="module")
def people(admin):
    """Clients of two owners."""
    keys = {name: admin.create_api_key(name).api_key for name in ("ada", "bob")}
    with (
        LaunchClient(keys["ada"], admin.server.url, max_retries=0) as ada,
        LaunchClient(keys["bob"], admin.server.url, max_retries=0) as bob,
    ):
        yield {"ada": ada, "bob": bob, "keys": keys}


@pytest.fixture(scope="module")
def ada(people):
    return people["ada"]


@pytest.fixture(scope="module")
def bob(people):
    return people["bob"]


@pytest.fixture(scope="module")
def things(admin, people):
    """One of each kind of thing for both owners, of the same names."""
    for name in ("ada", "bob"):
        client = people[name]
        later = client.deploy(lambda x: 2 * x, name="later", endpoint_type="async", **SMALL)
        assert later.predict(args(x=2)).get(60).value == 4
        client.batch_async_request(model_bundle="later", inputs=[{"x": 1}], **SMALL)
        image = client.create_docker_image_batch_job_bundle(
            name="image", image_repository="none/none", image_tag="1", command=["true"], **IMAGE
        )
        client.create_trigger(
            name="yearly", cron_schedule="0 0 1 1 *", bundle_id=image["docker_image_batch_job_bundle_id"]
        )
        client.set_secret("token", "a secret")
        client.create_subscription("http://127.0.0.1:9/")
        with http(admin, people["keys"][name]) as raw:
            raw.post("/v1/files", files={"file": ("a.txt", b"text")})
            raw.post(
                "/v1/docker-image-batch-jobs",
                json={"docker_image_batch_job_bundle_name": "image", "labels": {}},
            )


def owners(found):
    return {each.get("owner") or each.get("created_by") for each in found}


@pytest.mark.parametrize("path", LISTS)
def test_an_admin_lists_what_one_owner_or_everybody_has(admin, people, things, path):
    def listed(key=None, **query):
        with http(admin, key) as raw:
            return owners(raw.get(path, params=query).json()[LISTS[path]])

    assert listed() == set()
    assert listed(owner="ada") == {"ada"}
    assert listed(owner="*") == {"ada", "bob"}
    assert listed(people["keys"]["bob"]) == listed(people["keys"]["bob"], owner="bob") == {"bob"}
    with http(admin, people["keys"]["bob"]) as raw:
        for owner in ("ada", "*"):
            refusal = problem(raw.get(path, params={"owner": owner}), 403)
            assert "needs a key with the role admin; yours has the role user" in refusal["detail"]
    with http(admin) as raw:
        unknown = problem(raw.get(path, params={"owner": "adda"}), 404)
        assert "there is no owner 'adda'" in unknown["detail"]
        assert "similar names: ada" in unknown["detail"]


def test_an_admin_steers_what_another_owner_has_by_its_name(admin, bob, ada, things):
    name = bob.deploy(lambda x: x, name="steered", **SMALL).name
    with pytest.raises(NotFound, match="there is no endpoint 'steered'"):
        admin.get_model_endpoint(name)
    theirs = admin.get_model_endpoint("bob/steered").model_endpoint
    assert (theirs.created_by, theirs.bundle_name) == ("bob", "steered")
    changed = admin.edit_model_endpoint(model_endpoint="bob/steered", max_workers=3)
    assert changed.model_endpoint.deployment_state.max_workers == 3
    assert admin.restart_model_endpoint("bob/steered")
    bob.get_model_endpoint("steered").wait_until_ready(60)
    assert "restarted: its workers are replaced" in [
        e.message for e in admin.list_endpoint_events("bob/steered").events
    ]
    assert isinstance(admin.read_endpoint_logs("bob/steered"), str)
    assert isinstance(admin.read_endpoint_creation_logs("bob/steered"), str)
    assert admin.explain_endpoint("bob/steered").ready_workers == 1
    assert admin.get_latest_model_bundle_v2("bob/steered").owner == "bob"
    with pytest.raises(Forbidden, match="yours has the role user"):
        ada.get_latest_model_bundle_v2("bob/steered")
    for attempt in (ada.get_model_endpoint, ada.delete_model_endpoint, ada.read_endpoint_logs):
        with pytest.raises(NotFound, match="there is no endpoint 'bob/steered'"):
            attempt("bob/steered")
    with pytest.raises(NotFound, match=r"there is no owner 'bobb'.*similar names: bob"):
        admin.get_model_endpoint("bobb/steered")
    admin.delete_model_endpoint("bob/steered")
    entries = admin.list_audit_log(owner="bob", object_id=theirs.id).entries
    assert [(e.owner, e.object_owner, e.action) for e in entries[:3]] == [
        ("admin", "bob", "delete_model_endpoint"),
        ("admin", "bob", "restart_model_endpoint"),
        ("admin", "bob", "update_model_endpoint"),
    ]
    eventually(lambda: not [e for e in bob.list_model_endpoints() if e.name == "steered"])


def test_names_with_a_slash_work_in_urls_escaped_or_not(admin, people, things):
    for name in ("bob/later", quote("bob/later", safe="")):
        with http(admin) as raw:
            assert raw.get(f"/v1/hosted_inference/endpoints/creation_logs/{name}").status_code == 200
            listed = raw.get(f"/v1/model-endpoints?name={name}").json()["model_endpoints"]
            assert owners(listed) == {"bob"}
            assert raw.get(f"/v2/model-bundles/latest?model_name={name}").json()["owner"] == "bob"
            assert owners(raw.get(f"/v2/model-bundles?model_name={name}").json()["model_bundles"]) == {"bob"}
        with http(admin, people["keys"]["ada"]) as raw:
            assert raw.get(f"/v1/hosted_inference/endpoints/creation_logs/{name}").status_code == 404
            assert raw.get(f"/v1/model-endpoints?name={name}").json() == {"model_endpoints": []}


def test_an_admin_steers_tasks_and_jobs_by_their_ids(admin, bob, ada, things):
    endpoint = bob.deploy(lambda x: x / 0, name="fails", endpoint_type="async", **SMALL)
    task = endpoint.predict(args(x=1))
    assert task.get(60).status == "FAILURE"
    task_id = task.async_task_id
    assert admin.future(task_id).get(10).status == admin.get_task(task_id).status == "FAILURE"
    assert admin.get_task_details(task_id).owner == "bob"
    assert admin.get_task_payload(task_id)["args"] == {"x": 1}
    again = admin.rerun_task(task_id)
    assert bob.future(again.async_task_id).get(60).status == "FAILURE"
    assert admin.cancel_task(again.async_task_id) is False
    for attempt in (
        ada.get_task,
        ada.get_task_details,
        ada.cancel_task,
        ada.rerun_task,
        ada.get_task_payload,
    ):
        with pytest.raises(NotFound):
            attempt(task_id)
    (job, *_) = admin.list_batch_jobs(owner="bob")
    assert admin.wait_for_batch_job(job["job_id"], 60, show_progress=False)["owner"] == "bob"
    assert [entry["result"] for entry in admin.read_batch_results(job["job_id"])] == [2]
    (trigger,) = admin.list_triggers(owner="bob")
    admin.update_trigger(trigger["id"], suspend=True)
    assert bob.get_trigger(trigger["id"])["suspended"]


def test_tasks_of_all_owners_are_listed_without_the_inputs_of_batch_jobs(admin, ada, bob, things):
    found = admin.list_tasks(owner="*").tasks
    assert {task.owner for task in found} == {"ada", "bob"}
    done = admin.list_tasks(status="SUCCESS", owner="*", limit=1)
    assert done.next_cursor
    assert len(done.tasks) == 1
    assert {t.owner for t in admin.list_tasks("bob/later").tasks} == {"bob"}
    assert admin.list_tasks("bob/later", owner="ada").tasks == []


def test_a_client_can_work_for_another_owner(admin, bob, people, things):
    with LaunchClient(admin.server.api_key, admin.server.url, owner="bob", max_retries=0) as deputy:
        assert deputy.get_model_endpoint("later").model_endpoint.created_by == "bob"
        made = deputy.deploy(lambda x: x + 1, name="made-for-bob", endpoint_type="async", **SMALL)
        task = made.predict(args(x=1))
        assert task.get(60).value == 2
        assert bob.future(task.async_task_id).get(10).value == 2
        deputy.delete_model_endpoint(made)
    with LaunchClient(admin.server.api_key, admin.server.url, owner="*") as everybody:
        with pytest.raises(
            Unprocessable, match=r"of 2 endpoints: give ada/later or bob/later|bob/later or ada"
        ):
            everybody.get_model_endpoint("later")
        with http(admin) as raw:
            assert problem(raw.post("/v1/files?owner=*", files={"file": ("a", b"")}), 400)
    with (
        LaunchClient(people["keys"]["bob"], admin.server.url, owner="ada") as pretender,
        pytest.raises(Forbidden, match="yours has the role user"),
    ):
        pretender.list_model_endpoints()
    with http(admin, people["keys"]["bob"]) as raw:
        endpoint_id = bob.get_model_endpoint("later").model_endpoint.id
        query = f"model_endpoint_id={endpoint_id}&owner=ada"
        for method, path in (("POST", "/v1/async-tasks"), ("GET", "/v1/async-tasks/x")):
            assert raw.request(method, f"{path}?{query}", json={"args": {"x": 1}}).status_code == 403


def test_keys_and_the_audit_log_are_listed_by_owner(admin, people, things):
    assert {key.owner for key in admin.list_api_keys(owner="ada")} == {"ada"}
    assert {key.owner for key in admin.list_api_keys()} >= {"ada", "bob", "admin"}
    entries = admin.list_audit_log(owner="ada", limit=1000).entries
    assert {e.owner for e in entries} == {"ada"}


@pytest.fixture
def cli(admin, people, monkeypatch, capsys):
    """Runs a command with the key of an owner: exit code, stdout, stderr."""
    monkeypatch.setenv("OPENLAUNCH_URL", admin.server.url)

    def command(who, *arguments):
        monkeypatch.setenv("OPENLAUNCH_API_KEY", people["keys"].get(who, admin.server.api_key))
        code = run(arguments)
        return code, *capsys.readouterr()

    return command


def table(out):
    head, *rows = [line.split("\t") for line in out.splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    "noun",
    ["endpoints", "bundles", "tasks", "batch-jobs", "image-jobs", "triggers", "secrets", "subscriptions"],
)
def test_commands_list_what_an_owner_or_everybody_has(cli, things, noun):
    def lists():  # jobs and workers move on between two commands
        _, own, _ = cli("bob", noun, "list")
        _, theirs, _ = cli("admin", noun, "list", "--owner", "bob")
        return own if own == theirs else None

    own = eventually(lists)
    _, everybodys, _ = cli("admin", noun, "list", "--all")
    assert "OWNER" not in table(own)[0]
    assert {row["OWNER"] for row in table(everybodys)} == {"ada", "bob"}
    for option in (("--owner", "ada"), ("--all",)):
        code, out, err = cli("bob", noun, "list", *option)
        assert (code, out) == (4, "")
        assert "yours has the role user" in err


def test_commands_name_what_another_owner_has(cli, bob, things):
    bob.deploy(lambda x: x, name="for-commands", wait=False, **SMALL)
    for name in (("bob/for-commands",), ("for-commands", "--owner", "bob")):
        code, out, _ = cli("admin", "endpoints", "get", *name, "--json")
        assert (code, json.loads(out)["created_by"]) == (0, "bob")
    assert cli("admin", "endpoints", "edit", "bob/for-commands", "--max-workers", "2", "--no-wait")[0] == 0
    assert cli("admin", "endpoints", "events", "bob/for-commands")[0] == 0
    assert cli("admin", "endpoints", "logs", "bob/for-commands", "--creation")[0] == 0
    assert cli("admin", "endpoints", "delete", "bob/for-commands", "--yes")[0] == 0
    assert "bob" in cli("admin", "bundles", "get", "bob/later", "--json")[1]
    _, out, _ = cli("admin", "audit", "list", "--owner", "bob", "--action", "delete_model_endpoint")
    assert table(out)[0]["OWNER"] == "admin"
    assert table(out)[0]["OBJECT"].endswith(" of bob")
    code, _, err = cli("admin", "endpoints", "list", "--owner", "bob", "--all")
    assert code == 2
    assert "give one of them" in err


def test_public_endpoints_are_listed_and_called_by_commands(cli, bob, ada):
    bob.deploy(lambda x: 3 * x, name="triple", public=True, **SMALL)
    assert ada.get_model_endpoint("bob/triple").predict(args(x=2)).value == 6
    assert cli("ada", "predict", "bob/triple", "--args", '{"x": 3}')[:2] == (0, "9\n")
    rows = table(cli("ada", "endpoints", "list", "--public")[1])
    assert [(row["OWNER"], row["NAME"], row["BUNDLE"]) for row in rows] == [("bob", "triple", "-")]
    assert cli("bob", "endpoints", "edit", "triple", "--no-public")[0] == 0
    code, _, err = cli("ada", "predict", "bob/triple", "--args", '{"x": 3}')
    assert code == 3
    assert "there is no endpoint 'bob/triple'" in err
    assert cli("bob", "endpoints", "edit", "triple", "--public")[0] == 0
    with pytest.raises(NotFound, match="similar names: bob/triple"):
        ada.get_model_endpoint("bob/tripple")
    bob.delete_model_endpoint("triple")


def test_an_admin_hands_an_endpoint_over(admin, ada, bob, cli):
    """It serves all the time; the new owner can change it, and the old one no longer sees it."""
    endpoint = bob.deploy(lambda x: 2 * x, name="moves", **SMALL)
    assert endpoint.predict(args(x=1)).value == 2
    with pytest.raises(Forbidden, match="yours has the role user"):
        bob.hand_over_model_endpoint("moves", "ada")
    with pytest.raises(NotFound, match="there is no owner 'adda'"):
        admin.hand_over_model_endpoint("bob/moves", "adda")
    with pytest.raises(Conflict, match="belongs to 'bob' already"):
        admin.hand_over_model_endpoint("bob/moves", "bob")
    code, out, _ = cli("admin", "endpoints", "hand-over", "bob/moves", "ada", "--json")
    assert (code, json.loads(out)["created_by"]) == (0, "ada")
    theirs = ada.get_model_endpoint("moves")
    assert theirs.predict(args(x=2)).value == 4
    theirs.wait_until_ready(60)
    assert theirs.predict(args(x=3)).value == 6
    for attempt in (bob.get_model_endpoint, bob.restart_model_endpoint):
        with pytest.raises(NotFound, match="there is no endpoint 'moves'"):
            attempt("moves")
    with pytest.raises(NotFound):
        endpoint.predict(args(x=1))
    assert ada.edit_model_endpoint(model_endpoint="moves", model_bundle="moves", per_worker=2)
    assert bob.get_latest_model_bundle_v2("moves").id != ada.get_latest_model_bundle_v2("moves").id
    (entry,) = admin.list_audit_log(
        action="hand_over_model_endpoint", object_id=theirs.model_endpoint.id
    ).entries[:1]
    assert (entry.owner, entry.object_owner, entry.summary) == ("admin", "bob", {"owner": "ada"})
    bob.deploy(lambda x: x, name="moves", wait=False, min_workers=0, **SMALL)
    with pytest.raises(Conflict, match="an endpoint named 'moves' exists"):
        admin.hand_over_model_endpoint("bob/moves", "ada")
    admin.set_quotas("bob", endpoints=1)
    with pytest.raises(Forbidden, match="the owner 'bob' would have"):
        admin.hand_over_model_endpoint(bob_named(ada), "bob")
    admin.set_quotas("bob", endpoints="unlimited")
    bob.delete_model_endpoint("moves")
    ada.delete_model_endpoint("moves")


def bob_named(ada):
    """An endpoint of a name that bob has none of."""
    return ada.deploy(lambda x: x, name="only-adas", wait=False, min_workers=0, **SMALL)


def test_an_endpoint_is_stopped_and_started_again(cli, bob):
    endpoint = bob.deploy(lambda x: x, name="stops", max_workers=2, **SMALL)
    code, _, err = cli("admin", "endpoints", "stop", "bob/stops")
    assert code == 0
    assert "start it again with: openlaunch endpoints edit bob/stops --min-workers 1 --max-workers 2" in err
    with pytest.raises(Unavailable, match="max_workers=0"):
        eventually(lambda: endpoint.predict(args(x=1)) and None)
    again = ("--min-workers", "1", "--max-workers", "2")
    assert cli("admin", "endpoints", "edit", "bob/stops", *again)[0] == 0
    assert endpoint.predict(args(x=1)).value == 1
    bob.delete_model_endpoint("stops")


def test_an_admin_makes_things_for_an_owner_by_their_names(admin, ada, bob):
    settings = {"wait": False, "min_workers": 0, **SMALL}
    endpoint = admin.deploy(lambda x: x, name="bob/made", **settings).model_endpoint
    assert (endpoint.created_by, endpoint.name) == ("bob", "made")
    assert bob.get_latest_model_bundle_v2("made").owner == "bob"
    again = admin.create_model_endpoint(
        endpoint_name="bob/again", model_bundle="bob/made", min_workers=0, max_workers=1, **SMALL
    )
    assert again.model_endpoint.created_by == "bob"
    with pytest.raises(Forbidden, match="yours has the role user"):
        ada.deploy(lambda x: x, name="bob/made", **settings)
    with pytest.raises(NotFound, match="there is no owner 'bobb'"):
        admin.deploy(lambda x: x, name="bobb/made", **settings)
    for name in ("made", "again"):
        bob.delete_model_endpoint(name)

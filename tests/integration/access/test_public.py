"""What those may do who call a public endpoint that is somebody else's: one test for each cell of the table in
docs/concepts/security.md."""

import pytest
from pydantic import BaseModel
from server_driver import SMALL, args, eventually, http, running

from openlaunch import LaunchClient
from openlaunch.errors import NotFound, TooManyRequests

OWNER, CALLER, ADMIN = "owner", "caller", "admin"
WHO = (OWNER, CALLER, ADMIN)


class Number(BaseModel):
    x: int


def double(x):
    if x < 0:
        raise ValueError("a-detail")
    print("printed", x, flush=True)
    return 2 * x


def count(x):
    yield from range(x)


@pytest.fixture(scope="module")
def clients():
    """The owner of public endpoints, somebody else who may predict alone, and an admin."""
    with running() as admin:
        url = admin.server.url
        bob, ada = (admin.create_api_key(name).api_key for name in ("bob", "ada"))
        with (
            LaunchClient(bob, url, max_retries=0) as owner,
            LaunchClient(ada, url, max_retries=0) as caller,
            http(admin, ada) as raw,
        ):
            public = {"public": True, "wait": False, **SMALL}
            owner.deploy(double, name="now", request_schema=Number, labels={"team": "secret"}, **public)
            owner.deploy(double, name="later", endpoint_type="async", **public)
            owner.deploy(count, name="stream", **public)
            owner.deploy(double, name="private", **{**public, "public": False, "min_workers": 0})
            for name in ("now", "later", "stream"):
                owner.get_model_endpoint(name).wait_until_ready(60)
            yield {OWNER: owner, CALLER: caller, ADMIN: admin, "raw": raw}


@pytest.fixture(scope="module")
def task_of(clients):
    """A task of each at the public endpoint, which has failed."""
    made = {who: clients[who].get_model_endpoint("bob/later").predict(args(x=-1)) for who in (OWNER, CALLER)}
    for task in made.values():
        assert task.get(60).status == "FAILURE"
    return {who: task.async_task_id for who, task in made.items()}


# Each cell: who, and whether it is allowed. Where it is not, it is as if there were nothing of the name or id.


def outcome(attempt):
    try:
        attempt()
    except NotFound:
        return False
    return True


YES, NO = {OWNER: True, CALLER: True, ADMIN: True}, {OWNER: True, CALLER: False, ADMIN: True}

READS = {
    "find it": (lambda c: c.get_model_endpoint("bob/now"), YES),
    "predict": (lambda c: c.get_model_endpoint("bob/now").predict(args(x=1)), YES),
    "stream": (lambda c: list(c.get_model_endpoint("bob/stream").predict(args(x=2))), YES),
    "send tasks": (lambda c: c.get_model_endpoint("bob/later").predict(args(x=2)).get(60), YES),
    "find one that is not public": (lambda c: c.get_model_endpoint("bob/private"), NO),
    "logs": (lambda c: c.read_endpoint_logs(c.get_model_endpoint("bob/now")), NO),
    "creation log": (lambda c: c.read_endpoint_creation_logs(c.get_model_endpoint("bob/now")), NO),
    "events": (lambda c: c.list_endpoint_events(c.get_model_endpoint("bob/now")), NO),
    "why": (lambda c: c.explain_endpoint(c.get_model_endpoint("bob/now")), NO),
    "edit": (lambda c: c.edit_model_endpoint(model_endpoint="bob/now", labels={"team": "secret"}), NO),
    "restart": (lambda c: c.restart_model_endpoint("bob/private"), NO),
    "tasks of the endpoint's owner": (lambda c, task: c.get_task(task), NO),
    "their summary": (lambda c, task: c.get_task_details(task), NO),
    "their input": (lambda c, task: c.get_task_payload(task), NO),
    "why they wait": (lambda c, task: c.explain_task(task), NO),
    "cancel them": (lambda c, task: c.cancel_task(task), NO),
    "run them again": (lambda c, task: c.rerun_task(task), NO),
}


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("cell", READS)
def test_a_cell_of_the_table(clients, task_of, cell, who):
    attempt, allowed = READS[cell]
    given = (task_of[OWNER],) if attempt.__code__.co_argcount == 2 else ()
    assert outcome(lambda: attempt(clients[who], *given)) is allowed[who]


@pytest.mark.parametrize("who", WHO)
def test_what_is_shown_of_it(clients, who):
    seen = clients[who].get_model_endpoint("bob/now").model_endpoint
    assert (seen.created_by, seen.name, seen.status, seen.public_inference) == ("bob", "now", "READY", True)
    inside = (
        seen.labels,
        seen.bundle_id,
        seen.bundle_name,
        seen.deployment_state,
        seen.resource_state,
        seen.metadata,
    )
    assert any(inside) is (who != CALLER)


def test_the_callers_tasks_are_the_callers(clients, task_of):
    caller, mine = clients[CALLER], task_of[CALLER]
    assert mine in [task.task_id for task in caller.list_tasks("bob/later").tasks]
    assert task_of[OWNER] not in [task.task_id for task in caller.list_tasks().tasks]
    assert caller.get_task_payload(mine)["args"] == {"x": -1}
    assert caller.cancel_task(mine) is False
    assert caller.future(caller.rerun_task(mine).async_task_id).get(60).status == "FAILURE"
    with pytest.raises(NotFound):
        clients[OWNER].get_task(mine)
    assert mine not in [task.task_id for task in clients[OWNER].list_tasks("later").tasks]
    for who, told in ((CALLER, False), (OWNER, True)):
        assert ("a-detail" in clients[who].future(task_of[who]).get(10).traceback) is told


def test_the_page_of_its_schema_is_for_its_callers(clients):
    raw = clients["raw"]
    document = raw.get("/v1/model-endpoints-schema.json?name=bob/now").json()
    (path,) = document["paths"]
    assert document["paths"][path]["post"]["operationId"] == "now"
    assert "now-RequestSchema" in document["components"]["schemas"]
    page = raw.get("/v1/model-endpoints-api", params={"name": "bob/now"})
    assert "/v1/model-endpoints-schema.json?name=bob%2Fnow" in page.text
    assert raw.get("/v1/model-endpoints-schema.json?name=bob/private").status_code == 404
    assert raw.get("/v1/model-endpoints-schema.json").json()["paths"] == {}


@pytest.mark.parametrize("name", ["bob/now", "bob%2Fnow"])
def test_it_is_called_by_its_name_in_http(clients, name):
    raw = clients["raw"]
    answer = raw.post(f"/v1/sync-tasks?model_endpoint_id={name}", json={"args": {"x": 4}}).json()
    assert answer["result"] == {"result": "8"}
    private = name.replace("now", "private")
    refused = raw.post(f"/v1/sync-tasks?model_endpoint_id={private}", json={"args": {"x": 4}})
    assert (refused.status_code, refused.json()["code"]) == (404, "endpoint_not_found")


def test_the_limits_that_count_are_the_callers(clients):
    admin = clients[ADMIN]
    key = admin.create_api_key("eve", "predict", requests_per_day=1).api_key
    with LaunchClient(key, admin.server.url, max_retries=0) as eve:
        endpoint = eve.get_model_endpoint("bob/now")
        assert endpoint.predict(args(x=1)).value == 2
        with pytest.raises(TooManyRequests, match="this key may make 1 requests a day"):
            endpoint.predict(args(x=1))
    assert clients[CALLER].get_model_endpoint("bob/now").predict(args(x=1)).value == 2


def test_why_a_callers_task_waits_has_nothing_of_what_the_code_said(clients):
    def load():
        raise RuntimeError("a-detail")

    owner, caller = clients[OWNER], clients[CALLER]
    settings = {"endpoint_type": "async", "public": True, "wait": False, **SMALL}
    broken = owner.deploy(double, name="broken", load_model_fn=load, **settings)
    eventually(lambda: broken.status() == "UPDATE_FAILED")
    for client, told in ((owner, True), (caller, False)):
        endpoint = client.get_model_endpoint("bob/broken")
        why = client.explain_task(endpoint.predict(args(x=1)).async_task_id)
        assert "can't be loaded" in why.message
        assert ("a-detail" in why.model_dump_json()) is told
        assert endpoint.model_endpoint.status_reason is None or told
    owner.delete_model_endpoint("broken")


def test_what_is_no_longer_public_is_gone_for_others(clients):
    owner, caller = clients[OWNER], clients[CALLER]
    endpoint = caller.get_model_endpoint("bob/now")
    owner.edit_model_endpoint(model_endpoint="now", public=False)
    assert "now" not in [e.name for e in caller.list_model_endpoints(public=True)]
    with pytest.raises(NotFound):
        endpoint.predict(args(x=1))
    owner.edit_model_endpoint(model_endpoint="now", public=True)
    assert endpoint.predict(args(x=1)).value == 2

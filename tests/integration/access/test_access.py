"""Who may do what: roles over all routes, limits of keys, and the audit log over all routes."""

import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from server_driver import SMALL, args, eventually, http, running

from openlaunch import LaunchClient
from openlaunch.errors import Forbidden, NotFound, TooManyRequests, Unauthorized, Unavailable, Unprocessable
from openlaunch.wire import routes

ANYONE, PREDICT, USER, ADMIN = "without a key", "predict", "user", "admin"
ROLES = (PREDICT, USER, ADMIN)
SIGNED = "with a signed URL"

ACCESS = {
    # Who is the least that may. A new route has to be decided on here.
    "GET /healthz": ANYONE,
    "GET /readyz": ANYONE,
    "GET /healthcheck": ANYONE,
    "POST /v1/sync-tasks": PREDICT,
    "POST /v1/streaming-tasks": PREDICT,
    "DELETE /v1/streaming-tasks": PREDICT,
    "POST /v1/async-tasks": PREDICT,
    "POST /v1/async-tasks/bulk": PREDICT,
    "POST /v1/async-tasks/wait": PREDICT,
    "GET /v1/async-tasks": PREDICT,
    "GET /v1/async-tasks/{task_id}": PREDICT,
    "POST /v1/async-tasks/{task_id}/cancel": PREDICT,
    "GET /v1/async-tasks/{task_id}/details": PREDICT,
    "GET /v1/async-tasks/{task_id}/payload": PREDICT,
    "POST /v1/async-tasks/{task_id}/rerun": PREDICT,
    "GET /v1/async-tasks/{task_id}/progress": PREDICT,
    "GET /v1/async-tasks/{task_id}/why": PREDICT,
    "GET /v1/async-tasks/{task_id}/deliveries": USER,
    "POST /v1/async-tasks/{task_id}/deliveries/resend": USER,
    "GET /v1/callback-secret": USER,
    "GET /v1/model-endpoints": PREDICT,
    "GET /v1/model-endpoints/{model_endpoint_id}": PREDICT,
    "GET /v1/model-endpoints-schema.json": PREDICT,
    "GET /v1/model-endpoints-api": PREDICT,
    "POST /v1/model-endpoints": USER,
    "PUT /v1/model-endpoints/{model_endpoint_id}": USER,
    "DELETE /v1/model-endpoints/{model_endpoint_id}": USER,
    "POST /v1/model-endpoints/{model_endpoint_id}/restart": USER,
    "POST /v1/model-endpoints/{model_endpoint_id}/hand-over": ADMIN,
    "GET /v1/model-endpoints/{model_endpoint_id}/logs": USER,
    "GET /v1/model-endpoints/{model_endpoint_id}/events": USER,
    "GET /v1/model-endpoints/{model_endpoint_id}/why": USER,
    "GET /v1/model-endpoints/{model_endpoint_id}/workers": USER,
    "GET /v1/model-endpoints/{model_endpoint_id}/recordings": USER,
    "POST /v1/model-endpoints/{model_endpoint_id}/canary": USER,
    "PUT /v1/model-endpoints/{model_endpoint_id}/canary": USER,
    "POST /v1/model-endpoints/{model_endpoint_id}/canary/promote": USER,
    "POST /v1/model-endpoints/{model_endpoint_id}/canary/rollback": USER,
    "GET /v1/hosted_inference/endpoints/creation_logs/{name}": USER,
    "POST /v1/hosted_inference/model_bundle_upload": USER,
    "POST /v1/hosted_inference/batch_task_input_upload": USER,
    "PUT /v1/artifacts/{key}": SIGNED,
    "GET /v1/artifacts/{key}": SIGNED,
    **{
        f"{method} /{version}/model-bundles{path}": USER
        for version in ("v1", "v2")
        for method, path in (
            ("POST", ""),
            ("GET", ""),
            ("POST", "/clone-with-changes"),
            ("GET", "/latest"),
            ("GET", "/{model_bundle_id}"),
        )
    },
    "POST /v1/batch-jobs": USER,
    "GET /v1/batch-jobs": USER,
    "GET /v1/batch-jobs/{batch_job_id}": USER,
    "PUT /v1/batch-jobs/{batch_job_id}": USER,
    "POST /v1/batches": USER,
    "GET /v1/batches": USER,
    "GET /v1/batches/{batch_id}": USER,
    "POST /v1/batches/{batch_id}/cancel": USER,
    "POST /v1/docker-image-batch-jobs": USER,
    "GET /v1/docker-image-batch-jobs": USER,
    "GET /v1/docker-image-batch-jobs/{batch_job_id}": USER,
    "PUT /v1/docker-image-batch-jobs/{batch_job_id}": USER,
    "GET /v1/docker-image-batch-jobs/{batch_job_id}/logs": USER,
    "POST /v1/docker-image-batch-job-bundles": USER,
    "GET /v1/docker-image-batch-job-bundles": USER,
    "GET /v1/docker-image-batch-job-bundles/latest": USER,
    "GET /v1/docker-image-batch-job-bundles/{docker_image_batch_job_bundle_id}": USER,
    "POST /v1/triggers": USER,
    "GET /v1/triggers": USER,
    "GET /v1/triggers/{trigger_id}": USER,
    "PUT /v1/triggers/{trigger_id}": USER,
    "DELETE /v1/triggers/{trigger_id}": USER,
    "DELETE /v2/model-bundles/{model_bundle_id}": USER,
    "POST /v1/llm/model-endpoints": USER,
    "GET /v1/llm/model-endpoints": PREDICT,
    "POST /v1/llm/model-endpoints/download": USER,
    "GET /v1/llm/model-endpoints/{name}": PREDICT,
    "PUT /v1/llm/model-endpoints/{name}": USER,
    "DELETE /v1/llm/model-endpoints/{name}": USER,
    "POST /v1/llm/batch-completions": USER,
    "POST /v2/batch-completions": USER,
    "GET /v2/batch-completions/{job_id}": USER,
    "POST /v2/batch-completions/{job_id}/actions/cancel": USER,
    "POST /v1/files": USER,
    "GET /v1/files": USER,
    "GET /v1/files/{file_id}": USER,
    "GET /v1/files/{file_id}/content": USER,
    "DELETE /v1/files/{file_id}": USER,
    "POST /v1/keys": ADMIN,
    "GET /v1/keys": ADMIN,
    "PUT /v1/keys/{key_id}": ADMIN,
    "DELETE /v1/keys/{key_id}": ADMIN,
    "GET /v1/metrics": USER,
    "GET /metrics": ADMIN,  # and keys with the role metrics, which is for nothing else
    "GET /v1/model-endpoints/{model_endpoint_id}/metrics": USER,
    "GET /v1/quotas": USER,
    "PUT /v1/quotas/{name}": ADMIN,
    "GET /v1/secrets": USER,
    "PUT /v1/secrets/{name}": USER,
    "DELETE /v1/secrets/{name}": USER,
    "POST /v1/secrets-rotation": ADMIN,
    "GET /v1/audit-log": ADMIN,
    "GET /v1/whoami": PREDICT,
    **{
        f"{method} /e/{name}{path}": PREDICT
        for name in ("{name}", "{owner_name}/{name}")
        for method, path in (("POST", ""), ("GET", ""), ("GET", "/openapi.json"), ("GET", "/tasks/{task_id}"))
    },
    **{f"POST {path}": PREDICT for path in routes.MODEL_ROUTES | routes.MODEL_FORMS},
    "GET /v1/models": PREDICT,
    "GET /v1/models/{model}": PREDICT,
    "GET /v2": PREDICT,
    "GET /v2/health/live": ANYONE,
    "GET /v2/health/ready": ANYONE,
    **{
        f"{method} /v2/models/{{name}}{version}{path}": PREDICT
        for version in ("", "/versions/{version}")
        for method, path in (("GET", ""), ("GET", "/ready"), ("POST", "/infer"))
    },
    "GET /v1/storage": ADMIN,
    "GET /v1/nodes": ADMIN,
    "GET /v1/servers": ADMIN,
    "POST /v1/subscriptions": USER,
    "GET /v1/subscriptions": USER,
    "DELETE /v1/subscriptions/{subscription_id}": USER,
    "PUT /v1/nodes/{node}": ADMIN,
    "DELETE /v1/nodes/{node}": ADMIN,
    "GET /v1/environments": USER,
    "GET /v1/environments/{environment_id}": USER,
    "POST /v1/environments/prune": USER,
}
PREDICTIONS = [f"POST /v1/{name}" for name in ("sync-tasks", "streaming-tasks", "async-tasks")]
PREDICTIONS += ["POST /e/{name}", "POST /e/{owner_name}/{name}"]
PREDICTIONS += [f"POST {path}" for path in sorted(routes.MODEL_ROUTES | routes.MODEL_FORMS)]
PREDICTIONS += ["POST /v2/models/{name}/infer", "POST /v2/models/{name}/versions/{version}/infer"]
PREDICTIONS += ["POST /v1/async-tasks/bulk", "POST /v1/async-tasks/wait", "DELETE /v1/streaming-tasks"]


@pytest.fixture(scope="module")
def client():
    with running() as client:
        client.deploy(lambda x: 2 * x, name="double", **SMALL)
        client.deploy(lambda x: 2 * x, name="double-later", endpoint_type="async", **SMALL)
        yield client


@pytest.fixture(scope="module")
def keys(client):
    return {role: client.create_api_key("admin", role).api_key for role in ROLES}


@pytest.fixture
def as_role(client, keys):
    def connect(role):
        return LaunchClient(keys[role], client.server.url, max_retries=0)

    return connect


def request(raw, operation):
    """The route as somebody uses it who guesses: with ids of nothing, and a body that never fits."""
    method, path = operation.split(" ")
    path = re.sub(r"\{.*?\}", "nothing", path)
    body = {} if method in ("GET", "DELETE") else {"json": {}}
    return raw.request(method, path, params={"model_endpoint_id": "nothing"}, **body)


def test_every_route_has_a_decision(client):
    with http(client) as raw:
        paths = raw.get("/openapi.json").json()["paths"]
    found = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert found == set(ACCESS)


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_do_what_it_is_for_and_nothing_else(client, keys, role):
    with http(client, keys[role]) as raw:
        for operation, least in ACCESS.items():
            answer = request(raw, operation)
            if least == SIGNED:
                assert answer.status_code == 422, operation
            elif least in ROLES and ROLES.index(role) < ROLES.index(least):
                assert answer.status_code == 403, operation
                assert f"yours has the role {role}" in answer.json()["detail"]
            else:
                assert answer.status_code not in (401, 403), operation
                assert answer.status_code < 500, operation


def test_without_a_key_nothing_is_opened(client):
    with http(client) as raw:
        raw.auth = None
        for operation, least in ACCESS.items():
            assert request(raw, operation).status_code == {ANYONE: 200, SIGNED: 422}.get(least, 401), (
                operation
            )


def test_a_predict_key_predicts_waits_and_cancels(as_role):
    with as_role(PREDICT) as caller:
        assert caller.get_model_endpoint("double").predict(args(x=2)).value == 4
        later = caller.get_model_endpoint("double-later")
        assert later.predict(args(x=3)).get(30).value == 6
        assert later.predict(args(x=3)).cancel() in (True, False)
        with pytest.raises(Forbidden, match="the role predict, which may predict"):
            caller.delete_model_endpoint("double")


def fails(secret):
    raise LookupError(secret)


def fails_after_one(secret):
    yield 1
    raise LookupError(secret)


def test_who_does_not_own_an_endpoint_is_not_told_what_its_code_says(client):
    """With `public_inference`, every key may predict; the traceback is for the owner."""
    guest = client.create_api_key("guest", "predict").api_key
    for kind, function in (("sync", fails), ("async", fails), ("streaming", fails_after_one)):
        settings = {"name": f"public-{kind}", "endpoint_type": kind, "public_inference": True}
        mine = client.deploy(function, **settings, **SMALL)
        with LaunchClient(guest, client.server.url, max_retries=0) as caller:
            theirs = type(mine)(mine.model_endpoint, caller)
            for endpoint, told in ((mine, True), (theirs, False)):
                answer = endpoint.predict(args(secret="a-detail"))
                if kind == "async":
                    answer = answer.get(30)
                elif kind == "streaming":
                    *_, answer = answer
                assert answer.status == "FAILURE"
                assert ("a-detail" in answer.traceback, "line" in answer.traceback) == (told, told)
                assert "LookupError" in answer.traceback


def test_who_does_not_own_an_endpoint_is_not_told_why_it_has_no_worker(client):
    def load():
        raise RuntimeError("a-detail")

    guest = client.create_api_key("guest", "predict").api_key
    mine = client.deploy(
        fails, load_model_fn=load, name="public-broken", public_inference=True, wait=False, **SMALL
    )
    eventually(lambda: mine.refresh().model_endpoint.status == "UPDATE_FAILED")
    with LaunchClient(guest, client.server.url, max_retries=0) as caller:
        for endpoint, told in ((mine, True), (type(mine)(mine.model_endpoint, caller), False)):
            with pytest.raises(Unavailable) as caught:
                endpoint.predict(args(secret="x"))
            assert ("a-detail" in str(caught.value)) == told


def test_a_key_that_makes_too_many_requests_has_to_wait(client):
    made = client.create_api_key("admin", "predict", requests_per_second=0.5, burst=2)
    with LaunchClient(made.api_key, client.server.url, max_retries=0) as caller:
        endpoint = caller.get_model_endpoint("double")
        assert [endpoint.predict(args(x=x)).value for x in (1, 2)] == [2, 4]
        with pytest.raises(TooManyRequests) as caught:
            endpoint.predict(args(x=3))
    assert caught.value.code == "rate_limited"
    assert 1 <= caught.value.retry_after <= 2


def test_a_bulk_counts_as_many_requests(client):
    made = client.create_api_key("admin", "predict", requests_per_day=5)
    with LaunchClient(made.api_key, client.server.url, max_retries=0) as caller:
        endpoint = caller.get_model_endpoint("double-later")
        with pytest.raises(TooManyRequests) as caught:
            endpoint.predict_many([args(x=x) for x in range(6)])
        assert caught.value.code == "quota_exceeded"
        assert caught.value.retry_after <= 24 * 3600
        assert len(endpoint.predict_many([args(x=x) for x in range(5)])) == 5


def test_limits_are_changed_taken_away_and_shown(client):
    made = client.create_api_key("admin", "predict", requests_per_day=1)
    with LaunchClient(made.api_key, client.server.url, max_retries=0) as caller:
        endpoint = caller.get_model_endpoint("double")
        endpoint.predict(args(x=1))
        with pytest.raises(TooManyRequests):
            endpoint.predict(args(x=1))
        client.update_api_key(made.id, requests_per_day=2)
        endpoint.predict(args(x=1))
        with pytest.raises(TooManyRequests):
            endpoint.predict(args(x=1))
        changed = client.update_api_key(made.id, requests_per_day=0, requests_per_second=1000)
        assert endpoint.predict(args(x=1)).value == 2
    assert (changed.requests_per_day, changed.requests_per_second) == (None, 1000)
    assert changed in client.list_api_keys()


def test_wrong_changes_of_keys_are_refused(client):
    made = client.create_api_key("admin", "predict")
    with pytest.raises(Unprocessable, match="nothing to change: give one of requests_per_second"):
        client.update_api_key(made.id)
    with pytest.raises(Unprocessable, match="requests_per_second is -1"):
        client.update_api_key(made.id, requests_per_second=-1)
    with pytest.raises(Unprocessable, match="'admin', 'user', 'predict' or 'metrics'"):
        client.create_api_key("admin", "root")
    client.revoke_api_key(made.id)
    with pytest.raises(NotFound, match=made.id):
        client.update_api_key(made.id, burst=1)


def test_a_key_ends_by_itself(client):
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    made = client.create_api_key("admin", expires_at=soon)
    assert abs(made.expires_at - soon) < timedelta(milliseconds=1)
    with LaunchClient(made.api_key, client.server.url, max_retries=0) as caller:

        def refused():
            try:
                caller.list_model_endpoints()
            except Unauthorized as error:
                return error
            return None

        assert "has expired" in str(eventually(refused))
        assert datetime.now(UTC) >= soon
        later = client.update_api_key(made.id, expires_at=soon + timedelta(hours=1))
        assert later.expires_at > soon
        assert caller.list_model_endpoints()


# The audit log.


def test_every_change_is_in_the_audit_log(client, keys):
    """Also those that were refused; a route that is new is in it, because one place records all."""
    changes = [
        operation
        for operation, least in ACCESS.items()
        if not operation.startswith("GET ") and operation not in PREDICTIONS and least != SIGNED
    ]
    for role in ROLES:
        with http(client, keys[role]) as raw:
            began = time.time()
            statuses = {operation: request(raw, operation).status_code for operation in changes}
        entries = client.list_audit_log(since=datetime.fromtimestamp(began, UTC)).entries
        found = {f"{e.method} {re.sub('nothing', '*', e.path)}": e.status for e in entries}
        assert found == {re.sub(r"\{.*?\}", "*", operation): s for operation, s in statuses.items()}


def test_an_entry_says_who_what_where_and_how_it_ended(client):
    admin = next(key for key in client.list_api_keys() if key.owner == "admin" and key.role == "admin")
    endpoint = client.edit_model_endpoint(
        model_endpoint="double", max_workers=2, labels={"team": "secret-team"}
    )
    (entry, *_) = client.list_audit_log(action="update_model_endpoint").entries
    assert (entry.key_id, entry.owner, entry.address) == (admin.id, "admin", "127.0.0.1")
    assert entry.object_id == endpoint.model_endpoint.id
    assert (entry.method, entry.status) == ("PUT", 200)
    assert entry.summary["max_workers"] == 2
    assert "labels" in entry.summary["also"]
    assert "secret-team" not in entry.model_dump_json()


def test_what_was_made_is_named_by_its_id(client):
    made = client.create_api_key("grace", "predict", requests_per_day=7)
    (entry,) = client.list_audit_log(object_id=made.id).entries
    assert entry.action == "create_key"
    assert entry.summary == {"owner": "grace", "role": "predict", "requests_per_day": 7}
    assert made.api_key not in entry.model_dump_json()


def test_an_upload_with_a_signed_url_and_the_first_key_are_in_it(client):
    client.deploy(lambda: 1, name="uploaded", wait=False, **SMALL)
    (upload, *_) = client.list_audit_log(action="put_artifact").entries
    assert (upload.key_id, upload.address, upload.status) == (None, "127.0.0.1", 200)
    (*_, first) = client.list_audit_log(action="create_key", limit=1000).entries
    assert (first.key_id, first.address) == (None, None)
    assert first.summary == {"owner": "admin", "role": "admin"}


def test_what_is_not_known_is_in_the_servers_log_alone(client):
    with http(client, "no-such-key") as raw:
        assert raw.delete("/v1/files/nothing").status_code == 401
    log = (Path(client.server.data_dir) / "server.log").read_text()
    assert "delete_file, asked for by 127.0.0.1, is refused: 401" in log
    assert all(entry.status != 401 for entry in client.list_audit_log(limit=1000).entries)


def test_pages_and_filters(client):
    whole = client.list_audit_log(limit=1000).entries
    first = client.list_audit_log(limit=3)
    second = client.list_audit_log(limit=3, cursor=first.next_cursor)
    assert [*first.entries, *second.entries] == whole[:6]
    assert client.list_audit_log(until=whole[-1].at).entries == []
    with pytest.raises(NotFound, match="there is no owner 'nobody'"):
        client.list_audit_log(owner="nobody")
    last = client.list_audit_log(since=whole[0].at).entries
    assert whole[0] in last


def test_the_audit_log_outlives_the_server_and_stays_small(tmp_path):
    data = tmp_path / "data"
    with running(data) as client:
        client.create_api_key("ada")
    with running(data, max_audit_entries=3) as client:
        assert [e.summary["owner"] for e in client.list_audit_log().entries] == ["ada", "admin"]
        for name in "bcd":
            client.create_api_key(name)
        assert [e.summary["owner"] for e in client.list_audit_log().entries] == ["d", "c", "b"]


def test_what_a_key_is_refused_pushes_out_nothing(tmp_path):
    with running(tmp_path / "data", max_audit_entries=10) as client:
        key = client.create_api_key("eve", role="predict").api_key
        with http(client, key) as raw:
            for number in range(30):
                assert raw.post("/v1/keys", json={"owner": "eve"}).status_code == 403
                assert raw.delete(f"/v1/keys/key_{number}").status_code == 403
        entries = client.list_audit_log(limit=1000).entries
        assert [e.status for e in entries if e.action == "create_key"] == [403, 200, 200]
        (refused,) = [e for e in entries if e.action == "create_key" and e.status == 403]
        assert refused.times == 30


def test_what_strangers_are_refused_is_said_in_the_servers_log_once(tmp_path):
    with running(tmp_path / "data") as client:
        with http(client, "no-such-key") as raw:
            for _ in range(50):
                assert raw.delete("/v1/files/nothing").status_code == 401
        log = (tmp_path / "data" / "server.log").read_text()
        assert log.count("is refused: 401") == 1


def test_a_change_that_is_no_json_is_no_change(client):
    with http(client) as raw:
        for body in (b"{", b'{"a": NaN}', b'{"a": "\\ud800"}', b"[" * 1500, b"[" * 200 + b"]" * 200):
            answer = raw.post("/v1/keys", content=body, headers={"content-type": "application/json"})
            assert (answer.status_code, json.loads(answer.text)["status"]) == (400, 400)

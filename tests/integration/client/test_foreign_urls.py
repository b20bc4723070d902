"""The client opens only what it asked for, and only from its own server."""

import json
import pickle

import pytest
from canned_server import Server, reply

import openlaunch
from openlaunch.client import bucket, effects
from openlaunch.errors import (
    BadRequest,
    ConnectionFailed,
    Forbidden,
    ForeignURL,
    PayloadTooLarge,
    PredictionFailed,
)
from openlaunch.wire.sse import END_EVENT

ARTIFACT = "/v1/artifacts/results/r.pkl"
SIGNED = f"{ARTIFACT}?expires=1&signature=s"
RAN = []


class Hostile:
    """A value whose pickle runs code where it is unpickled."""

    def __reduce__(self):
        return RAN.append, (1,)


@pytest.fixture
def elsewhere():
    """A server of somebody else's that hands out hostile pickles."""
    server = Server()
    server.routes[f"GET {ARTIFACT}"] = lambda request: (200, {}, pickle.dumps(Hostile()))
    yield server
    server.close()


@pytest.fixture(autouse=True)
def nothing_ran():
    RAN.clear()


def answer(url, **more):
    return {"status": "SUCCESS", "result": {"result_url": url}, "traceback": None, "status_code": 200, **more}


def by_sync(both, server, url, **options):
    server.routes["POST /v1/sync-tasks"] = reply(answer(url))
    return both.predict(both.endpoint(server, "sync"), **options)


def by_stream(both, server, url, **options):
    events = f"data: {json.dumps(answer(url))}\n\n".encode() + END_EVENT
    server.routes["POST /v1/streaming-tasks"] = lambda request: (200, {}, [events])
    (response,) = both.items(both.predict(both.endpoint(server, "streaming"), **options))
    return response


def by_future(both, server, url, **options):
    server.routes["POST /v1/async-tasks"] = reply({"task_id": "t"})
    server.routes["GET /v1/async-tasks/t"] = reply(answer(url))
    return both.call(both.predict(both.endpoint(server, "async"), **options).get)


def submitted(both, server, url, return_pickled):
    server.routes["POST /v1/async-tasks/bulk"] = reply({"task_ids": ["t"]})
    tasks = [answer(url, task_id="t")]
    server.routes["POST /v1/async-tasks/wait"] = reply({"tasks": tasks})
    server.routes["GET /v1/async-tasks/t"] = reply(tasks[0])
    request = openlaunch.EndpointRequest(args={}, return_pickled=return_pickled, request_id="r")
    return both.endpoint(server, "async"), [request]


def by_many(both, server, url, return_pickled=False):
    endpoint, requests = submitted(both, server, url, return_pickled)
    (future,) = both.call(endpoint.predict_many, requests)
    return both.call(future.get)


def by_batch(both, server, url, return_pickled=False):
    endpoint, requests = submitted(both, server, url, return_pickled)
    with pytest.warns(DeprecationWarning, match="predict_many"):
        batch = both.call(endpoint.predict_batch, requests)
    both.call(batch.poll_endpoints)
    return batch.get_responses()["r"]


def by_id(both, server, url, return_pickled=False):
    server.routes["GET /v1/async-tasks/t"] = reply(answer(url))
    return both.call(both.client.future("t", return_pickled=return_pickled).get)


WAYS = [by_sync, by_stream, by_future, by_many, by_batch, by_id]


@pytest.mark.parametrize("way", WAYS)
def test_a_pickle_that_was_not_asked_for_is_not_downloaded(both, server, elsewhere, way):
    for origin in (server, elsewhere):
        response = way(both, server, origin.url + SIGNED)
        with pytest.raises(ForeignURL, match="return_pickled=True"):
            both.value(response)
        with pytest.raises(ForeignURL):
            _ = response.value
    assert not any(request.path == SIGNED for request in server.requests)
    assert elsewhere.requests == RAN == []


@pytest.mark.parametrize("way", WAYS)
def test_a_pickle_that_was_asked_for_comes_from_the_own_server(both, server, elsewhere, way):
    server.routes[f"GET {ARTIFACT}"] = lambda request: (200, {}, pickle.dumps({1, 2}))
    response = way(both, server, elsewhere.url + SIGNED, return_pickled=True)
    assert both.value(response) == {1, 2}
    assert server.requests[-1].path == SIGNED
    assert elsewhere.requests == RAN == []


@pytest.mark.parametrize(
    "url",
    [
        "{there}/x",
        "{there}/v1/artifacts",
        "{there}/v1/artifacts/",
        "{there}/v1/artifacts/../keys",
        "{there}/v1/artifacts/%2e%2e/keys",
        "@{there}/x",
        "file:///etc/passwd",
        "//127.0.0.1:1/x",
        "",
        "http://[",
        "{there}/v1/artifacts/k?a=b\r\nx: y",
    ],
)
def test_a_url_that_is_not_an_artifact_of_the_server_is_not_opened(both, server, elsewhere, url):
    response = by_sync(both, server, url.format(there=elsewhere.url), return_pickled=True)
    before = len(server.requests)
    with pytest.raises(ForeignURL, match="below /v1/artifacts/"):
        both.value(response)
    assert len(server.requests) == before
    assert elsewhere.requests == RAN == []


def test_an_upload_stays_at_the_own_server(both, server, elsewhere):
    upload = {"signedUrl": elsewhere.url + SIGNED, "bucket": "b", "key": "k"}
    server.routes["POST /v1/hosted_inference/model_bundle_upload"] = reply(upload)
    server.routes[f"PUT {ARTIFACT}"] = lambda request: (200, {}, b"")
    server.routes["POST /v2/model-bundles"] = reply({"model_bundle_id": "bun_1"})
    both.call(
        both.client.create_model_bundle_from_callable_v2,
        model_bundle_name="b",
        load_model_fn=lambda: None,
        load_predict_fn=lambda model: lambda x: x,
    )
    assert [request.path for request in server.requests if request.command == "PUT"] == [SIGNED] * 2
    assert elsewhere.requests == []


def test_batch_results_come_from_the_own_server(both, server, elsewhere):
    job = {
        "job_id": "j",
        "status": "SUCCESS",
        "result": elsewhere.url + SIGNED,
        "serialization_format": "JSON",
        "labels": {},
        "created_at": "2026-01-01T00:00:00Z",
        "duration": "PT1S",
        "num_tasks_pending": 0,
        "num_tasks_completed": 0,
    }
    server.routes["GET /v1/batch-jobs/j"] = reply(job)
    server.routes[f"GET {ARTIFACT}"] = reply([])
    assert both.call(both.client.read_batch_results, "j") == []
    assert elsewhere.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_an_error_and_not_followed(both, server, elsewhere, status):
    def away(request):
        return status, {"location": elsewhere.url + SIGNED}, b""

    server.routes[f"GET {ARTIFACT}"] = server.routes["GET /v1/audit-log"] = away
    response = by_sync(both, server, server.url + SIGNED, return_pickled=True)
    server.routes["POST /v1/sync-tasks"] = server.routes["POST /v1/streaming-tasks"] = away
    for call in (
        lambda: both.value(response),
        lambda: both.call(both.client.list_audit_log),
        lambda: both.predict(both.endpoint(server, "sync")),
        lambda: both.predict(both.endpoint(server, "streaming")),
    ):
        with pytest.raises(BadRequest, match=f"redirect.*{elsewhere.url}.*not followed"):
            call()
    assert elsewhere.requests == RAN == []


def test_a_download_that_is_too_large_is_given_up(both, server, monkeypatch):
    monkeypatch.setattr(effects, "MAX_DOWNLOAD_BYTES", 1000)
    server.routes[f"GET {ARTIFACT}"] = lambda request: (200, {}, (b"x" * 600 for _ in range(2)))
    response = by_sync(both, server, server.url + SIGNED, return_pickled=True)
    with pytest.raises(PayloadTooLarge, match="over 1000 bytes"):
        both.value(response)


def test_an_answer_of_wrong_types_is_an_error_of_ours(both, server):
    document = {"status": "FAILURE", "result": {"result_url": {}}, "traceback": [1], "status_code": 500}
    server.routes["POST /v1/sync-tasks"] = reply(document)
    response = both.predict(both.endpoint(server, "sync"), return_pickled=True)
    with pytest.raises(PredictionFailed, match=r"\[1\]"):
        response.raise_for_status()


BUCKET = "/bucket/k.pkl?X-Signature=s"


def leads_to(url, status=307, **headers):
    """An answer that says that the bytes are in the server's bucket."""
    return lambda request: (status, {"location": url, "openlaunch-bucket": "true", **headers}, b"")


def test_a_download_may_lead_to_the_servers_bucket_without_the_key(both, server, elsewhere):
    server.routes[f"GET {ARTIFACT}"] = leads_to(elsewhere.url + BUCKET)
    elsewhere.routes["GET /bucket/k.pkl"] = lambda request: (200, {}, pickle.dumps({1, 2}))
    response = by_sync(both, server, server.url + SIGNED, return_pickled=True)
    assert both.value(response) == {1, 2}
    (request,) = elsewhere.requests
    assert request.path == BUCKET
    assert not {"authorization", "cookie"} & {name.lower() for name in request.headers}


def test_a_bucket_leads_nowhere_else(both, server, elsewhere):
    server.routes[f"GET {ARTIFACT}"] = leads_to(elsewhere.url + BUCKET)
    elsewhere.routes["GET /bucket/k.pkl"] = leads_to(elsewhere.url + SIGNED)
    response = by_sync(both, server, server.url + SIGNED, return_pickled=True)
    with pytest.raises(Forbidden, match="answered with 307"):
        both.value(response)
    assert RAN == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "/v1/keys", "http://u:p@{there}/x", "ftp://{there}/x", "http://"]
)
def test_a_bucket_has_a_url_of_http(both, server, elsewhere, url):
    server.routes[f"GET {ARTIFACT}"] = leads_to(url.format(there=elsewhere.url.removeprefix("http://")))
    response = by_sync(both, server, server.url + SIGNED, return_pickled=True)
    with pytest.raises(ForeignURL, match="which is not a URL of HTTP"):
        both.value(response)
    assert elsewhere.requests == []


def test_only_an_artifact_may_lead_to_a_bucket(both, server, elsewhere):
    server.routes["GET /v1/audit-log"] = leads_to(elsewhere.url + BUCKET)
    server.routes["POST /v1/sync-tasks"] = leads_to(elsewhere.url + BUCKET)
    for call in (
        lambda: both.call(both.client.list_audit_log),
        lambda: both.predict(both.endpoint(server, "sync")),
    ):
        with pytest.raises(BadRequest, match="not followed"):
            call()
    assert elsewhere.requests == []


def test_a_bucket_that_fails_is_tried_again(both, server, elsewhere, monkeypatch):
    monkeypatch.setattr(bucket, "PAUSE_SECONDS", 0.01)
    answers = iter([(503, {}, b"slow"), (200, {}, pickle.dumps(1)), *[(500, {}, b"")] * bucket.TRIES])
    server.routes[f"GET {ARTIFACT}"] = leads_to(elsewhere.url + BUCKET)
    elsewhere.routes["GET /bucket/k.pkl"] = lambda request: next(answers)
    response = by_sync(both, server, server.url + SIGNED, return_pickled=True)
    assert both.value(response) == 1
    response = by_sync(both, server, server.url + SIGNED, return_pickled=True)
    with pytest.raises(ConnectionFailed, match=r"bucket at 127.0.0.1:[0-9]+ answered with 500"):
        both.value(response)


def test_an_upload_goes_to_the_servers_bucket_without_the_key(both, server, elsewhere):
    upload = {"signedUrl": elsewhere.url + BUCKET, "bucket": "b", "key": "k"}
    headers = {"openlaunch-bucket": "true"}
    server.routes["POST /v1/hosted_inference/model_bundle_upload"] = lambda request: (
        200,
        headers,
        json.dumps(upload).encode(),
    )
    server.routes["POST /v2/model-bundles"] = reply({"model_bundle_id": "bun_1"})
    elsewhere.routes["PUT /bucket/k.pkl"] = lambda request: (200, {}, b"")
    create = both.client.create_model_bundle_from_callable_v2
    functions = {"load_model_fn": lambda: None, "load_predict_fn": lambda model: lambda x: x}
    both.call(create, model_bundle_name="b", **functions)
    assert [request.path for request in elsewhere.requests] == [BUCKET] * 2
    assert all("authorization" not in request.headers for request in elsewhere.requests)
    headers.clear()
    with pytest.raises(ForeignURL):
        both.call(create, model_bundle_name="b", **functions)
    assert len(elsewhere.requests) == 2

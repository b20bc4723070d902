"""Both clients against small real HTTP servers."""

import asyncio
import gc
import json
import pickle
import socket
import threading
import time

import pytest
from canned_server import Predicting, endpoint_document, reply, success

import openlaunch
from openlaunch import aio
from openlaunch.errors import ConnectionFailed, NotFound, TooManyRequests, Unauthorized


def test_a_prediction_is_one_request_with_the_key(both, server):
    server.routes["POST /v1/sync-tasks"] = reply(success([1, 2]))
    endpoint = both.endpoint(server, "sync")
    before = len(server.requests)
    response = both.predict(endpoint)
    assert (response.status, response.result, response.value) == ("SUCCESS", "[1, 2]", [1, 2])
    (request,) = server.requests[before:]
    assert request.path == "/v1/sync-tasks?model_endpoint_id=end_1"
    assert json.loads(request.body) == {"args": {"x": 1}}
    assert request.headers["authorization"] == "Basic a2V5Og=="
    assert request.headers["user-agent"].startswith("openlaunch/")
    assert request.headers["host"] == server.url.removeprefix("http://")


def test_predictions_share_one_connection(both, server):
    server.routes["POST /v1/sync-tasks"] = reply(success(1))
    endpoint = both.endpoint(server, "sync")
    for _ in range(20):
        both.predict(endpoint)
    assert len({r.client_address for r in server.requests if r.command == "POST"}) == 1


def test_a_connection_that_was_closed_while_it_was_idle_is_replaced(both, server):
    def once(request):
        request.close_connection = True
        return 200, {}, json.dumps(success(1)).encode()  # without "connection: close"

    server.routes["POST /v1/sync-tasks"] = once
    endpoint = both.endpoint(server, "sync")
    for _ in range(3):
        assert both.predict(endpoint).value == 1
        server.handled.wait(10)
        server.handled.clear()


def test_a_prediction_is_not_sent_again_when_its_connection_breaks(both, server):
    calls = []

    def hang_up(request):
        calls.append(1)

    server.routes["POST /v1/sync-tasks"] = hang_up
    endpoint = both.endpoint(server, "sync")
    with pytest.raises(ConnectionFailed, match="broke before its answer"):
        both.predict(endpoint)
    assert len(calls) == 1


def test_a_prediction_with_an_idempotency_key_is_sent_again_when_its_connection_breaks(both, server):
    answers = [lambda request: None, reply(success(1))]
    server.routes["POST /v1/sync-tasks"] = lambda request: answers.pop(0)(request)
    endpoint = both.endpoint(server, "sync")
    request = openlaunch.EndpointRequest(args={}, idempotency_key="mine")
    assert both.call(endpoint.predict, request).value == 1
    tries = [r for r in server.requests if r.path.startswith("/v1/sync-tasks")]
    assert [r.headers["idempotency-key"] for r in tries] == ["mine", "mine"]


def test_a_prediction_that_is_refused_is_sent_again(both, server):
    answers = [reply({}, 429), reply({"code": "busy"}, 503, **{"retry-after": "0"}), reply(success(1))]
    server.routes["POST /v1/sync-tasks"] = lambda request: answers.pop(0)(request)
    assert both.predict(both.endpoint(server, "sync")).value == 1


def test_an_error_has_its_class_and_the_request_id(both, server):
    server.routes["POST /v1/sync-tasks"] = reply(
        {"detail": "the queue is full", "code": "queue_full", "request_id": "req_1"},
        429,
        **{"retry-after": "99"},
    )
    with pytest.raises(TooManyRequests, match=r"the queue is full \(request req_1\)") as caught:
        both.predict(both.endpoint(server, "sync"))
    assert caught.value.retry_after == 99


def test_a_server_that_is_too_slow_is_given_up(both, server, monkeypatch):
    monkeypatch.setattr("openlaunch.client.operations.predictions.MARGIN_SECONDS", 0.05)
    stop = threading.Event()
    server.routes["POST /v1/sync-tasks"] = lambda request: stop.wait(10) and None
    endpoint = both.endpoint(server, "sync")
    began = time.monotonic()
    with pytest.raises(ConnectionFailed, match="did not answer within"):
        both.predict(endpoint, timeout=0.1)
    assert time.monotonic() - began < 5
    stop.set()


def test_a_timeout_that_is_no_number_is_named(both, server):
    for kind in ("sync", "streaming", "async"):
        with pytest.raises(TypeError, match="timeout is '5': a number of seconds"):
            both.predict(both.endpoint(server, kind), timeout="5")
    with pytest.raises(TypeError, match="timeout is '5': a number of seconds"):
        both.call(both.client.future("t").get, "5")
    with pytest.raises(openlaunch.errors.ConfigurationError, match="timeout is '5'"):
        Predicting("blocking", server.url, timeout="5")


def test_the_timeout_goes_to_the_server(both, server):
    server.routes["POST /v1/sync-tasks"] = reply(success(1))
    both.predict(both.endpoint(server, "sync"), timeout=7)
    assert json.loads(server.requests[-1].body)["timeout_seconds"] == 7


def test_extra_headers_go_along(both, server):
    server.routes["POST /v1/sync-tasks"] = reply(success(1))
    endpoint = both.endpoint(server, "sync")
    both.call(endpoint.predict, openlaunch.EndpointRequest(args={}, extra_headers={"x-trace": "abc"}))
    assert server.requests[-1].headers["x-trace"] == "abc"


def test_an_answer_that_is_cut_is_an_error(both, server):
    def cut(request):
        request.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{")
        request.close_connection = True

    server.routes["POST /v1/sync-tasks"] = cut
    with pytest.raises(ConnectionFailed):
        both.predict(both.endpoint(server, "sync"))


def test_what_is_no_http_is_an_error(both, server):
    def nonsense(request):
        request.wfile.write(b"hello\r\n\r\n")
        request.close_connection = True

    server.routes["POST /v1/sync-tasks"] = nonsense
    with pytest.raises(ConnectionFailed, match=r"not HTTP/1\.1"):
        both.predict(both.endpoint(server, "sync"))


def test_answers_may_come_in_chunks_and_be_large(both, server):
    body = json.dumps(success("x" * 500_000)).encode()
    pieces = [body[i : i + 70_000] for i in range(0, len(body), 70_000)]
    server.routes["POST /v1/sync-tasks"] = lambda request: (200, {}, pieces)
    endpoint = both.endpoint(server, "sync")
    for _ in range(2):
        assert len(both.predict(endpoint).value) == 500_000


def test_without_a_server_the_error_says_where_it_was_looked_for(flavour):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    both = Predicting(flavour, url, max_retries=0)
    with pytest.raises(ConnectionFailed) as caught:
        both.call(both.client.get_model_endpoint, "x")
    both.close()
    assert url in str(caught.value)
    assert "the arguments" in str(caught.value)
    assert "openlaunch serve" in str(caught.value)


def test_a_path_prefix_is_kept(flavour, server):
    server.routes["GET /api/v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document("sync")]})
    server.routes["POST /api/v1/sync-tasks"] = reply(success(1))
    both = Predicting(flavour, server.url + "/api", use_path_with_custom_endpoint=True)
    endpoint = both.call(both.client.get_model_endpoint, "double")
    assert both.predict(endpoint).value == 1
    both.close()


def test_a_proxy_is_used_for_predictions_too(flavour, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.delenv("no_proxy", raising=False)
    base = "http://model-server.example"
    server.routes[f"GET {base}/v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document("sync")]})
    server.routes[f"POST {base}/v1/sync-tasks"] = reply(success("by proxy"))
    both = Predicting(flavour, base)
    endpoint = both.call(both.client.get_model_endpoint, "double")
    assert both.predict(endpoint).value == "by proxy"
    both.close()


def test_a_pickled_result_is_downloaded_without_the_key(both, server):
    url = f"{server.url}/v1/artifacts/r?signature=s"
    server.routes["POST /v1/sync-tasks"] = reply({"status": "SUCCESS", "result": {"result_url": url}})
    server.routes["GET /v1/artifacts/r"] = lambda request: (200, {}, pickle.dumps({1, 2}))
    response = both.predict(both.endpoint(server, "sync"), return_pickled=True)
    before = len(server.requests)
    assert both.value(response) == response.value == {1, 2}
    (request,) = server.requests[before:]
    assert "authorization" not in request.headers


@pytest.mark.parametrize("path", ["/v1/artifacts/r", "/public/models/v1/artifacts/r"])
@pytest.mark.parametrize("where", ["https://models.example", ""])
def test_a_download_keeps_to_the_clients_own_path(flavour, server, path, where):
    url = f"{where}{path}?signature=s"
    server.routes["GET /api/v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document("sync")]})
    server.routes["POST /api/v1/sync-tasks"] = reply({"status": "SUCCESS", "result": {"result_url": url}})
    server.routes["GET /api/v1/artifacts/r"] = lambda request: (200, {}, pickle.dumps({1, 2}))
    both = Predicting(flavour, server.url + "/api", use_path_with_custom_endpoint=True)
    response = both.predict(both.call(both.client.get_model_endpoint, "double"), return_pickled=True)
    assert both.value(response) == {1, 2}
    both.close()


def test_an_awaitable_pickled_result_says_how_to_load_it(server):
    both = Predicting("awaitable", server.url)
    server.routes["POST /v1/sync-tasks"] = reply({"status": "SUCCESS", "result": {"result_url": "http://h/"}})
    response = both.predict(both.endpoint(server, "sync"), return_pickled=True)
    with pytest.raises(RuntimeError, match=r"await response\.load"):
        _ = response.value
    both.close()


def test_an_unknown_endpoint_comes_with_similar_names(both, server):
    listed = [endpoint_document("sync"), {**endpoint_document("sync"), "name": "triple"}]

    def by_name(request):
        return reply({"model_endpoints": [] if "name=" in request.path else listed})(request)

    server.routes["GET /v1/model-endpoints"] = by_name
    with pytest.raises(NotFound, match="no endpoint 'doubel'; similar names: double"):
        both.call(both.client.get_model_endpoint, "doubel")


def test_a_wrong_key_is_an_error_of_its_own(both, server):
    server.routes["GET /v1/model-endpoints"] = reply({"detail": "the key is unknown"}, 401)
    with pytest.raises(Unauthorized, match="the key is unknown"):
        both.call(both.client.list_model_endpoints)


def test_bytes_are_uploaded_without_the_key_even_to_this_server(both, server):
    server.routes["POST /v1/hosted_inference/model_bundle_upload"] = reply(
        {"signedUrl": "/v1/artifacts/k?signature=s", "bucket": "b", "key": "k"}
    )
    server.routes["PUT /v1/artifacts/k"] = lambda request: (200, {}, b"")
    server.routes["POST /v2/model-bundles"] = reply({"model_bundle_id": "bun_1"})
    both.call(
        both.client.create_model_bundle_from_callable_v2,
        model_bundle_name="b",
        load_model_fn=lambda: None,
        load_predict_fn=lambda model: lambda x: x,
    )
    puts = [r for r in server.requests if r.command == "PUT"]
    assert len(puts) == 2
    assert all("authorization" not in request.headers for request in puts)
    body = json.loads(server.requests[-1].body)
    assert body["flavor"]["location"] == "s3://b/k"
    assert body["flavor"]["python_version"].startswith("3.")


def test_a_bad_name_is_refused_before_anything_is_sent(both, server):
    with pytest.raises(openlaunch.errors.Unprocessable, match="name is '-bad'"):
        both.call(
            both.client.create_model_bundle_from_callable_v2,
            model_bundle_name="-bad",
            load_model_fn=lambda: None,
            load_predict_fn=lambda model: lambda x: x,
        )
    assert server.requests == []


def test_an_empty_route_is_refused_and_not_taken_for_the_default(both, server):
    create = both.client.create_model_bundle_from_streaming_enhanced_runnable_image_v2
    image = {"repository": "model", "tag": "1", "streaming_command": ["serve"]}
    for route in ("predict_route", "streaming_predict_route", "healthcheck_route"):
        with pytest.raises(openlaunch.errors.Unprocessable, match=route):
            both.call(create, model_bundle_name="b", **image, **{route: ""})
    assert server.requests == []


def test_a_bad_setting_is_refused_before_anything_is_sent(both, server):
    with pytest.raises(openlaunch.errors.Unprocessable, match="max_workers is 1, less than min_workers"):
        both.call(both.client.deploy, lambda x: x, name="f", min_workers=2, max_workers=1)
    with pytest.raises(TypeError, match=r"keyword workers is unknown; did you mean min_workers\?"):
        both.call(both.client.deploy, lambda x: x, name="f", workers=2)
    assert server.requests == []


def test_an_async_submit_is_sent_again_with_the_same_key(both, server):
    answers = [None, (200, {}, b'{"task_id": "t1"}')]
    server.routes["POST /v1/async-tasks"] = lambda request: answers.pop(0)
    future = both.predict(both.endpoint(server, "async"))
    assert future.async_task_id == "t1"
    keys = [r.headers["idempotency-key"] for r in server.requests if r.command == "POST"]
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_a_closed_client_says_so(both, server):
    endpoint = both.endpoint(server, "sync")
    both.call(both.client.close)
    with pytest.raises(RuntimeError, match="closed"):
        both.predict(endpoint)
    with pytest.raises(RuntimeError, match="closed"):
        both.call(both.client.list_model_endpoints)


def test_a_forgotten_client_closes_its_connections(server):
    server.routes["POST /v1/sync-tasks"] = reply(success(1))
    server.routes["GET /v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document("sync")]})
    openlaunch.LaunchClient("key", server.url).get_model_endpoint("double").predict(
        openlaunch.EndpointRequest(args={})
    )
    gc.collect()  # an unclosed socket would be a ResourceWarning, which is an error here


def test_threads_share_a_client(server):
    server.routes["POST /v1/sync-tasks"] = lambda r: reply(success(json.loads(r.body)["args"]["x"]))(r)
    with openlaunch.LaunchClient("key", server.url) as client:
        server.routes["GET /v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document("sync")]})
        endpoint = client.get_model_endpoint("double")
        wrong = []

        def work(offset):
            for x in range(offset, offset + 50):
                value = endpoint.predict(openlaunch.EndpointRequest(args={"x": x})).value
                if value != x:
                    wrong.append((x, value))

        threads = [threading.Thread(target=work, args=(i * 1000,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len({r.client_address for r in server.requests if r.command == "POST"}) <= 8


def test_a_cancelled_prediction_closes_its_connection(server):
    arrived, gone = threading.Event(), threading.Event()

    def watch(request):
        arrived.set()
        if request.connection.recv(1) == b"":
            gone.set()

    server.routes["POST /v1/sync-tasks"] = watch
    server.routes["GET /v1/model-endpoints"] = reply({"model_endpoints": [endpoint_document("sync")]})

    async def main():
        async with aio.LaunchClient("key", server.url) as client:
            endpoint = await client.get_model_endpoint("double")
            task = asyncio.create_task(endpoint.predict(openlaunch.EndpointRequest(args={})))
            assert await asyncio.to_thread(arrived.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(gone.wait, 10)

    asyncio.run(main())


def test_the_key_is_in_no_repr(both):
    assert "key" not in repr(both.client).replace("http", "")

"""Spans of OpenTelemetry, as a receiver of OTLP over HTTP gets them."""

import http.server
import json
import threading
import time
from pathlib import Path

import pytest
from openai_driver import mock_engine
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from server_driver import SMALL, args, eventually, running
from server_driver import http as plain

pytestmark = pytest.mark.slow

PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "never-in-a-span"


class Receiver:
    """A receiver of OTLP over HTTP, which keeps what it gets, by name."""

    def __init__(self):
        self.spans, self.callbacks, self.pause = [], [], threading.Event()
        self.pause.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.pause.wait()
                outer.take(self.path, body, self.headers["traceparent"])
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *given):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, path, body, traceparent):
        if path == "/callback":
            self.callbacks.append(traceparent)
            return
        assert path == "/v1/traces"
        assert SECRET.encode() not in body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def named(self, name, **wanted):
        """The one span of this name with these attributes, once it is there."""
        return eventually(
            lambda: next((s for s in list(self.spans) if s.name == name and has(s, wanted)), None)
        )

    def close(self):
        self.pause.set()
        self._server.shutdown()
        self._server.server_close()


def attributes(span):
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


def has(span, wanted):
    return wanted.items() <= attributes(span).items()


@pytest.fixture(scope="module")
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.close()


def where(value=""):
    """The trace and the span within which this runs."""
    if value == "raise":
        raise LookupError("never-in-a-span")
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return [f"{context.trace_id:032x}", f"{context.span_id:016x}"]


def echo(data: bytes) -> bytes:
    return data


def log_of(client):
    return (Path(client.server.data_dir) / "server.log").read_text()


def traced(client, path, body):
    with plain(client) as raw:
        headers = {"traceparent": f"00-{PARENT[0]}-{PARENT[1]}-01"}
        answer = raw.post(path, headers=headers, json=body)
    assert answer.status_code == 200, answer.text
    return answer


def found(result):
    return json.loads(result["result"])


@pytest.fixture(scope="module")
def client(receiver, tmp_path_factory):
    with running(tmp_path_factory.mktemp("traced"), otlp_endpoint=receiver.url, trace_ratio=0) as client:
        client.deploy(where, name="traced", max_workers=1, requirements=["opentelemetry-api"], **SMALL)
        yield client


def test_a_request_is_a_span_of_its_client_with_parts_and_the_models_own_within(client, receiver):
    receiver.spans.clear()
    answer = traced(client, "/v1/sync-tasks?model_endpoint_id=traced", {"args": {"value": SECRET}}).json()
    span, worker = receiver.named("POST /v1/sync-tasks"), receiver.named("worker")
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == PARENT
    expected = {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "openlaunch.endpoint": "traced",
    }
    assert has(span, expected)
    assert worker.parent_span_id == span.span_id
    assert span.start_time_unix_nano <= worker.start_time_unix_nano < worker.end_time_unix_nano
    assert abs(worker.start_time_unix_nano / 1e9 - time.time()) < 600
    assert found(answer["result"]) == [PARENT[0], worker.span_id.hex()]
    with plain(client) as raw:
        scraped = raw.get("/metrics", headers={"Accept": "application/openmetrics-text"}).text
    assert f'# {{trace_id="{PARENT[0]}"}} ' in scraped


def test_a_request_of_a_model_has_its_tokens(client, receiver):
    mock_engine(client, "chat").wait_until_ready(60)
    traced(client, "/v2/chat/completions", {"model": "chat", "messages": [], "stream": True, "max_tokens": 7})
    span = receiver.named("POST /v2/chat/completions")
    expected = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "chat"}
    assert has(span, {**expected, "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 7})


def test_a_stranger_leaves_no_span(client, receiver):
    with plain(client, "no-key") as raw:
        headers = {"traceparent": f"00-{PARENT[0]}-{PARENT[1]}-01"}
        assert raw.post("/v1/sync-tasks", headers=headers, json={}).status_code == 401
        assert raw.get("/v1/keys", headers=headers).status_code == 401
    with plain(client) as raw:
        assert raw.get("/v1/quotas", headers=headers).status_code == 200
    receiver.named("GET /v1/quotas")
    assert not [span for span in receiver.spans if has(span, {"http.response.status_code": 401})]


def test_the_wait_for_a_worker_is_a_span_of_its_request(client, receiver):
    client.deploy(where, name="cold", min_workers=0, max_workers=1, wait=False, **SMALL)
    eventually(lambda: client.get_model_endpoint("cold").model_endpoint.status == "READY")
    receiver.spans.clear()
    traced(client, "/v1/sync-tasks?model_endpoint_id=cold", {"args": {}})
    span, wait, worker = (receiver.named(name) for name in ("POST /v1/sync-tasks", "wait", "worker"))
    assert wait.parent_span_id == worker.parent_span_id == span.span_id
    assert wait.start_time_unix_nano < wait.end_time_unix_nano <= worker.start_time_unix_nano


def test_a_failure_is_an_error_without_what_the_model_said(client, receiver):
    receiver.spans.clear()
    traced(client, "/v1/sync-tasks?model_endpoint_id=traced", {"args": {"value": "raise"}})
    span = receiver.named("POST /v1/sync-tasks")
    assert has(span, {"error.type": "model_error"})
    assert span.status.code == 2


def test_a_client_names_the_span_within_which_it_sends(client, receiver):
    receiver.spans.clear()
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("outer") as outer:
        answer = client.get_model_endpoint("traced").predict(args())
    context = outer.get_span_context()
    span = receiver.named("POST /v1/sync-tasks")
    assert (int(span.trace_id.hex(), 16), int(span.parent_span_id.hex(), 16)) == (
        context.trace_id,
        context.span_id,
    )
    assert answer.value[0] == f"{context.trace_id:032x}"


def test_what_is_not_sampled_leaves_no_span_and_starts_leave_some_of_their_own(client, receiver):
    receiver.spans.clear()
    assert client.get_model_endpoint("traced").predict(args()).value == ["0" * 32, "0" * 16]
    with plain(client) as raw:
        headers = {"traceparent": f"00-{PARENT[0]}-{PARENT[1]}-00"}
        raw.post("/v1/sync-tasks?model_endpoint_id=traced", headers=headers, json={"args": {}})
    client.deploy(lambda: 1, name="other", max_workers=1, **SMALL).predict(args())
    receiver.named("load", **{"openlaunch.endpoint": "other"})
    receiver.named("environment build", **{"openlaunch.endpoint": "other"})
    assert {span.name for span in receiver.spans} <= {"environment build", "process start", "load"}


def test_a_task_belongs_to_the_request_that_submitted_it_after_a_restart_too(receiver, tmp_path):
    receiver.spans.clear()
    settings = {"otlp_endpoint": receiver.url, "trace_ratio": 0}
    with running(tmp_path, **settings) as client:
        client.deploy(where, name="later", endpoint_type="async", max_workers=0, min_workers=0, **SMALL)
        body = {"args": {"value": "raise"}, "callback_url": f"{receiver.url}/callback"}
        task_id = traced(client, "/v1/async-tasks?model_endpoint_id=later", body).json()["task_id"]
        submitted = receiver.named("POST /v1/async-tasks")
    with running(tmp_path, **settings) as client:
        client.edit_model_endpoint(model_endpoint="later", max_workers=1)
        task = receiver.named("task later")
        assert (task.trace_id.hex(), task.parent_span_id) == (PARENT[0], submitted.span_id)
        assert [link.span_id for link in task.links] == [submitted.span_id]
        assert has(task, {"messaging.message.id": task_id, "error.type": "model_error"})
        callback = receiver.named("callback")
    assert (callback.trace_id.hex(), callback.parent_span_id) == (PARENT[0], task.span_id)
    assert receiver.callbacks == [f"00-{PARENT[0]}-{callback.span_id.hex()}-01"]


@pytest.mark.parametrize("fault", ["down", "slow"])
def test_a_receiver_that_is_down_or_slow_holds_nobody_up_and_is_told_of_once(tmp_path, fault):
    broken = Receiver()
    broken.pause.clear()
    if fault == "down":
        broken.close()
    try:
        with running(tmp_path, otlp_endpoint=broken.url) as client:
            endpoint = client.deploy(lambda: 1, name="one", max_workers=1, **SMALL)
            for _ in range(50):
                assert endpoint.predict(args()).value == 1
            if fault == "down":
                eventually(lambda: log_of(client).count("does not take them") == 1)
                for _ in range(50):
                    assert endpoint.predict(args()).value == 1
        assert log_of(client).count("does not take them") <= 1
        assert "Traceback" not in log_of(client)
    finally:
        if fault == "slow":
            broken.close()


def test_a_file_that_begins_as_json_does_comes_as_it_was_sent(client):
    client.deploy(echo, name="traced-echo", **SMALL)
    headers = {"traceparent": f"00-{PARENT[0]}-{PARENT[1]}-01", "content-type": "text/plain"}
    with plain(client) as raw:
        answer = raw.post("/e/traced-echo", headers=headers, content=b'{"a": 1} and more')
    assert answer.content == b'{"a": 1} and more'

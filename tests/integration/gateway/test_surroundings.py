"""What stands around predictions: proxies, browsers, monitors, and programs that were written for other servers."""

import gzip
import http.client
import http.server
import re
import time
from contextlib import contextmanager
from functools import partial

import pytest
from http_service import http_service
from server_driver import SMALL, args, problem, running
from server_driver import http as plain

from openlaunch import LaunchClient

PAGE = "https://app.example"
PREFIX = "/team/launch"


def echo(x):
    return x


def a_set():
    return {1, 2}


def one_item():
    yield 1


def slow():
    import time

    time.sleep(1.5)
    yield 1


@pytest.fixture(scope="module")
def client():
    with running(cors_origins=f"https://other.example, {PAGE}") as client:
        yield client


@pytest.fixture(scope="module")
def raw(client):
    with plain(client) as raw:
        yield raw


@pytest.fixture(scope="module")
def endpoint(client):
    return client.deploy(echo, name="echo", **SMALL)


@pytest.fixture(scope="module")
def where(endpoint):
    return {"model_endpoint_id": endpoint.model_endpoint.id}


@contextmanager
def proxy(upstream, prefix, headers, *, strips=True):
    """A proxy that adds headers, and takes the prefix off paths or leaves it there; gives its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            connection = http.client.HTTPConnection(upstream, timeout=60)
            given = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            inside = self.path.startswith(prefix + "/")
            path = self.path.removeprefix(prefix) if strips else self.path
            connection.request(self.command, path if inside else "/nowhere", body or None, given | headers)
            answer = connection.getresponse()
            data = answer.read()
            connection.close()
            self.send_response(answer.status)
            self.send_header("content-type", answer.headers["content-type"] or "text/plain")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = forward  # noqa: N815 -- the names that the base class calls

        def log_message(self, *_):
            pass

    with http_service(Handler) as server:
        yield f"http://127.0.0.1:{server.server_port}{prefix}"


def test_deploying_and_a_pickled_result_behind_a_proxy_with_a_path(client, raw):
    upstream = client.server.url.removeprefix("http://")
    with proxy(upstream, PREFIX, {"X-Forwarded-Prefix": PREFIX}) as url:
        key = client.server.api_key
        with LaunchClient(key, url, use_path_with_custom_endpoint=True, max_retries=0) as through:
            endpoint = through.deploy(a_set, name="pickled", **SMALL)
            request = args()
            request.return_pickled = True
            assert endpoint.predict(request).value == {1, 2}


def test_the_url_that_clients_are_given(raw, client, where):
    told = {"X-Forwarded-Proto": "https", "X-Forwarded-Prefix": PREFIX, "Host": "models.example"}
    base = f"https://models.example{PREFIX}"
    upload = raw.post("/v1/hosted_inference/model_bundle_upload", json={}, headers=told).json()
    assert upload["signedUrl"].startswith(f"{base}/v1/artifacts/")
    for path in ("/openapi.json", "/v1/model-endpoints-schema.json"):
        assert raw.get(path, headers=told).json()["servers"] == [{"url": base}]


def test_a_public_url_and_a_proxy_that_leaves_its_path(endpoint):
    with running(public_url=f"https://models.example{PREFIX}") as client, plain(client) as raw:
        for prefix in ("", PREFIX):
            assert raw.get(f"{prefix}/healthz").status_code == 200
            upload = raw.post(f"{prefix}/v1/hosted_inference/model_bundle_upload", json={}).json()
            assert upload["signedUrl"].startswith(f"https://models.example{PREFIX}/v1/artifacts/")
            problem(raw.post(f"{prefix}/v1/sync-tasks?model_endpoint_id=x", json={"args": {}}), 404)


def test_head_is_get_without_a_body(raw, client):
    made = client.deploy(echo, name="queue", endpoint_type="async", **SMALL)
    query = {"model_endpoint_id": made.model_endpoint.id}
    task = "/v1/async-tasks/" + raw.post("/v1/async-tasks", params=query, json={"args": {}}).json()["task_id"]
    assert raw.get(task, params={"wait": 60}).json()["status"] == "FAILURE"
    for path in ("/healthz", "/readyz", "/docs", "/v1/model-endpoints", task):
        head, get = raw.head(path), raw.get(path)
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-type", "content-length"):
            assert (path, head.headers.get(name)) == (path, get.headers.get(name))


def test_a_method_that_a_path_does_not_take(raw):
    for path, allowed in (
        ("/v1/sync-tasks", "POST"),
        ("/healthz", "GET, HEAD"),
        ("/v1/async-tasks/x", "GET, HEAD"),
    ):
        answer = raw.put(path)
        problem(answer, 405)
        assert answer.headers["allow"] == allowed
        asked = raw.options(path)
        assert (asked.status_code, asked.headers["allow"]) == (204, f"{allowed}, OPTIONS")
    problem(raw.options("/nowhere"), 404)


def test_a_page_of_an_allowed_origin_may_call_from_a_browser(raw, where):
    wanted = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    preflight = raw.options("/v1/sync-tasks", headers={**wanted, "Access-Control-Request-Headers": "a,b"})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "a,b"
    for send in (
        lambda origin: raw.post("/v1/sync-tasks", params=where, json={"args": {"x": 1}}, headers=origin),
        lambda origin: raw.post("/v1/sync-tasks", json={}, headers=origin),  # an error is for the page too
        lambda origin: raw.get("/v1/model-endpoints", headers=origin),
    ):
        answer = send({"Origin": PAGE})
        assert (answer.headers["access-control-allow-origin"], answer.headers["vary"]) == (PAGE, "Origin")
        assert "access-control-allow-origin" not in send({"Origin": "https://evil.example"}).headers
        assert "vary" not in send({}).headers


def test_a_body_of_another_type_or_coding_is_refused_by_its_name(raw, where):
    body, packed = b'{"args": {"x": 2}}', gzip.compress(b'{"args": {"x": 2}}')
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert raw.post("/v1/sync-tasks", params=where, content=body, headers=form).json()["status"] == "SUCCESS"
    coded = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    for path in ("/v1/sync-tasks", "/v1/keys", "/v1/files"):
        answer = raw.post(path, params=where, content=packed, headers=coded)
        assert "Content-Encoding is 'gzip'" in problem(answer, 415)["detail"]
        assert answer.headers["accept-encoding"] == "identity"
    answer = raw.post("/v1/keys", content=body, headers=form)
    assert "accept-encoding" not in answer.headers  # it would say that the coding is what is wrong
    assert "application/x-www-form-urlencoded" in problem(answer, 415)["detail"]
    assert raw.post("/v1/keys", content=b'{"owner": "ada", "role": "user"}').status_code == 200
    for marked in (b"\xef\xbb\xbf" + body, body.decode().encode("utf-16")):
        answer = raw.post("/v1/sync-tasks", params=where, content=marked)
        assert "byte order mark" in problem(answer, 400)["detail"]


def test_a_client_that_does_not_read_what_a_path_answers_is_refused(client, raw, where):
    body = {"args": {"x": 1}}
    events, picture = {"Accept": "text/event-stream"}, {"Accept": "image/png"}
    queue = {"model_endpoint_id": client.deploy(echo, name="queue", endpoint_type="async", **SMALL).name}
    stream = {"model_endpoint_id": client.deploy(one_item, name="stream", **SMALL).name}
    before = [key["id"] for key in raw.get("/v1/keys").json()["keys"]]
    for ask in (
        lambda accept: raw.post("/v1/sync-tasks", params=where, json=body, headers=accept),
        lambda accept: raw.post("/v1/async-tasks", params=queue, json=body, headers=accept),
        lambda accept: raw.get("/v1/model-endpoints", headers=accept),
        lambda accept: raw.post("/v1/keys", json={"owner": "ada", "role": "user"}, headers=accept),
        lambda accept: raw.get("/openapi.json", headers=accept),
    ):
        for accept in (events, picture):
            refused = problem(ask(accept), 406)
            assert (refused["code"], refused["title"]) == ("not_acceptable", "Not acceptable")
            assert "application/json: name that" in refused["detail"]
        assert ask({"Accept": "image/png, application/json;q=0.1"}).status_code == 200
        assert ask([("Accept", "image/png"), ("Accept", "application/json")]).status_code == 200
    after = [key["id"] for key in raw.get("/v1/keys").json()["keys"]]
    assert len(after) == len(before) + 2  # what was refused has made none
    ask = partial(raw.post, "/v1/streaming-tasks", params=stream, json={"args": {}})
    assert "or text/event-stream" in problem(ask(headers=picture), 406)["detail"]
    for accept in (
        events,
        {"Accept": "application/json"},
    ):  # as clients that were generated for Launch send it
        assert ask(headers=accept).headers["content-type"].startswith("text/event-stream")
    problem(raw.get("/docs", headers=picture), 406)
    assert raw.get("/docs", headers={"Accept": "text/html"}).status_code == 200
    assert raw.get("/docs/api.css", headers={"Accept": "text/css"}).status_code == 200


def test_the_head_of_a_slow_stream_comes_first_and_its_end_is_a_comment(client, raw):
    made = client.deploy(slow, name="slow", **SMALL)
    query, body = {"model_endpoint_id": made.model_endpoint.id}, {"args": {}}
    began = time.monotonic()
    with raw.stream("POST", "/v1/streaming-tasks", params=query, json=body) as answer:
        head_after = time.monotonic() - began
        text = answer.read().decode()
    assert time.monotonic() - began - head_after > 0.5, "the head came with the first item"
    assert text.startswith(":\n\ndata: {")
    assert text.endswith("\n\n: end\n\n")
    with raw.stream(
        "POST", "/v1/streaming-tasks", params=query, json=body, headers={"Openlaunch-Resume": "true"}
    ) as answer:
        events = answer.read().decode().split("\n\n")
    assert events[-2].splitlines()[1:] == ["event: end", "data: {}"]


def test_the_pages_of_the_api_name_no_other_host(raw, client, endpoint):
    for page in ("/docs", "/redoc", "/v1/model-endpoints-api?name=echo"):
        answer = raw.get(page)
        assert answer.headers["content-type"].startswith("text/html")
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        parts = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
        for part in [part for part in parts if not part.startswith("data:")]:
            found = raw.get(answer.url.join(part))
            assert (part, found.status_code) == (part, 200)
            if "openapi" not in part and "schema" not in part:
                assert not re.search(r"https?:|//\w+\.", found.text), part
        assert not re.search(r"https?:|<script>|style=", answer.text)
    document = raw.get("/v1/model-endpoints-schema.json?name=echo").json()
    ((_path, operation),) = document["paths"].items()
    assert operation["post"]["summary"].startswith("echo")

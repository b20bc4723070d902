"""Bundles that are a command which serves HTTP."""

import os
import signal
import socketserver
import threading
from http.server import SimpleHTTPRequestHandler

import httpx2
import pytest
from model_server import model_server
from server_driver import SMALL, args, eventually, http, is_alive, running, send_signal

from openlaunch import EndpointRequest
from openlaunch.errors import EndpointFailed, Unprocessable

DO_POST = """
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Type"] != "application/json":
            return self.answer(200, json.dumps(len(body)).encode())
        given = json.loads(body)
        if given.get("exit"):
            os._exit(7)
        if self.path == "/stream":
            return self.stream(given["n"])
        if given.get("wait"):
            select.select([self.connection], [], [], 30)
            Handler.left += self.connection.recv(1) == b""
            return
        if given.get("left"):
            return self.answer(200, json.dumps(Handler.left).encode())
        if given.get("fail"):
            return self.answer(418, b"I am a teapot")
        if given.get("plain"):
            return self.answer(200, b"no json")
        worker = os.path.dirname(os.path.dirname(os.getcwd()))
        me = {"pid": f"{os.getcwd()}:{os.getpid()}", "ppid": f"{worker}:{os.getppid()}"}
        seen = {"given": given, **me, "env": os.environ.get("GREETING")}
        self.answer(200, json.dumps({**seen, "connections": Handler.connections, "python": sys.prefix}).encode())
"""
SERVER = model_server(DO_POST)
FRAIL = model_server("""
    import threading
    lock = threading.Lock()
    status = 200

    def do_GET(self):
        with Handler.lock:
            self.answer(Handler.status, b"")

    def do_POST(self):
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Handler.status = given.get("status", Handler.status)
        with Handler.lock:
            time.sleep(given.get("seconds", 0))
        worker = os.path.dirname(os.path.dirname(os.getcwd()))
        self.answer(200, json.dumps(f"{worker}:{os.getpid()}").encode())
""")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    (folder / "app").mkdir()
    (folder / "app" / "server.py").write_text(SERVER)
    (folder / "app" / "frail.py").write_text(FRAIL)
    return folder


@pytest.fixture(scope="module")
def client(folder):
    with running(scale_down_seconds=1) as client, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield client


def bundle(client, name, command=("python", "app/server.py"), **options):
    options = {"base_paths": ["app"], "env": {"GREETING": "hällo"}, **options}
    return client.create_model_bundle_from_command(model_bundle_name=name, command=list(command), **options)


def endpoint(client, name, kind="sync", made=None, **options):
    made = made or bundle(client, name)
    target = client.create_model_endpoint(
        endpoint_name=name, model_bundle=made, endpoint_type=kind, **{**SMALL, "per_worker": 2, **options}
    )
    return target.wait_until_ready(60)


@pytest.fixture(scope="module")
def served(client):
    return endpoint(client, "served")


def test_args_go_to_the_command_and_its_json_comes_back(served):
    value = served.predict(args(x=1)).value
    assert value["given"] == {"x": 1}
    assert value["env"] == "hällo"


def test_connections_are_kept(served):
    before = served.predict(args()).value["connections"]
    for _ in range(20):
        after = served.predict(args()).value["connections"]
    assert after <= before + 2  # one for each slot


def test_an_error_of_the_command_is_a_failure_with_its_text(served):
    response = served.predict(args(fail=True))
    assert response.status == "FAILURE"
    assert response.traceback == "POST /predict of the command answered 418: I am a teapot"


def test_an_answer_that_is_no_json_is_text(served):
    assert served.predict(args(plain=True)).value == "no json"


def test_the_bytes_of_a_url_are_posted(served):
    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"12345")

        def log_message(self, *args):
            pass

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as files:
        thread = threading.Thread(target=files.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{files.server_address[1]}/"
        assert served.predict(EndpointRequest(url=url)).value == 5
        files.shutdown()
        thread.join()


def test_a_streaming_endpoint_gives_the_events_as_items(client, served):
    made = client.get_latest_model_bundle_v2("served")
    streaming = endpoint(client, "streamed", "streaming", made)
    assert [item.value for item in streaming.predict(args(n=3))] == [{"i": 0}, {"i": 1}, {"i": 2}]
    client.delete_model_endpoint(streaming)


def test_a_command_sees_that_its_client_has_gone(client, served):
    before = served.predict(args(left=True)).value
    with http(client) as raw, pytest.raises(httpx2.ReadTimeout):
        raw.post(
            "/v1/sync-tasks",
            params={"model_endpoint_id": served.model_endpoint.id},
            json={"args": {"wait": True}},
            timeout=0.3,
        )
    eventually(lambda: served.predict(args(left=True)).value == before + 1)
    pid = served.predict(args()).value["pid"]
    assert served.predict(args(plain=True)).value == "no json"
    assert served.predict(args()).value["pid"] == pid


def test_a_command_that_ends_takes_its_worker_with_it_and_both_come_again(client, served):
    before = served.predict(args()).value
    assert served.predict(args()).value["pid"] == before["pid"]
    send_signal(before["pid"], signal.SIGKILL)
    eventually(lambda: not is_alive(before["ppid"]))

    def again():
        try:
            return served.predict(args()).value
        except Exception:
            return None

    assert eventually(again)["pid"] != before["pid"]


def test_a_worker_that_is_killed_takes_its_command_with_it(client, served):
    before = served.predict(args()).value
    send_signal(before["ppid"], signal.SIGKILL)
    eventually(lambda: not is_alive(before["pid"]))


def test_nothing_is_left_when_the_endpoint_is_deleted(client):
    target = endpoint(client, "deleted")
    pid = target.predict(args()).value["pid"]
    client.delete_model_endpoint(target)
    eventually(lambda: not is_alive(pid))


def test_nothing_is_left_when_the_server_is_killed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    with running() as client:
        pid = endpoint(client, "orphan").predict(args()).value["pid"]
        os.kill(client.server.pid, signal.SIGKILL)
        eventually(lambda: not is_alive(pid), 5)


@pytest.mark.parametrize(
    ("command", "options", "reason"),
    [
        (["no-such-program"], {}, "exited with code 127 before it was ready: a program was not found"),
        (
            ["python", "-c", "raise SystemExit(3)"],
            {},
            "exited with code 3 before it was ready; it printed nothing",
        ),
        (
            ["python", "-c", "print('loading'); raise SystemExit('no such weights')"],
            {},
            "exited with code 1 before it was ready; it printed last: loading | no such weights",
        ),
        (
            ["python", "-c", "import time; time.sleep(60)"],
            {"readiness_initial_delay_seconds": 1},
            "GET /readyz had no good answer within 1 s of the start: nothing listens",
        ),
        (
            ["python", "app/server.py"],
            {"readiness_initial_delay_seconds": 3, "healthcheck_route": "/wrong"},
            "GET /wrong had no good answer within 3 s of the start: it answered 404",
        ),
    ],
)
def test_a_command_that_does_not_become_ready_says_why(client, command, options, reason):
    made = bundle(client, "broken", command, **options)
    with pytest.raises(EndpointFailed) as raised:
        endpoint(client, "broken", made=made)
    assert reason in str(raised.value)
    client.delete_model_endpoint("broken")
    eventually(lambda: "broken" not in [e.name for e in client.list_model_endpoints()])


@pytest.mark.parametrize(
    "options",
    [
        {"command": []},
        {"predict_route": "predict"},
        {"predict_route": ""},
        {"healthcheck_route": ""},
        {"readiness_initial_delay_seconds": 0},
    ],
)
def test_what_is_not_allowed_is_refused(client, options):
    with pytest.raises(Unprocessable):
        bundle(client, "refused", **options)


ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = (await receive())["body"] if scope["method"] == "POST" else b"null"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""


@pytest.mark.slow
def test_a_real_server_from_its_own_requirements(client, folder):
    (folder / "asgi").mkdir()
    (folder / "asgi" / "echo.py").write_text(ASGI)
    command = ("uvicorn", "asgi.echo:app", "--port", "$PORT", "--lifespan", "off", "--log-level", "warning")
    made = bundle(client, "uvicorn", command, base_paths=["asgi"], requirements=["uvicorn"])
    target = endpoint(client, "uvicorn", "async", made)
    futures = target.predict_many([args(x=n) for n in range(50)])
    assert [future.get(30).value for future in futures] == [{"x": n} for n in range(50)]
    client.delete_model_endpoint(target)


def test_launchs_client_finds_it_by_its_name_and_is_not_shown_what_it_can_not_read(client, served):
    with http(client) as raw:
        names = [b["name"] for b in raw.get("/v2/model-bundles").json()["model_bundles"]]
        found = raw.get("/v1/model-bundles/latest", params={"model_name": "served"}).json()
    assert "served" not in names
    assert found["id"] == client.get_latest_model_bundle_v2("served").id
    assert "served" in [b.name for b in client.list_model_bundles()]


def test_a_command_has_no_config_to_change(client, served):
    with pytest.raises(Unprocessable, match="is a command"):
        client.clone_model_bundle_with_changes("served", {"a": 1})


def test_a_command_may_have_no_files(client):
    code = SERVER
    made = bundle(client, "no-files", ("python", "-c", code), base_paths=None)
    target = endpoint(client, "no-files", made=made)
    assert target.predict(args(x=2)).value["given"] == {"x": 2}
    assert client.get_latest_model_bundle_v2("no-files").flavor.location == ""
    client.delete_model_endpoint(target)


def test_a_command_whose_health_route_goes_bad_is_replaced_and_one_that_is_busy_is_not(client):
    made = bundle(client, "frail", command=("python", "app/frail.py"))
    soon = {"max_workers": 1, "health_interval": 0.1, "health_timeout": 0.3}
    frail = endpoint(client, "frail", made=made, **soon)
    first = frail.predict(args()).value
    assert frail.predict(args(seconds=1.5)).value == first
    assert frail.predict(args(status=503)).value == first
    eventually(lambda: frail.predict(args()).value != first)

    def said():
        events = client.list_endpoint_events("frail").events
        return [each.message for each in events if each.kind == "worker_unhealthy"]

    eventually(lambda: ["GET /readyz answered 503" in message for message in said()] == [True])


def test_a_command_is_replaced_after_its_number_of_requests_and_none_is_refused(client, served):
    made = client.get_latest_model_bundle_v2("served")
    worn = endpoint(client, "worn", made=made, max_workers=1, per_worker=1, max_requests_per_worker=3)
    answered = []

    def has_been_replaced():
        answered.append(worn.predict(args()).value["pid"])
        return len(set(answered)) >= 3

    eventually(has_been_replaced)
    assert answered.count(answered[0]) >= 3
    eventually(lambda: "it has had 3 requests" in str(client.list_endpoint_events("worn").events))

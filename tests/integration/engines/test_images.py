"""Bundles that are container images, with real containers where they can be started."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from container_driver import IMAGE, PYTHON
from http_service import http_service
from hub_driver import Hub
from model_server import model_server
from server_driver import SMALL, args, eventually, http, is_alive, running

from openlaunch.errors import EndpointFailed, Unprocessable

pytestmark = pytest.mark.slow

DO_POST = """
    def do_POST(self):
        given = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if given.get("exit"):
            os._exit(7)
        if self.path == "/stream":
            return self.stream(given["n"])
        limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        limit = [open(path).read().strip() for path in limits if os.path.exists(path)]
        seen = {"given": given, "route": self.path, "env": os.environ.get("GREETING"), "limit": limit}
        self.answer(200, json.dumps({**seen, "host": socket.gethostname(), "pid": os.getpid()}).encode())
"""
SERVER = model_server(DO_POST, "0.0.0.0")
COMMAND = [PYTHON, "-c", SERVER]


@pytest.fixture(scope="module")
def client(engine):
    with running(scale_down_seconds=1, **engine.settings()) as client:
        yield client


def bundle(client, name, command=COMMAND, **options):
    options = {"env": {"GREETING": "hällo"}, "readiness_initial_delay_seconds": 20, **options}
    return client.create_model_bundle_from_runnable_image_v2(
        model_bundle_name=name, repository=IMAGE[0], tag=IMAGE[1], command=command, **options
    )


def endpoint(client, name, kind="sync", made=None, **options):
    target = client.create_model_endpoint(
        endpoint_name=name,
        model_bundle=made or bundle(client, name),
        endpoint_type=kind,
        **{**SMALL, **options},
    )
    return target.wait_until_ready(60)


def container_of(engine, target):
    names = [name for name in engine.names() if target.model_endpoint.id in name]
    return names[0] if names else None


def guard_of(name):
    """The process that runs the container; its parent is the worker."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if name.encode() in command and b"run" in command:
                return parent_of(int(process.name))
    raise AssertionError(f"nothing runs {name}")


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture(scope="module")
def served(client):
    return endpoint(client, "served", per_worker=2, memory="96Mi")


def test_args_go_into_the_container_and_its_json_comes_back(served):
    value = served.predict(args(x=1)).value
    assert value["given"] == {"x": 1}
    assert value["route"] == "/predict"
    assert value["env"] == "hällo"


def test_it_runs_in_a_container_of_its_own(engine, served):
    engine.needs_real()
    assert served.predict(args()).value["pid"] == 1


def test_memory_of_the_endpoint_is_the_containers_limit(engine, served):
    engine.needs_real()
    assert served.predict(args()).value["limit"] == [str(96 * 1024 * 1024)]


def test_an_image_may_serve_async_endpoints(client, served):
    target = endpoint(client, "queued", "async", client.get_latest_model_bundle_v2("served"))
    futures = target.predict_many([args(x=n) for n in range(10)])
    assert [future.get(30).value["given"]["x"] for future in futures] == list(range(10))
    client.delete_model_endpoint(target)


def test_a_streaming_endpoint_runs_the_streaming_command(client):
    made = client.create_model_bundle_from_streaming_enhanced_runnable_image_v2(
        model_bundle_name="streamed",
        repository=IMAGE[0],
        tag=IMAGE[1],
        command=["/no-such-program"],
        streaming_command=COMMAND,
    )
    target = endpoint(client, "streamed", "streaming", made)
    assert [item.value for item in target.predict(args(n=3))] == [{"i": 0}, {"i": 1}, {"i": 2}]
    client.delete_model_endpoint(target)


def test_an_image_that_does_not_stream_is_refused_for_a_streaming_endpoint(client, served):
    with pytest.raises(Unprocessable, match="is a runnable_image, which does not stream"):
        endpoint(client, "refused", "streaming", client.get_latest_model_bundle_v2("served"))


def test_a_request_may_name_one_of_the_bundles_further_routes(client):
    target = endpoint(client, "routed", made=bundle(client, "routed", extra_routes=["/v1/other"]))
    url = f"/v1/sync-tasks?model_endpoint_id={target.model_endpoint.id}"
    with http(client) as raw:
        good = raw.post(url, json={"args": {"x": 1}, "destination_path": "/v1/other"}).json()
        bad = raw.post(url, json={"args": {"x": 1}, "destination_path": "/v1/wrong"}).json()
    assert '"route": "/v1/other"' in good["result"]["result"]
    assert bad["status"] == "FAILURE"
    assert "destination_path is '/v1/wrong', the bundle's routes are /predict, /v1/other" in bad["traceback"]
    client.delete_model_endpoint(target)


def test_what_a_container_prints_is_in_the_log(client, served):
    assert "serving on " in client.read_endpoint_logs("served")


def test_a_container_that_ends_is_started_again(served, engine):
    before = container_of(engine, served)
    assert served.predict(args(exit=True)).status == "FAILURE"
    eventually(lambda: container_of(engine, served) not in (None, before))
    eventually(lambda: served.predict(args(x=2)).value["given"] == {"x": 2})


def test_a_worker_that_is_killed_takes_its_container_with_it(client, served, engine):
    before = eventually(lambda: container_of(engine, served))
    os.kill(parent_of(guard_of(before)), signal.SIGKILL)
    eventually(lambda: before not in engine.names())


def test_nothing_is_left_when_the_endpoint_is_deleted(client, engine):
    target = endpoint(client, "deleted")
    assert container_of(engine, target)
    client.delete_model_endpoint(target)
    eventually(lambda: container_of(engine, target) is None)


def test_nothing_is_left_when_the_server_is_killed(engine):
    with running(**engine.settings()) as client:
        target = endpoint(client, "orphan")
        os.kill(client.server.pid, signal.SIGKILL)
        eventually(lambda: container_of(engine, target) is None)


def test_what_a_killed_guard_left_is_removed_by_the_next_server(engine, tmp_path):
    with running(tmp_path, **engine.settings()) as client:
        target = endpoint(client, "left")
        name = container_of(engine, target)
        guard = guard_of(name)
        worker = parent_of(guard)
        os.kill(guard, signal.SIGSTOP)
        os.kill(client.server.pid, signal.SIGKILL)
        eventually(lambda: not is_alive(worker))
        os.kill(guard, signal.SIGKILL)
    assert name in engine.names()
    with running(tmp_path, **engine.settings()) as client:
        eventually(lambda: name not in engine.names())
        assert client.get_model_endpoint("left").wait_until_ready(60).predict(args(x=1)).value["given"] == {
            "x": 1
        }


@pytest.mark.parametrize(
    ("command", "options", "reason"),
    [
        (["/no-such-program"], {}, "the container exited with code 127 before it was ready"),
        ([PYTHON, "-c", "raise SystemExit(3)"], {}, "the container exited with code 3 before it was ready"),
        (
            [PYTHON, "-c", "import time; time.sleep(60)"],
            {"readiness_initial_delay_seconds": 1},
            "GET /readyz had no good answer within 1 s of the start",
        ),
        (
            COMMAND,
            {"readiness_initial_delay_seconds": 5, "healthcheck_route": "/wrong"},
            "GET /wrong had no good answer within 5 s of the start: it answered 404",
        ),
    ],
)
def test_a_container_that_does_not_become_ready_says_why(client, engine, command, options, reason):
    made = bundle(client, "broken", command, **options)
    with pytest.raises(EndpointFailed) as raised:
        endpoint(client, "broken", made=made)
    assert reason in str(raised.value)
    target = client.get_model_endpoint("broken")
    client.delete_model_endpoint("broken")
    eventually(lambda: "broken" not in [e.name for e in client.list_model_endpoints()])
    eventually(lambda: container_of(engine, target) is None)


def test_an_image_that_is_not_there_says_so(client):
    made = client.create_model_bundle_from_runnable_image_v2(
        model_bundle_name="none", repository="127.0.0.1:9/none", tag="1", command=["x"]
    )
    with pytest.raises(EndpointFailed, match=r"the image '127\.0\.0\.1:9/none:1' can't be fetched"):
        endpoint(client, "none", made=made)
    client.delete_model_endpoint("none")


@pytest.mark.parametrize(
    "options",
    [
        {"command": []},
        {"predict_route": "predict"},
        {"predict_route": ""},
        {"healthcheck_route": ""},
        {"readiness_initial_delay_seconds": 0},
        {"tag": "--privileged"},
        {"repository": "-v=/:/host"},
    ],
)
def test_what_is_not_allowed_is_refused(client, options):
    options = {"repository": IMAGE[0], "tag": IMAGE[1], "command": ["x"], **options}
    with pytest.raises(Unprocessable):
        client.create_model_bundle_from_runnable_image_v2(model_bundle_name="refused", **options)


TRITON = """
import http.server, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        if self.path == "/config":
            self.wfile.write(open(sys.argv[1].partition("=")[2] + "/net/config.pbtxt", "rb").read())

http.server.HTTPServer(("", 8000), Handler).serve_forever()
"""
BESIDE = """
import http.server, json, os, urllib.request

class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        self.do_GET()
        with urllib.request.urlopen("http://localhost:8000/config") as config:
            self.wfile.write(json.dumps(config.read().decode()).encode())

http.server.HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def triton(engine, tmp_path_factory):
    """A client of a server that has an image in Triton's place, and a model repository."""
    engine.needs_real()
    models = tmp_path_factory.mktemp("models")
    (models / "repository" / "net").mkdir(parents=True)
    (models / "repository" / "net" / "config.pbtxt").write_text('name: "net"\n')
    image = engine.build("triton", {"tritonserver": f"#!{PYTHON}\n{TRITON}"})
    with running(**engine.settings(), triton_image=image, model_repositories=models) as client:
        yield client


def triton_endpoint(client, name, replicas=None, repository="repository", **options):
    made = client.create_model_bundle_from_triton_enhanced_runnable_image_v2(
        model_bundle_name=name,
        repository=IMAGE[0],
        tag=IMAGE[1],
        command=[PYTHON, "-c", BESIDE],
        triton_model_repository=repository,
        triton_model_replicas=replicas,
        triton_num_cpu=0.1,
        triton_memory="64Mi",
        triton_commit_tag="triton",
    )
    settings = {"cpus": 0.2, "memory": "128Mi", **options}
    return client.create_model_endpoint(endpoint_name=name, model_bundle=made, **settings).wait_until_ready(
        30
    )


def test_an_image_reaches_triton_beside_it_with_the_models_and_their_replicas(triton, engine):
    target = triton_endpoint(triton, "beside", {"net": "2"})
    assert target.predict(args()).value == 'name: "net"\n\ninstance_group [ { count: 2 } ]\n'
    triton.delete_model_endpoint(target)
    eventually(lambda: container_of(engine, target) is None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"replicas": {"other": "2"}}, "names 'other', which has no config.pbtxt"),
        ({"repository": "../.."}, "is not a folder below the server's model repositories"),
        ({"cpus": 0.1}, "Triton's part of a worker is 0.1 cpus"),
    ],
)
def test_what_triton_can_not_have_is_said(triton, options, reason):
    with pytest.raises(EndpointFailed, match=reason):
        triton_endpoint(triton, "wrong", **options)
    triton.delete_model_endpoint("wrong")
    eventually(lambda: "wrong" not in [e.name for e in triton.list_model_endpoints()])


def test_a_forwarder_that_is_not_served_is_refused(client):
    flavor = {
        "flavor": "runnable_image",
        "repository": IMAGE[0],
        "tag": IMAGE[1],
        "command": ["x"],
        "protocol": "http",
        "forwarder_type": "passthrough",
    }
    with http(client) as raw:
        answer = raw.post(
            "/v2/model-bundles", json={"name": "refused", "schema_location": "", "flavor": flavor}
        )
    assert answer.status_code == 422
    assert "no other than 'default' is served" in answer.text


def test_a_container_sees_what_was_prefetched_and_cannot_change_it(client, engine):
    engine.needs_real()
    post = """
    def do_POST(self):
        cache = os.environ["OPENLAUNCH_CACHE"]
        names = [name for _, _, files in os.walk(cache) for name in files]
        try:
            open(cache + "/mine", "w").close()
        except OSError:
            names.append("read-only")
        self.answer(200, json.dumps({"names": names, "hub": os.environ["HF_HOME"]}).encode())
"""
    kind = type("OwnHub", (Hub,), {"seen": [], "files": dict(Hub.files)})
    with http_service(kind) as service:
        url = f"http://127.0.0.1:{service.server_port}/plain/weights.bin"
        command = [PYTHON, "-c", model_server(post, "0.0.0.0")]
        made = bundle(client, "im-prefetch", command)
        target = endpoint(client, "im-prefetch", made=made, prefetch=[url])
        found = target.predict(args()).value
    assert {"weights.bin", "read-only"} <= set(found["names"])
    assert found["hub"] == "/openlaunch/cache/huggingface"

"""`/metrics`: what Prometheus reads of a server, with a key of its own or on a port that only the machine reaches."""

import re
import socket
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as text
from server_driver import SMALL, args, eventually, http, problem, running

from openlaunch import EndpointRequest

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
TEXT_RATHER = "application/openmetrics-text;q=0.4,text/plain;version=0.0.4"


def work(how=""):
    if how == "raise":
        raise LookupError("no such row")
    return how


@pytest.fixture(scope="module")
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def client(tmp_path_factory, port):
    with running(tmp_path_factory.mktemp("prometheus"), metrics_port=port) as client:
        client.deploy(work, name="counted", max_workers=1, per_worker=4, **SMALL)
        client.deploy(work, name="later", endpoint_type="async", max_workers=0, min_workers=0, **SMALL)
        yield client


@pytest.fixture(scope="module")
def key(client):
    return client.create_api_key("admin", "metrics").api_key


def scraped(client, key=None, accept=OPENMETRICS):
    """The samples of a scrape, by name and labels."""
    with http(client, key) as raw:
        answer = raw.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200, answer.text
    is_openmetrics = answer.headers["content-type"].startswith("application/openmetrics-text")
    assert is_openmetrics == (accept is OPENMETRICS)
    families = (openmetrics if is_openmetrics else text)(answer.text)
    samples = [(s.name, frozenset(s.labels.items()), s.value) for f in families for s in f.samples]
    found = {(name, labels): value for name, labels, value in samples}
    assert len(found) == len(samples), "a sample is there twice"
    return found


def of(name, samples, **labels):
    return samples[f"openlaunch_{name}", frozenset(labels.items())]


@pytest.mark.parametrize("accept", [OPENMETRICS, "text/plain", "", TEXT_RATHER])
def test_a_scrape_has_the_numbers_of_endpoints_and_of_the_server(client, key, accept):
    counted = {"endpoint": "counted", "owner": "admin"}
    before = scraped(client, key, accept)
    endpoint = client.get_model_endpoint("counted")
    for how in ("", "", "raise"):
        endpoint.predict(args(how=how))
    with http(client, "ol_wrong") as raw:
        problem(raw.get("/v1/model-endpoints"), 401)
        problem(raw.post("/v1/sync-tasks?model_endpoint_id=counted", json={"args": {}}), 401)
    after = scraped(client, key, accept)

    def grown(name, **labels):
        known = (f"openlaunch_{name}", frozenset(labels.items()))
        return after[known] - before.get(known, 0)

    assert grown("predictions_total", outcome="ok", **counted) == 2
    assert grown("predictions_total", outcome="model_error", **counted) == 1
    assert grown("prediction_duration_seconds_count", **counted) == 3
    assert grown("prediction_duration_seconds_bucket", le="+Inf", **counted) == 3
    assert grown("refused_requests_total", code="unauthorized") == 2
    assert of("workers", after, state="ready", **counted) == 1
    assert of("endpoint_status", after, status="READY", **counted) == 1
    assert of("store_commit_seconds_count", after) > 0 < of("store_commit_operations_sum", after)
    assert of("http_connections", after) >= 1
    assert of("disk_size_bytes", after) >= of("disk_free_bytes", after) > 0
    assert of("leader", after) == 1
    assert eventually(lambda: of("ready", scraped(client, key, accept)) == 1)
    assert after["process_open_fds", frozenset()] > 10
    assert eventually(lambda: of("event_loop_lag_seconds_count", scraped(client, key, accept))) > 0
    labels = {name for _, pairs in after for name, _ in pairs}
    assert labels <= {
        "endpoint",
        "owner",
        "outcome",
        "status",
        "state",
        "code",
        "kind",
        "part",
        "reason",
        "le",
        "version",
    }


def test_the_queue_and_callbacks_are_shown_as_they_stand(client, key):
    later = {"endpoint": "later", "owner": "admin"}
    with socket.socket() as closed:  # bound, and listens to nobody
        closed.bind(("127.0.0.1", 0))
        endpoint = client.get_model_endpoint("later")
        task = endpoint.predict(
            EndpointRequest(args={}, callback_url=f"http://127.0.0.1:{closed.getsockname()[1]}/")
        )
        samples = eventually(
            lambda: (s := scraped(client, key)) and of("queue_oldest_task_seconds", s, **later) > 0 and s
        )
        assert of("queue_tasks", samples, **later) == of("predictions_waiting", samples, **later) == 1
        assert of("tasks_submitted_total", samples, **later) == 1
        task.cancel()
        samples = eventually(
            lambda: (s := scraped(client, key)) and of("callback_attempts_total", s, outcome="failed") and s
        )
    assert of("callbacks_pending", samples) == 1
    assert of("queue_oldest_task_seconds", samples, **later) == 0
    eventually(lambda: of("queue_tasks", scraped(client, key), **later) == 0)


def test_the_alerts_and_the_dashboard_name_what_there_is(client, key):
    with http(client, key) as raw:
        there = set(re.findall(r"^# TYPE (\w+)", raw.get("/metrics").text, re.MULTILINE))
    monitoring = Path(__file__).parents[3] / "docs/monitoring"
    for name in ("alerts.yaml", "dashboard.json"):
        asked = set(re.findall(r"\b(?:openlaunch|process)_\w+", (monitoring / name).read_text()))
        known = {each for each in asked if {each, re.sub("_(bucket|sum|count)$", "", each)} & there}
        assert {each for each in asked - known if "_gpu_" not in each} == set(), name


def test_the_documentation_has_each_metric_and_no_other(client, key):
    with http(client, key) as raw:
        there = set(re.findall(r"^# TYPE (\w+)", raw.get("/metrics").text, re.MULTILINE))
    page = (Path(__file__).parents[3] / "docs/how-to/watch-with-prometheus.md").read_text()
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", page, re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"\w+", row)}
    assert {each for each in there if not each.startswith("process_")} <= documented
    assert {each for each in documented - there if not each.startswith("openlaunch_gpu_")} == set()


def test_only_admins_and_keys_for_it_scrape(client, key):
    assert scraped(client)
    for role in ("user", "predict"):
        with http(client, client.create_api_key("admin", role).api_key) as raw:
            assert f"yours has the role {role}" in problem(raw.get("/metrics"), 403)["detail"]
    with http(client, key) as raw:
        raw.auth = None
        problem(raw.get("/metrics"), 401)
        assert raw.get("/metrics", headers={"x-api-key": key}).status_code == 200


def test_a_key_for_scrapes_does_nothing_else(client, key):
    with http(client, key) as raw:
        for path in ("/v1/model-endpoints", "/v1/metrics", "/v1/whoami", "/v1/keys", "/v1/async-tasks/x"):
            assert "reads /metrics alone" in problem(raw.get(path), 403)["detail"]
        predict = raw.post("/v1/sync-tasks?model_endpoint_id=counted", json={"args": {}})
        assert "reads /metrics alone" in problem(predict, 403)["detail"]
        problem(raw.post("/e/counted", json={}), 403)
        problem(raw.post("/page/links"), 403)
        signs_in = raw.post("/page/sign-in", json={"key": key}, headers={"x-openlaunch-page": "1"}, auth=None)
        problem(signs_in, 403)


def test_the_port_of_its_own_has_the_metrics_and_nothing_else(client, port):
    with http(client) as raw:
        raw.auth = None
        base = f"http://127.0.0.1:{port}"
        assert b"openlaunch_predictions_total" in raw.get(f"{base}/metrics").content
        for path in (
            "/",
            "/healthz",
            "/v1/model-endpoints",
            "/v1/sync-tasks",
            "/metrics/",
            "/metrics?owner=*",
        ):
            answer = raw.get(base + path)
            assert answer.status_code in (403, 404), path
            assert b"openlaunch_" not in answer.content


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *[(host, 200) for host in ("127.0.0.1", "127.0.0.1:9464", "localhost:9464", "[::1]:9464")],
        *[
            (host, 403)
            for host in ("evil.example", "evil.example:9464", "localhost.evil.example", "127.0.0.1.evil")
        ],
    ],
)
def test_a_name_of_another_page_that_leads_to_the_port_reads_nothing(client, port, host, status):
    with http(client) as raw:
        raw.auth = None
        answer = raw.get(f"http://127.0.0.1:{port}/metrics", headers={"host": host})
    assert (answer.status_code, b"openlaunch_" in answer.content) == (status, status == 200)


def test_a_path_below_is_not_found_and_another_method_not_allowed(client):
    with http(client) as raw:
        missing = problem(raw.get("/metrics/predictions"), 404)
        assert missing["detail"] == "nothing is served at GET /metrics/predictions; /docs shows what is"
        twice = problem(raw.get("/v1/v1/whoami"), 404)
        assert twice["detail"] == "nothing is served at GET /v1/v1/whoami; leave /v1 out of the server's URL"
        problem(raw.post("/metrics"), 405)
        problem(raw.get("/metrics", headers={"accept": "image/png"}), 406)

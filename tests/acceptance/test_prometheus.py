"""A real Prometheus reads a server: its queries give what happened, and its alerts fire when a model fails."""

import json
import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from server_driver import SMALL, args, eventually, http, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("prometheus") and shutil.which("promtool")),
        reason="Prometheus is not installed: tools/install.sh prometheus, or your system's package",
    ),
]

MONITORING = Path(__file__).parents[2] / "docs/monitoring"
CONFIG = """
global: {{ scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 1s }}
rule_files: [{rules}]
scrape_configs:
  - job_name: openlaunch
    authorization: {{ credentials_file: {key} }}
    static_configs: [{{ targets: ["{target}"] }}]
"""


def work(how="", seconds=0):
    time.sleep(seconds)
    if how == "raise":
        raise LookupError("no such row")
    return how


def dashboard():
    """The expressions of the dashboard, with its variables set as somebody does who looks at all."""
    panels = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [
        e.replace("$__rate_interval", "1m").replace("$endpoint", ".*").replace("$owner", ".*") for e in found
    ]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with running(tmp_path_factory.mktemp("server")) as client:
        client.deploy(work, name="counted", max_workers=1, per_worker=4, **SMALL)
        yield client


@pytest.fixture(scope="module")
def prometheus(client, tmp_path_factory):
    """A Prometheus that reads the server every two seconds, and waits for nothing before an alert fires."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "key").write_text(client.create_api_key("admin", "metrics").api_key)
    rules = re.sub(r"for: \w+", "for: 1s", (MONITORING / "alerts.yaml").read_text())
    (folder / "rules.yaml").write_text(rules)
    target = client.server.url.removeprefix("http://")
    config = CONFIG.format(rules=folder / "rules.yaml", key=folder / "key", target=target)
    (folder / "prometheus.yaml").write_text(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
    )
    try:
        with httpx2.Client(base_url=f"http://{address}", timeout=60) as raw:
            eventually(lambda: is_ready(raw))
            yield raw
    finally:
        process.terminate()
        process.wait()


def is_ready(raw):
    try:
        return raw.get("/-/ready").status_code == 200
    except httpx2.TransportError:
        return False


def query(prometheus, expression):
    answer = prometheus.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", (expression, answer)
    return [(each["metric"], float(each["value"][1])) for each in answer["data"]["result"]]


def test_the_rules_are_right_by_promtool():
    checked = subprocess.run(
        ["promtool", "check", "rules", MONITORING / "alerts.yaml"], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    assert "9 rules found" in checked.stdout


def test_what_a_scrape_has_is_linted_by_promtool(client):
    scraped = httpx2.get(f"{client.server.url}/metrics", auth=(client.server.api_key, ""), timeout=60)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=scraped.text, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_queries_return_what_happened(client, prometheus):
    endpoint = client.get_model_endpoint("counted")
    for how in ("", "", "", "raise"):
        endpoint.predict(args(how=how))
    of = 'endpoint="counted",owner="admin"'

    def value(name, more=""):
        return [found for _, found in query(prometheus, f"openlaunch_{name}{{{of}{more}}}")]

    eventually(lambda: value("predictions_total", ',outcome="ok"') == [3])
    assert value("predictions_total", ',outcome="model_error"') == [1]
    assert value("prediction_duration_seconds_count") == [4]
    assert value("workers", ',state="ready"') == [1]
    eventually(lambda: query(prometheus, "up == 1") and query(prometheus, "openlaunch_ready == 1"))


def test_the_dashboard_and_the_rules_ask_for_what_there_is(client, prometheus):
    eventually(lambda: query(prometheus, "openlaunch_ready"))
    rules = (MONITORING / "alerts.yaml").read_text()
    expressions = [*dashboard(), *re.findall(r"expr: (?:\|\n)?(.*?)\n +for:", rules, re.DOTALL)]
    for expression in expressions:
        query(prometheus, expression)
    known = set(prometheus.get("/api/v1/metadata").json()["data"])
    asked = {name for e in expressions for name in re.findall(r"\b(?:openlaunch|process)_\w+", e)}
    plain = {re.sub(r"_(bucket|sum|count|total|info)$", "", name) for name in asked}
    assert len(plain) > 25
    without_gpu = {name for name in plain if "_gpu_" not in name}
    assert without_gpu <= known | {re.sub("_total$", "", name) for name in known}


def firing(prometheus):
    alerts = prometheus.get("/api/v1/alerts").json()["data"]["alerts"]
    return {a["labels"]["alertname"]: a for a in alerts if a["state"] == "firing"}


def test_an_alert_fires_when_a_model_fails(client, prometheus):
    endpoint = client.get_model_endpoint("counted")

    def failing():
        endpoint.predict(args(how="raise"))
        return firing(prometheus).get("OpenlaunchEndpointFailing")

    alert = eventually(failing)
    assert (alert["labels"]["endpoint"], alert["labels"]["owner"]) == ("counted", "admin")
    assert "% of the predictions of admin/counted fail" in alert["annotations"]["summary"]

    def in_trouble():
        return failing() and firing(prometheus).get("OpenlaunchEndpointTrouble")

    labels = eventually(in_trouble)["labels"]
    assert (labels["endpoint"], labels["owner"], labels["kind"]) == ("counted", "admin", "failures_began")
    assert not {"OpenlaunchCrashLoop", "OpenlaunchQueueOld", "OpenlaunchWaitsLong"} & set(firing(prometheus))


def test_an_alert_fires_when_predictions_wait_for_long(client, prometheus):
    endpoint = client.deploy(work, name="slow", max_workers=1, per_worker=1, **SMALL)
    path = f"/v1/sync-tasks?model_endpoint_id={endpoint.model_endpoint.id}"

    def waiting():
        with http(client) as raw, ThreadPoolExecutor(3) as pool:
            for answer in pool.map(lambda _: raw.post(path, json={"args": {"seconds": 1.2}}), range(3)):
                assert answer.status_code == 200
        return firing(prometheus).get("OpenlaunchWaitsLong")

    alert = eventually(waiting)
    assert (alert["labels"]["endpoint"], alert["labels"]["owner"]) == ("slow", "admin")

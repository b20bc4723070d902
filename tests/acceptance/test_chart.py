"""The Helm chart and compose.yaml: rendered by Helm itself, held against Kubernetes' own schemas, and run."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from openlaunch.cli.app import app
from openlaunch.server.settings import Settings

pytestmark = pytest.mark.slow

helm = pytest.importorskip("helm_python", reason="needs the group `chart` of pyproject.toml: make test-slow")
kubernetes_validate = pytest.importorskip("kubernetes_validate")
jsonschema = pytest.importorskip("jsonschema")

DEPLOY = Path(__file__).parents[2] / "deploy"
SCHEMA = Path(__file__).parents[1] / "data/raycluster_schema.json"
"""KubeRay's own, reduced to what is used here."""
CHART = DEPLOY / "chart"
NEEDED = {"store": {"secret": "postgres"}, "artifacts": "s3://bucket/x", "cluster": {"secret": "cluster"}}
EVERYTHING = {
    **NEEDED,
    "artifactsSecret": "bucket",
    "image": {"repository": "registry.example/openlaunch", "pullSecrets": [{"name": "registry"}]},
    "servers": {
        "replicas": 3,
        "maxReplicas": 6,
        "env": {"OPENLAUNCH_TASK_MAX_ATTEMPTS": 5},
        "nodeSelector": {"pool": "web"},
        "tolerations": [{"key": "web", "operator": "Exists"}],
    },
    "agents": {
        "replicas": 3,
        "isolation": "required",
        "procMount": "Unmasked",
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "disk": {"size": "100Gi", "storageClass": "fast"},
    },
    "ingress": {"enabled": True, "host": "models.example.org", "tlsSecret": "tls", "className": "nginx"},
    "serviceAccount": {"create": False, "name": "openlaunch"},
}


ON_RAY = {
    **EVERYTHING,
    "ray": {"enabled": True, "secret": "ray", "maxReplicas": 5},
}


def _rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm.Chart.load(str(CHART)) as chart:
        texts = chart.render(values, name="demo", namespace="prod")
    documents = [document for text in texts.values() for document in yaml.safe_load_all(text)]
    return [document for document in documents if document is not None]


def _named(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    return next(document for document in documents if document["kind"] == kind)


def _container(document: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = document["spec"]["template"]["spec"]["containers"][0]
    return container


def test_helm_finds_nothing_wrong():
    found = helm.lint(str(CHART))
    assert found["errors"] == []
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("version", ["1.27", "1.33"])
@pytest.mark.parametrize("values", [NEEDED, EVERYTHING, ON_RAY], ids=["needed", "everything", "ray"])
def test_kubernetes_takes_what_is_rendered(values, version):
    documents = _rendered(values)
    nodes = "RayCluster" if values is ON_RAY else "StatefulSet"
    assert {"Deployment", nodes, "PodDisruptionBudget"} <= {each["kind"] for each in documents}
    for document in documents:
        for each in [*_pods(document)] if document["kind"] == "RayCluster" else [document]:
            kubernetes_validate.validate(each, version, strict=True)


def _pods(cluster: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The pods that KubeRay makes of its templates."""
    for group in (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]):
        yield {"apiVersion": "v1", "kind": "Pod", **group["template"]}


def test_kuberay_takes_the_cluster():
    cluster = _named(_rendered(ON_RAY), "RayCluster")
    jsonschema.validate(cluster, json.loads(SCHEMA.read_text()))
    misspelt = {**cluster, "spec": {**cluster["spec"], "rayVersoin": "2"}}
    with pytest.raises(jsonschema.ValidationError, match="rayVersoin"):
        jsonschema.validate(misspelt, json.loads(SCHEMA.read_text()))


def test_ray_has_agents_on_its_pods_and_no_others_are_made():
    documents = _rendered(ON_RAY)
    (group,) = _named(documents, "RayCluster")["spec"]["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (3, 5)
    (worker,) = group["template"]["spec"]["containers"]
    assert {each["name"] for each in worker["env"]} == {
        "RAY_worker_niceness",
        "OPENLAUNCH_PORT",
        "OPENLAUNCH_ISOLATION",
    }
    assert not [each for each in documents if each["kind"] in ("StatefulSet", "NetworkPolicy")]


def test_a_server_is_a_node_of_ray_without_cores_that_dials_the_head_by_its_name():
    documents = _rendered(ON_RAY)
    container = _container(_named(documents, "Deployment"))
    (script,) = container["args"]
    subprocess.run(["sh", "-n", "-c", script], check=True)
    _known(script.partition("exec openlaunch ")[2].split())
    environ = {each["name"]: each.get("value") for each in container["env"]}
    assert environ["RAY_ADDRESS"] == f"{_named(documents, 'RayCluster')['metadata']['name']}-head-svc:6379"


def test_ray_without_a_token_is_refused():
    with pytest.raises(helm.HelmError, match="auth_token"):
        _rendered({**NEEDED, "ray": {"enabled": True}})


@pytest.mark.parametrize("name", ["store", "artifacts", "cluster"])
def test_what_has_no_default_is_asked_for(name):
    with pytest.raises(helm.HelmError, match=name):
        _rendered({key: value for key, value in NEEDED.items() if key != name})


def test_servers_dial_every_agent_by_its_name():
    documents = _rendered(EVERYTHING)
    agents = _named(documents, "StatefulSet")
    arguments = _container(_named(documents, "Deployment"))["args"]
    names = [f"{agents['metadata']['name']}-{number}" for number in range(agents["spec"]["replicas"])]
    hosts = [f"{name}.{agents['spec']['serviceName']}:8001" for name in names]
    assert arguments[arguments.index("--agents") + 1].split(",") == hosts


def test_agents_have_no_database_no_bucket_and_no_key():
    agent = _container(_named(_rendered(EVERYTHING), "StatefulSet"))
    assert "envFrom" not in agent
    assert {each["name"] for each in agent["env"]} == {"OPENLAUNCH_ISOLATION", "OPENLAUNCH_CLUSTER_TOKEN"}


def test_a_new_server_is_ready_before_an_old_one_ends():
    for values in (NEEDED, EVERYTHING):
        documents = _rendered(values)
        roll = _named(documents, "Deployment")["spec"]["strategy"]["rollingUpdate"]
        assert roll == {"maxSurge": 1, "maxUnavailable": 0}
        assert _named(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_servers_are_scaled_by_one_alone():
    """Either the number is given, or an autoscaler has it."""
    assert _named(_rendered(NEEDED), "Deployment")["spec"]["replicas"] == 2
    documents = _rendered(EVERYTHING)
    assert "replicas" not in _named(documents, "Deployment")["spec"]
    scaler = _named(documents, "HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 6)


def test_no_secret_is_a_value_of_the_chart():
    for document in _rendered(EVERYTHING):
        assert document["kind"] != "Secret"


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_the_program_knows_the_commands_and_settings(kind):
    container = _container(_named(_rendered(EVERYTHING), kind))
    _known(container["args"])
    settings = {each["name"] for each in container["env"]} - {"OPENLAUNCH_CLUSTER_TOKEN"}
    assert {name.removeprefix("OPENLAUNCH_").lower() for name in settings} <= set(Settings.model_fields)


def test_the_chart_stays_small():
    assert sum(len(path.read_text().splitlines()) for path in CHART.rglob("*") if path.is_file()) <= 400


def test_the_program_knows_the_commands_of_the_compose_file():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ours = [each["command"] for each in services.values() if each["image"] == "openlaunch"]
    assert len(ours) == 4
    for command in ours:
        _known(command)


def test_with_ray_every_process_is_one_of_the_cluster_and_the_head_is_not_started_again():
    """Killed for good, as a test of the engine does it: what the other services run, they still run."""
    base = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    services = yaml.safe_load((DEPLOY / "compose.ray.yaml").read_text())["services"]
    assert set(services) - set(base) == {"ray-head"}
    assert services["ray-head"]["restart"] == "no"
    for name, each in services.items():
        assert each["environment"]["RAY_AUTH_MODE"] == "token"
        if name.startswith("server"):
            (script,) = each["command"]
            subprocess.run(["sh", "-n", "-c", script], check=True)
            _known(script.partition("exec openlaunch ")[2].split())


def _known(arguments: list[str]) -> None:
    """Fail unless each option is one of the command's."""
    text = CliRunner().invoke(app, [arguments[0], "--help"], env={"COLUMNS": "200"}).stdout
    assert "Usage" in text
    assert [each for each in arguments if each.startswith("--") and each not in text] == []
